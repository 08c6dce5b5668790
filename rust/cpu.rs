// SPDX-License-Identifier: GPL-2.0
//! The processor: its features, the registers that lower VTL and VTL2 share, guards that prove what
//! can't happen on it (preemption, interrupts), and TDCALL.

pub(crate) mod debug_regs;
pub(crate) mod features;
pub(crate) mod fpu;
pub(crate) mod guards;
pub(crate) mod measure;
pub(crate) mod mitigation;
pub(crate) mod msr;
pub(crate) mod tdcall;
