// SPDX-License-Identifier: GPL-2.0
//! The processor: what it has, its registers that lower VTL and VTL2 share, the guards that prove what it is
//! kept from, and the instruction that calls the TDX module.

pub(crate) mod debug_regs;
pub(crate) mod features;
pub(crate) mod fpu;
pub(crate) mod guards;
pub(crate) mod mitigation;
pub(crate) mod msr;
pub(crate) mod tdcall;
