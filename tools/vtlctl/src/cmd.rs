// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The commands, one file each.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod boot;
pub(crate) mod manual;
pub(crate) mod mem;
pub(crate) mod probe;
pub(crate) mod regs;
pub(crate) mod reset;
pub(crate) mod run;
pub(crate) mod stats;
pub(crate) mod top;
pub(crate) mod trace;
