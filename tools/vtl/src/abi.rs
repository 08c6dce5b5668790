// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The kernel's ABI, mirrored from `include/uapi/linux/mshv_vtl_tdx.h`.
//!
//! Only layouts and numbers, written a second time on purpose: the assertions
//! at the end hold them against the numbers of the ABI text. Nothing here is
//! ever used as a reference to shared memory; [`crate::run_page`] takes the
//! offsets and `sys` the command numbers.

/// Command numbers as the kernel sees them (type 0xb8).
pub mod command {
    /// Asks `/dev/mshv` for a capability; the answer is the return value.
    pub const CHECK_EXTENSION: u32 = 0x4004_b800;
    /// Makes a VTL file; its descriptor is the return value.
    pub const CREATE_VTL: u32 = 0x8001_b81d;
    /// Runs the virtual processor of the current CPU.
    pub const RETURN_TO_LOWER_VTL: u32 = 0x0000_b827;
    /// Executes one permitted TDCALL leaf.
    pub const TDCALL: u32 = 0xc038_b832;
    /// Asks `/dev/mshv` for facts; the number carries the size of the head.
    pub const VTL_INFO: u32 = 0xc008_b860;
    /// Asks `/dev/mshv` for a line of the TDCALL policy; likewise.
    pub const VTL_POLICY: u32 = 0xc008_b862;
    /// Reads the counters of a virtual processor; likewise.
    pub const VTL_STATS: u32 = 0xc008_b861;
    /// Reads the extended state of the lower VTLs.
    pub const VTL_XSAVE_GET: u32 = 0xc018_b863;
    /// Replaces it.
    pub const VTL_XSAVE_SET: u32 = 0x4018_b864;
    /// Makes the current CPU's virtual processor new; the number carries the
    /// size of the head.
    pub const VTL_RESET: u32 = 0x4008_b868;
}

/// Path of the control device.
pub const DEV_MSHV: &str = "/dev/mshv";
/// Path of the device that opens a VTL file directly.
pub const DEV_MSHV_VTL: &str = "/dev/mshv_vtl";
/// Path of the device that maps lower-VTL memory.
pub const DEV_MSHV_VTL_LOW: &str = "/dev/mshv_vtl_low";
/// Path of the device for hypercalls; only where the host is Hyper-V.
pub const DEV_MSHV_HVCALL: &str = "/dev/mshv_hvcall";
/// Path of the device for the host's messages; likewise.
pub const DEV_MSHV_SINT: &str = "/dev/mshv_sint";

/// Bytes of every page that is mapped from a VTL file.
pub const PAGE_LEN: usize = 4096;
/// Mapping kind of the run page.
pub const PAGE_KIND_RUN: u32 = 0;
/// Mapping kind of VTL0's virtual-APIC page.
pub const PAGE_KIND_VAPIC: u32 = 3;
/// Mapping kind of the audit ring.
pub const PAGE_KIND_AUDIT: u32 = 0x10;

/// File offset of the page `kind` of the virtual processor `cpu`.
pub const fn page_offset(kind: u32, cpu: u32) -> u64 {
    // CAST: widening.
    (((kind as u64) << 16) | cpu as u64) * PAGE_LEN as u64
}

/// Operand of [`command::TDCALL`], registers in and out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tdcall {
    /// Leaf in, completion status out.
    pub rax: u64,
    /// RCX in and out.
    pub rcx: u64,
    /// RDX in and out.
    pub rdx: u64,
    /// R8 in and out.
    pub r8: u64,
    /// R9 in and out.
    pub r9: u64,
    /// R10 out.
    pub r10_out: u64,
    /// R11 out.
    pub r11_out: u64,
}

/// Operand of [`command::VTL_XSAVE_GET`] and [`command::VTL_XSAVE_SET`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Xsave {
    /// Bytes of the image; 0 asks for the other two only.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Components of the image.
    pub xfeatures: u64,
    /// Address of the image.
    pub image: u64,
}

/// Registers of [ABI TDG.VP.ENTER] at its return.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitInfo {
    /// Status in the high half, raw exit reason in the low half.
    pub rax: u64,
    /// Exit qualification.
    pub rcx: u64,
    /// Guest linear address.
    pub rdx: u64,
    /// CS selector, access rights and limit.
    pub rsi: u64,
    /// CS base.
    pub rdi: u64,
    /// Guest-physical address.
    pub r8: u64,
    /// Interruption information and its error code.
    pub r9: u64,
    /// IDT-vectoring information and its error code.
    pub r10: u64,
    /// Instruction information (low half) and length (high half).
    pub r11: u64,
    /// Current privilege level in bits 1:0.
    pub r12: u64,
    /// Extended exit qualification.
    pub r13: u64,
}

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
    /// Interrupts asked for by the host.
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

macro_rules! assert_layout {
    ($type:ty, $size:literal, $($offset:literal $($field:ident).+),+ $(,)?) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $($field).+) == $offset);)+
        };
    };
}

assert_layout!(
    Tdcall, 56, 0 rax, 8 rcx, 16 rdx, 24 r8, 32 r9, 40 r10_out, 48 r11_out,
);
assert_layout!(Xsave, 24, 0 size, 4 flags, 8 xfeatures, 16 image);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a command the way the kernel's macros do.
    fn encode(direction: u32, number: u32, size: u32) -> u32 {
        (direction << 30) | (size << 16) | (0xb8 << 8) | number
    }

    #[test]
    fn command_numbers_carry_direction_size_and_number() {
        assert_eq!(command::CHECK_EXTENSION, encode(1, 0x00, 4));
        assert_eq!(command::CREATE_VTL, encode(2, 0x1d, 1));
        assert_eq!(command::RETURN_TO_LOWER_VTL, encode(0, 0x27, 0));
        // CAST: the size is 56.
        assert_eq!(command::TDCALL, encode(3, 0x32, size_of::<Tdcall>() as u32));
        assert_eq!(command::VTL_INFO, encode(3, 0x60, 8));
        assert_eq!(command::VTL_POLICY, encode(3, 0x62, 8));
        assert_eq!(command::VTL_STATS, encode(3, 0x61, 8));
        assert_eq!(command::VTL_XSAVE_GET, encode(3, 0x63, 24));
        assert_eq!(command::VTL_XSAVE_SET, encode(1, 0x64, 24));
    }

    #[test]
    fn page_offsets_put_the_kind_above_the_cpu() {
        assert_eq!(page_offset(PAGE_KIND_RUN, 0), 0);
        assert_eq!(page_offset(PAGE_KIND_RUN, 5), 5 * 4096);
        assert_eq!(page_offset(PAGE_KIND_VAPIC, 1), 0x3_0001 * 4096);
    }
}
