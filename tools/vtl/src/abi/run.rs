// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Layout of the run page. Part of [`crate::abi`].

use super::ExitInfo;
use super::assert_layout;

/// State the kernel switches for the lower VTL around an entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct VpState {
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
    /// CR2.
    pub cr2: u64,
    /// IA32_TSC_AUX.
    pub msr_tsc_aux: u64,
    /// Bit 0 WBINVD, bit 1 WBNOINVD before the next entry.
    pub flags: u64,
}

/// L2_ENTER_GUEST_STATE of [ABI TDG.VP.ENTER].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct EnterGuestState {
    /// General registers in x86 register-number order, RSP included.
    pub gps: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    /// Shadow-stack pointer.
    pub ssp: u64,
    /// Requesting virtual interrupt.
    pub rvi: u8,
    /// Servicing virtual interrupt.
    pub svi: u8,
    /// Not read by the TDX module.
    pub reserved: [u8; 6],
}

/// TSC deadline of the lower VTL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TscDeadline {
    /// Absolute virtual TSC value.
    pub deadline: u64,
    /// Bit 0: load `deadline` before the next entry.
    pub update: u8,
    /// Padding.
    pub pad: [u8; 7],
}

/// TDX part of the run page.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TdxVpContext {
    /// Outputs of the last entry.
    pub exit_info: ExitInfo,
    /// Padding.
    pub pad1: [u8; 48],
    /// Switched state.
    pub vp_state: VpState,
    /// Padding.
    pub pad2: [u8; 32],
    /// RCX of the next entry.
    pub entry_rcx: u64,
    /// State the TDX module reads and writes.
    pub guest: EnterGuestState,
    /// TSC deadline.
    pub l2_tsc_deadline: TscDeadline,
    /// Padding.
    pub pad3: [u8; 80],
    /// FXSAVE image.
    pub fx_state: [u8; 512],
    /// Padding.
    pub pad4: [u8; 16],
}

/// The timer of VTL0's APIC, in the run page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ApicTimer {
    /// Value of IA32_TSC_DEADLINE.
    pub deadline: u64,
    /// Vector of its interrupt, or 0.
    pub vector: u8,
    /// Padding.
    pub pad: [u8; 7],
}

/// Where in the run page it is.
pub const RUN_TIMER: usize = 4080;

assert_layout!(ApicTimer, 16, 0 deadline, 8 vector, 9 pad);

/// The run page. Packed so that its size is the ABI's and not rounded up.
#[repr(C, packed(4))]
#[derive(Clone, Copy, Debug)]
pub struct RunPageLayout {
    /// Non-zero: do not enter, return EINTR.
    pub cancel: u32,
    /// Unused on TDX.
    pub vtl_ret_action_size: u32,
    /// Bit 0: halted.
    pub flags: u32,
    /// Kernel: `proxy_irr` has bits.
    pub scan_proxy_irr: u8,
    /// Work the kernel may do on behalf of userspace.
    pub offload_flags: u8,
    /// Padding.
    pub pad: u8,
    /// Scheduling hint.
    pub enter_mode: u8,
    /// Hyper-V message, unused on TDX.
    pub exit_message: [u8; 256],
    /// TDX state.
    pub context: TdxVpContext,
    /// Unused on TDX.
    pub vtl_ret_actions: [u8; 256],
    /// Interrupts that the host or other threads have requested, one bit per vector.
    pub proxy_irr: [u32; 8],
    /// Unused on TDX.
    pub target_vtl: u8,
    /// Padding.
    pub pad2: [u8; 3],
    /// Vectors that stay blocked.
    pub proxy_irr_blocked: [u32; 8],
    /// Vectors that must reach userspace.
    pub proxy_irr_exit_mask: [u32; 8],
}

assert_layout!(
    RunPageLayout, 1652,
    0 cancel, 4 vtl_ret_action_size, 8 flags, 12 scan_proxy_irr, 13 offload_flags,
    14 pad, 15 enter_mode, 16 exit_message, 272 context,
    272 context.exit_info.rax, 280 context.exit_info.rcx, 288 context.exit_info.rdx,
    296 context.exit_info.rsi, 304 context.exit_info.rdi, 312 context.exit_info.r8,
    320 context.exit_info.r9, 328 context.exit_info.r10, 336 context.exit_info.r11,
    344 context.exit_info.r12, 352 context.exit_info.r13,
    408 context.vp_state.msr_kernel_gs_base, 416 context.vp_state.msr_star,
    424 context.vp_state.msr_lstar, 432 context.vp_state.msr_sfmask,
    440 context.vp_state.msr_xss, 448 context.vp_state.cr2,
    456 context.vp_state.msr_tsc_aux, 464 context.vp_state.flags,
    504 context.entry_rcx, 512 context.guest.gps, 640 context.guest.rflags,
    648 context.guest.rip, 656 context.guest.ssp, 664 context.guest.rvi,
    665 context.guest.svi, 672 context.l2_tsc_deadline.deadline,
    680 context.l2_tsc_deadline.update, 768 context.fx_state,
    1296 vtl_ret_actions, 1552 proxy_irr, 1584 target_vtl, 1588 proxy_irr_blocked,
    1620 proxy_irr_exit_mask,
);
