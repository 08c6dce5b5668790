// SPDX-License-Identifier: GPL-2.0
//! What the module reports about itself: a record and a counter for every switch, tracepoints, and
//! events of the control plane; and the attestation of those records to a remote party.

pub(crate) mod attest;
pub(crate) mod attest_control;
pub(crate) mod attest_log;
pub(crate) mod audit;
pub(crate) mod event;
pub(crate) mod stats;
pub(crate) mod trace;
