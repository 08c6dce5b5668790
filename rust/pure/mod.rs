// SPDX-License-Identifier: GPL-2.0
//! The part of the driver that only computes: what the ABI and the TDX module's specification say,
//! and the decisions that follow from it.
//!
//! Two rules hold in this folder. Nothing in it uses the `kernel` crate, and nothing is `unsafe`:
//! every file compiles twice, into the module and into `tools/checks/vtl_pure`, where the tests at
//! the end of the files run on the host. Most of these tests also run in a kernel with KUnit, whose
//! attribute is the only item of the `kernel` crate that is named here. All functions are total;
//! none panics on any input.
//!
//! TDX numbers here are taken from the specification independently of `tools/tdx_model`, so that a
//! misreading on one side shows up as a disagreement.

pub mod accepted;
pub mod apic;
pub mod attest;
pub mod attest_event;
pub mod audit;
pub mod components;
pub mod controls;
pub mod deadline;
pub mod exit;
pub mod field;
pub mod halt_poll;
pub mod handled;
pub mod hv_call;
pub mod hv_message;
pub mod hv_policy;
pub mod hv_vectors;
pub mod icr;
pub mod intercepts;
pub mod leaf;
pub mod lower;
pub mod mapping;
pub mod measure;
pub mod mitigation;
pub mod msr;
pub mod mtrr;
pub mod next;
pub mod offload;
pub mod passed_msrs;
pub mod place;
pub mod policy;
pub mod ranges;
pub mod registers;
pub mod sleep;
pub mod stall;
pub mod status;
pub mod storm;
pub mod tdcall;
pub mod uapi;
pub mod vmcs_write;
pub mod vp_enter;
pub mod vtl_switch;
pub mod xsave;
