// SPDX-License-Identifier: GPL-2.0
//! What the module reports about itself: a record and a counter for every switch, tracepoints, and
//! events of the control plane.

pub(crate) mod audit;
pub(crate) mod event;
pub(crate) mod stats;
pub(crate) mod trace;
