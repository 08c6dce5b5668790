// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The kernel's ABI, mirrored from `include/uapi/linux/mshv_vtl_tdx.h`.
//!
//! Only layouts and numbers, written a second time on purpose: assertions compare them with the
//! numbers in the ABI text. Nothing here is ever used as a reference to shared memory;
//! [`crate::run_page`] uses the offsets and `sys` the command numbers. Most programs need none of
//! it.

pub(crate) mod operands;
mod run;
mod switch;

pub use run::{
    ApicTimer, EnterGuestState, RUN_TIMER, RunPageLayout, TdxVpContext, TscDeadline, VpState,
};
pub use switch::{Parked, SwitchPageLayout, SwitchSetup};

/// Command numbers as the kernel sees them (type 0xb8).
pub mod command {
    /// Queries a capability of `/dev/mshv`; the answer is the return value.
    pub const CHECK_EXTENSION: u32 = 0x4004_b800;
    /// Makes a VTL file; its descriptor is the return value.
    pub const CREATE_VTL: u32 = 0x8001_b81d;
    /// Queries facts from `/dev/mshv`; the number encodes the size of the head only.
    pub const VTL_INFO: u32 = 0xc008_b860;
    /// Queries a line of the TDCALL policy from `/dev/mshv`; encoded likewise.
    pub const VTL_POLICY: u32 = 0xc008_b862;
    /// Runs the virtual processor of the current CPU.
    pub const RETURN_TO_LOWER_VTL: u32 = 0x0000_b827;
    /// Reads registers that all lower VTLs share.
    pub const GET_VP_REGISTERS: u32 = 0xc010_b805;
    /// Writes them.
    pub const SET_VP_REGISTERS: u32 = 0x4010_b806;
    /// Reads the extended state of the lower VTLs.
    pub const VTL_XSAVE_GET: u32 = 0xc018_b863;
    /// Replaces it.
    pub const VTL_XSAVE_SET: u32 = 0x4018_b864;
    /// Has the kernel carry out VTL calls and returns; the number carries the
    /// size of the head.
    pub const VTL_SWITCH_SETUP: u32 = 0x4008_b865;
    /// Makes the current CPU's virtual processor new; the number carries the
    /// size of the head.
    pub const VTL_RESET: u32 = 0x4008_b868;
    /// Has all records so far attested; the number carries the size of the head.
    pub const VTL_AUDIT_CHECKPOINT: u32 = 0xc008_b866;
    /// Reads an event of the attested log, and how that stands; likewise.
    pub const VTL_AUDIT_EVENT: u32 = 0xc008_b867;
    /// Records words of the caller in the control plane; likewise.
    pub const VTL_AUDIT_NOTE: u32 = 0x4008_b869;
    /// Sets the time of the partition, which always fails in a trust domain.
    pub const RESTORE_PARTITION_TIME: u32 = 0x4018_b813;
    /// Makes memory usable for direct I/O.
    pub const ADD_VTL0_MEMORY: u32 = 0x4010_b821;
    /// Has a file cancel runs of a virtual processor when it is readable.
    pub const SET_POLL_FILE: u32 = 0x4008_b825;
    /// Executes one permitted TDCALL leaf.
    pub const TDCALL: u32 = 0xc038_b832;
    /// Returns the bits of CR4 that a lower VTL may set.
    pub const READ_VMX_CR4_FIXED1: u32 = 0x8008_b833;
    /// Brings virtual processors out of lower VTLs.
    pub const KICK_CPUS: u32 = 0x4018_b838;
    /// Maps a device interrupt to a vector of VTL0.
    pub const MAP_REDIRECTED_DEVICE_INTERRUPT: u32 = 0xc010_b839;
    /// Reads the counters of a virtual processor; the number carries the size
    /// of the head.
    pub const VTL_STATS: u32 = 0xc008_b861;
    /// Says which hypercalls a file is going to make.
    pub const HVCALL_SETUP: u32 = 0x4010_b81e;
    /// Makes a hypercall.
    pub const HVCALL: u32 = 0xc030_b81f;
    /// Signals an event to the host.
    pub const SINT_SIGNAL_EVENT: u32 = 0x4008_b822;
    /// Posts a message to the host.
    pub const SINT_POST_MESSAGE: u32 = 0x4018_b823;
    /// Has an eventfd signalled for an event of the host.
    pub const SINT_SET_EVENTFD: u32 = 0x4008_b824;
    /// Pauses messages and events of the host. On another file the number of
    /// [`SET_POLL_FILE`].
    pub const SINT_PAUSE_MESSAGE_STREAM: u32 = 0x4008_b825;
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
/// Mapping kind of the page about VTL switches.
pub const PAGE_KIND_SWITCH: u32 = 0x11;
/// Mapping kind of the audit ring.
pub const PAGE_KIND_AUDIT: u32 = 0x10;
/// Mapping kind of the leaves of that.
pub const PAGE_KIND_LEAVES: u32 = 0x12;
/// Mapping kind of the records of the control plane.
pub const PAGE_KIND_CONTROL: u32 = 0x13;
/// Mapping kind of the leaves of those.
pub const PAGE_KIND_CONTROL_LEAVES: u32 = 0x14;
/// In the offset of a mapping of [`DEV_MSHV_VTL_LOW`]: the alias that is shared
/// with the host.
pub const VTL_LOW_SHARED: u64 = 1 << 63;
/// In the selector of [`command::VTL_POLICY`]: a line about hypercalls.
pub const POLICY_HVCALLS: u32 = 1 << 31;
/// Registers per call of [`command::GET_VP_REGISTERS`].
pub const VP_MAX_REGISTERS: usize = 128;
/// Flag of [`command::KICK_CPUS`]: return when all have left.
pub const KICK_WAIT: u64 = 1 << 0;
/// Flag of [`command::KICK_CPUS`]: set `cancel` of their run pages first.
pub const KICK_CANCEL: u64 = 1 << 1;

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

/// Size of a structure and offset of each field.
macro_rules! assert_layout {
    ($type:ty, $size:literal, $($offset:literal $($field:ident).+),+ $(,)?) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $($field).+) == $offset);)+
        };
    };
}

