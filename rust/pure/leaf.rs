// SPDX-License-Identifier: GPL-2.0
//! TDCALL leaf numbers, named as the specification names them.

/// TDG.VP.VMCALL: only for calls of the module itself, never for userspace.
pub const TDG_VP_VMCALL: u64 = 0;
/// TDG.MR.RTMR.EXTEND: for the module's own calls, and not for userspace.
pub const TDG_MR_RTMR_EXTEND: u64 = 2;
/// TDG.MR.REPORT: likewise.
pub const TDG_MR_REPORT: u64 = 4;
/// TDG.MEM.PAGE.ACCEPT.
pub const TDG_MEM_PAGE_ACCEPT: u64 = 6;
/// TDG.VM.RD.
pub const TDG_VM_RD: u64 = 7;
/// TDG.VM.WR.
pub const TDG_VM_WR: u64 = 8;
/// TDG.VP.RD.
pub const TDG_VP_RD: u64 = 9;
/// TDG.VP.WR.
pub const TDG_VP_WR: u64 = 10;
/// TDG.SYS.RD.
pub const TDG_SYS_RD: u64 = 11;
/// TDG.MEM.PAGE.ATTR.RD.
pub const TDG_MEM_PAGE_ATTR_RD: u64 = 23;
/// TDG.MEM.PAGE.ATTR.WR.
pub const TDG_MEM_PAGE_ATTR_WR: u64 = 24;
/// TDG.VP.ENTER.
pub const TDG_VP_ENTER: u64 = 25;
/// TDG.VP.INVGLA.
pub const TDG_VP_INVGLA: u64 = 27;
/// TDG.MEM.PAGE.RELEASE; only later TDX modules have it.
pub const TDG_MEM_PAGE_RELEASE: u64 = 30;

/// Version 1 of a leaf, in RAX[23:16]. Only TDG.VM.RD has one.
pub const VERSION_1: u64 = 1 << 16;
