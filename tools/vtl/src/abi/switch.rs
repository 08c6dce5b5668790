// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Switches between VTL0 and VTL1 that the kernel carries out: their set-up, and the page with
//! their state. Part of [`crate::abi`].

use super::assert_layout;

/// Operand of [`super::command::VTL_SWITCH_SETUP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchSetup {
    /// Size of this structure in bytes.
    pub size: u32,
    /// CPU of the virtual processor.
    pub cpu: u32,
    /// Address of VTL1's VP assist page; 0 to end the switches.
    pub assist: u64,
    /// Zero.
    pub flags: u64,
}

impl SwitchSetup {
    // CAST: asserted below.
    pub(crate) const SIZE: u32 = size_of::<Self>() as u32;
}

/// Private state of the VTL that does not run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// RSP.
    pub rsp: u64,
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Shadow-stack pointer.
    pub ssp: u64,
    /// Highest requested vector.
    pub rvi: u8,
    /// Highest vector in service.
    pub svi: u8,
    /// Reasons for a halt, as bits of the offload flags.
    pub halt: u8,
    /// Zero.
    pub reserved1: [u8; 5],
    /// IA32_KERNEL_GS_BASE.
    pub msr_kernel_gs_base: u64,
    /// IA32_STAR.
    pub msr_star: u64,
    /// IA32_LSTAR.
    pub msr_lstar: u64,
    /// IA32_FMASK.
    pub msr_sfmask: u64,
    /// IA32_XSS.
    pub msr_xss: u64,
    /// IA32_TSC_AUX.
    pub msr_tsc_aux: u64,
    /// Zero.
    pub reserved2: [u64; 5],
}

/// Layout of the switch page.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SwitchPageLayout {
    /// What the kernel may handle by itself.
    pub enable: u32,
    /// Padding.
    pub reserved1: u32,
    /// Hint: VM whose state is in the run page.
    pub active_vm: u32,
    /// Why the last call or return was left to userspace.
    pub left: u32,
    /// By VM: a change requests an invalidation.
    pub flush: [u64; 4],
    /// Values of `flush` that were carried out.
    pub flushed: [u64; 4],
    /// Padding.
    pub reserved2: [u64; 22],
    /// Private state of VM 1, then of VM 2.
    pub parked: [Parked; 2],
}

assert_layout!(SwitchSetup, 24, 0 size, 4 cpu, 8 assist, 16 flags);
assert_layout!(
    Parked, 128, 0 rsp, 8 rip, 16 rflags, 24 ssp, 32 rvi, 33 svi, 34 halt, 35 reserved1,
    40 msr_kernel_gs_base, 48 msr_star, 56 msr_lstar, 64 msr_sfmask, 72 msr_xss,
    80 msr_tsc_aux, 88 reserved2,
);
assert_layout!(
    SwitchPageLayout, 512, 0 enable, 4 reserved1, 8 active_vm, 12 left, 16 flush, 48 flushed,
    80 reserved2, 256 parked,
);