use assert_layout;

assert_layout!(
    Tdcall, 56, 0 rax, 8 rcx, 16 rdx, 24 r8, 32 r9, 40 r10_out, 48 r11_out,
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a command the way the kernel's macros do.
    const fn encode(direction: u32, number: u32, size: usize) -> u32 {
        // CAST: sizes of operands.
        (direction << 30) | ((size as u32) << 16) | (0xb8 << 8) | number
    }

    #[test]
    fn command_numbers_carry_direction_size_and_number() {
        use operands::*;
        let all = [
            (command::CHECK_EXTENSION, 1, 0x00, 4),
            (command::CREATE_VTL, 2, 0x1d, 1),
            (command::VTL_INFO, 3, 0x60, size_of::<Head>()),
            (command::VTL_POLICY, 3, 0x62, size_of::<Head>()),
            (command::RETURN_TO_LOWER_VTL, 0, 0x27, 0),
            (command::GET_VP_REGISTERS, 3, 0x05, size_of::<VpRegisters>()),
            (command::SET_VP_REGISTERS, 1, 0x06, size_of::<VpRegisters>()),
            (command::VTL_XSAVE_GET, 3, 0x63, size_of::<Xsave>()),
            (command::VTL_XSAVE_SET, 1, 0x64, size_of::<Xsave>()),
            (command::VTL_SWITCH_SETUP, 1, 0x65, size_of::<Head>()),
            (command::VTL_RESET, 1, 0x68, size_of::<Head>()),
            (command::VTL_AUDIT_CHECKPOINT, 3, 0x66, size_of::<Head>()),
            (command::VTL_AUDIT_EVENT, 3, 0x67, size_of::<Head>()),
            (command::VTL_AUDIT_NOTE, 1, 0x69, size_of::<Head>()),
            (
                command::RESTORE_PARTITION_TIME,
                1,
                0x13,
                size_of::<PartitionTime>(),
            ),
            (
                command::ADD_VTL0_MEMORY,
                1,
                0x21,
                size_of::<RamDisposition>(),
            ),
            (command::SET_POLL_FILE, 1, 0x25, size_of::<PollFile>()),
            (command::TDCALL, 3, 0x32, size_of::<Tdcall>()),
            (command::READ_VMX_CR4_FIXED1, 2, 0x33, 8),
            (command::KICK_CPUS, 1, 0x38, size_of::<RawKick>()),
            (
                command::MAP_REDIRECTED_DEVICE_INTERRUPT,
                3,
                0x39,
                size_of::<MapInterrupt>(),
            ),
            (command::VTL_STATS, 3, 0x61, size_of::<Head>()),
            (command::HVCALL_SETUP, 1, 0x1e, size_of::<HvcallSetup>()),
            (command::HVCALL, 3, 0x1f, size_of::<Hvcall>()),
            (
                command::SINT_SIGNAL_EVENT,
                1,
                0x22,
                size_of::<SignalEvent>(),
            ),
            (
                command::SINT_POST_MESSAGE,
                1,
                0x23,
                size_of::<PostMessage>(),
            ),
            (command::SINT_SET_EVENTFD, 1, 0x24, size_of::<SetEventfd>()),
            (
                command::SINT_PAUSE_MESSAGE_STREAM,
                1,
                0x25,
                size_of::<SintMask>(),
            ),
        ];
        for (command, direction, number, size) in all {
            assert_eq!(command, encode(direction, number, size), "{number:#x}");
        }
    }

    #[test]
    fn page_offsets_put_the_kind_above_the_cpu() {
        assert_eq!(page_offset(PAGE_KIND_RUN, 0), 0);
        assert_eq!(page_offset(PAGE_KIND_RUN, 5), 5 * 4096);
        assert_eq!(page_offset(PAGE_KIND_VAPIC, 1), 0x3_0001 * 4096);
    }
}
