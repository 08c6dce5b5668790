// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Operands of the commands. Part of [`crate::abi`]; used by `sys` and by the types that are made
//! from an answer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::assert_layout;

/// Begin of every structure that may grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Head {
    /// Bytes of the structure.
    pub(crate) size: u32,
    /// Selects what the answer is about.
    pub(crate) selector: u32,
}

assert_layout!(Head, 8, 0 size, 4 selector);

/// Answer of [`super::command::VTL_INFO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RawInfo {
    /// The selector is zero.
    pub(crate) head: Head,
    /// Major, minor and patch, from bits 32, 16 and 0.
    pub(crate) version: u64,
    /// Bit n: capability 0x100 + n.
    pub(crate) capabilities: u64,
    /// TDX_FEATURES0.
    pub(crate) tdx_features0: u64,
    /// ATTRIBUTES of the TD.
    pub(crate) attributes: u64,
    /// XFAM of the TD.
    pub(crate) xfam: u64,
    /// Frequency of the TSC.
    pub(crate) tsc_khz: u64,
    /// L2 VMs of the TD.
    pub(crate) num_l2_vms: u32,
    /// One more than the highest CPU number.
    pub(crate) num_cpus: u32,
    /// Records in an audit ring.
    pub(crate) audit_records: u32,
    /// Kinds of exit that are counted.
    pub(crate) exit_kinds: u32,
}

assert_layout!(RawInfo, 72, 0 head, 8 version, 16 capabilities, 24 tdx_features0, 32 attributes, 40 xfam, 48 tsc_khz, 56 num_l2_vms, 60 num_cpus, 64 audit_records, 68 exit_kinds);

/// Answer of [`super::command::VTL_POLICY`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Policy {
    /// The selector is the number of the line.
    pub(crate) head: Head,
    /// Number and version of the leaf.
    pub(crate) leaf: u64,
    /// Lines there are.
    pub(crate) lines: u32,
    /// Zero.
    pub(crate) reserved: u32,
    /// Ends with a NUL.
    pub(crate) name: [u8; 24],
    /// Ends with a NUL.
    pub(crate) reason: [u8; 128],
}

assert_layout!(Policy, 176, 0 head, 8 leaf, 16 lines, 20 reserved, 24 name, 48 reason);

/// Operand of [`super::command::VTL_AUDIT_CHECKPOINT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct AuditCheckpoint {
    /// The selector is zero.
    pub(crate) head: Head,
    /// Goes into the event.
    pub(crate) nonce: [u8; 32],
    /// Bit 0: kick every VP first.
    pub(crate) flags: u32,
    /// Zero.
    pub(crate) reserved: u32,
    /// Out: number of the event.
    pub(crate) number: u64,
}

assert_layout!(AuditCheckpoint, 56, 0 head, 8 nonce, 40 flags, 44 reserved, 48 number);

/// Operand of [`super::command::VTL_AUDIT_EVENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct AuditEvent {
    /// The selector is zero.
    pub(crate) head: Head,
    /// Number of the event.
    pub(crate) number: u64,
    /// Address of room for it.
    pub(crate) buffer: u64,
    /// In: bytes of room; 0: no event. Out: bytes of the event.
    pub(crate) size: u32,
    /// Out, as the others below: state of attestation.
    pub(crate) state: u32,
    /// Number of the oldest event that is kept.
    pub(crate) first: u64,
    /// Number of the next event.
    pub(crate) next: u64,
    /// 1: try, 2: require.
    pub(crate) mode: u32,
    /// Index of the register.
    pub(crate) rtmr: u32,
    /// Streams of records.
    pub(crate) streams: u32,
    /// Slots in a ring of leaves.
    pub(crate) leaves: u32,
    /// Seconds between checkpoints.
    pub(crate) interval: u32,
    /// Pages of records that are hashed at once.
    pub(crate) batch: u32,
}

assert_layout!(AuditEvent, 72, 0 head, 8 number, 16 buffer, 24 size, 28 state, 32 first, 40 next, 48 mode, 52 rtmr, 56 streams, 60 leaves, 64 interval, 68 batch);

/// Operand of [`super::command::VTL_AUDIT_NOTE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct AuditNote {
    /// The selector is zero.
    pub(crate) head: Head,
    /// What is recorded.
    pub(crate) words: [u64; 3],
}

assert_layout!(AuditNote, 32, 0 head, 8 words);

/// Operand of TDX_CMD_GET_REPORT0 of Linux's driver `tdx-guest`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct TdxReport {
    /// In: REPORTDATA.
    pub(crate) data: [u8; 64],
    /// Out: the TDREPORT.
    pub(crate) report: [u8; 1024],
}

assert_layout!(TdxReport, 1088, 0 data, 64 report);

/// Exits of one kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct ExitCounters {
    /// How many.
    pub(crate) count: u64,
    /// Number of those that the kernel handled by itself.
    pub(crate) handled: u64,
    /// TSC ticks, all together.
    pub(crate) cycles: u64,
}

assert_layout!(ExitCounters, 24, 0 count, 8 handled, 16 cycles);

/// Answer of [`super::command::VTL_STATS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RawStats {
    /// The selector is the CPU.
    pub(crate) head: Head,
    /// What was refused.
    pub(crate) refused: [u64; 7],
    /// Number of exit kinds that the module knows.
    pub(crate) exit_kinds: u64,
    /// By kind.
    pub(crate) exits: [ExitCounters; 104],
    /// Hypercalls that were refused.
    pub(crate) refused_hvcalls: u64,
    /// Lower VTLs that made no progress.
    pub(crate) stalls: u64,
    /// Exit storms.
    pub(crate) exit_storms: u64,
    /// TSC ticks that all storms took together.
    pub(crate) storm_ticks: u64,
    /// Those of the shortest.
    pub(crate) shortest_storm_ticks: u64,
    /// VTL calls by the kernel.
    pub(crate) vtl_calls: u64,
    /// VTL returns.
    pub(crate) vtl_returns: u64,
    /// Fast VTL returns.
    pub(crate) vtl_fast_returns: u64,
    /// Those left to userspace.
    pub(crate) vtl_left: u64,
    /// Entries that invalidated for the switch page.
    pub(crate) vtl_flushes: u64,
    /// Interrupts for VTL0 while VTL1 ran.
    pub(crate) vtl_proxied: u64,
}

assert_layout!(RawStats, 2656, 0 head, 8 refused, 64 exit_kinds, 72 exits, 2568 refused_hvcalls, 2576 stalls, 2584 exit_storms, 2592 storm_ticks, 2600 shortest_storm_ticks, 2608 vtl_calls, 2616 vtl_returns, 2624 vtl_fast_returns, 2632 vtl_left, 2640 vtl_flushes, 2648 vtl_proxied);

/// A register and its value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Register {
    /// Its number.
    pub(crate) name: u32,
    /// Ignored by the kernel.
    pub(crate) reserved: [u32; 3],
    /// Low half first.
    pub(crate) value: [u64; 2],
}

assert_layout!(Register, 32, 0 name, 4 reserved, 16 value);

/// Operand of [`super::command::GET_VP_REGISTERS`] and `SET_VP_REGISTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct VpRegisters {
    /// Length of the list.
    pub(crate) count: u32,
    /// Index of the register that was refused.
    pub(crate) failed: u32,
    /// Address of the list.
    pub(crate) registers: u64,
}

assert_layout!(VpRegisters, 16, 0 count, 4 failed, 8 registers);

/// Operand of [`super::command::VTL_XSAVE_GET`] and `VTL_XSAVE_SET`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Xsave {
    /// Bytes of the image; 0 queries only the other two fields.
    pub(crate) size: u32,
    /// Zero.
    pub(crate) flags: u32,
    /// Components of the image.
    pub(crate) xfeatures: u64,
    /// Address of the image.
    pub(crate) image: u64,
}

assert_layout!(Xsave, 24, 0 size, 4 flags, 8 xfeatures, 16 image);

/// Operand of [`super::command::SET_POLL_FILE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct PollFile {
    /// The VP.
    pub(crate) cpu: u32,
    /// The file; negative for none.
    pub(crate) fd: i32,
}

assert_layout!(PollFile, 8, 0 cpu, 4 fd);

/// Operand of [`super::command::KICK_CPUS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RawKick {
    /// Length of the mask in bits.
    pub(crate) len_bits: u64,
    /// Address of the mask.
    pub(crate) cpu_mask: u64,
    /// KICK_*.
    pub(crate) flags: u64,
}

assert_layout!(RawKick, 24, 0 len_bits, 8 cpu_mask, 16 flags);

/// Operand of [`super::command::MAP_REDIRECTED_DEVICE_INTERRUPT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct MapInterrupt {
    /// Vector of VTL0 in, of VTL2 out.
    pub(crate) vector: u32,
    /// x2APIC ID of the processor.
    pub(crate) apic_id: u32,
    /// 1 creates a mapping, 0 removes it.
    pub(crate) create_mapping: u8,
    /// Ignored by the kernel.
    pub(crate) padding: [u8; 7],
}

assert_layout!(MapInterrupt, 16, 0 vector, 4 apic_id, 8 create_mapping, 9 padding);

/// Operand of [`super::command::ADD_VTL0_MEMORY`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RamDisposition {
    /// First page frame.
    pub(crate) start_pfn: u64,
    /// The page frame after the last.
    pub(crate) last_pfn: u64,
}

assert_layout!(RamDisposition, 16, 0 start_pfn, 8 last_pfn);

/// Operand of [`super::command::RESTORE_PARTITION_TIME`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct PartitionTime {
    /// Ignored by the kernel.
    pub(crate) tsc_sequence: u32,
    /// Ignored by the kernel.
    pub(crate) reserved: u32,
    /// Ignored by the kernel.
    pub(crate) reference_time_100ns: u64,
    /// Ignored by the kernel.
    pub(crate) tsc: u64,
}

assert_layout!(PartitionTime, 24, 0 tsc_sequence, 4 reserved, 8 reference_time_100ns, 16 tsc);

/// Operand of [`super::command::HVCALL_SETUP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct HvcallSetup {
    /// Bytes of the list.
    pub(crate) bitmap_array_size: u64,
    /// Address of the list.
    pub(crate) allow_bitmap_ptr: u64,
}

assert_layout!(HvcallSetup, 16, 0 bitmap_array_size, 8 allow_bitmap_ptr);

/// Operand of [`super::command::HVCALL`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Hvcall {
    /// The control word.
    pub(crate) control: u64,
    /// Bytes of input.
    pub(crate) input_size: u64,
    /// Address of the input.
    pub(crate) input_ptr: u64,
    /// The host's status.
    pub(crate) status: u64,
    /// Bytes of output.
    pub(crate) output_size: u64,
    /// Address of the output.
    pub(crate) output_ptr: u64,
}

assert_layout!(Hvcall, 48, 0 control, 8 input_size, 16 input_ptr, 24 status, 32 output_size, 40 output_ptr);

/// Operand of [`super::command::SINT_SIGNAL_EVENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct SignalEvent {
    /// Where to.
    pub(crate) connection_id: u32,
    /// Number of the flag.
    pub(crate) flag: u32,
}

assert_layout!(SignalEvent, 8, 0 connection_id, 4 flag);

/// Operand of [`super::command::SINT_POST_MESSAGE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct PostMessage {
    /// Its type, 32 bits.
    pub(crate) message_type: u64,
    /// Where to.
    pub(crate) connection_id: u32,
    /// Bytes of payload.
    pub(crate) payload_size: u32,
    /// Address of the payload.
    pub(crate) payload_ptr: u64,
}

assert_layout!(PostMessage, 24, 0 message_type, 8 connection_id, 12 payload_size, 16 payload_ptr);

/// Operand of [`super::command::SINT_SET_EVENTFD`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct SetEventfd {
    /// The eventfd; negative for none.
    pub(crate) fd: i32,
    /// Number of the flag.
    pub(crate) flag: u32,
}

assert_layout!(SetEventfd, 8, 0 fd, 4 flag);

/// Operand of [`super::command::SINT_PAUSE_MESSAGE_STREAM`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct SintMask {
    /// 1 paused, 0 not.
    pub(crate) mask: u8,
    /// Ignored by the kernel.
    pub(crate) reserved: [u8; 7],
}

assert_layout!(SintMask, 8, 0 mask, 1 reserved);

/// What `/dev/mshv_sint` gives to a reader.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RawMessage {
    /// Not zero.
    pub(crate) message_type: u32,
    /// At most 240.
    pub(crate) payload_size: u8,
    /// Ignored.
    pub(crate) flags: u8,
    /// Ignored.
    pub(crate) reserved: [u8; 2],
    /// The sender's partition or port.
    pub(crate) sender: u64,
    /// The payload, then zeros.
    pub(crate) payload: [u8; 240],
}

assert_layout!(RawMessage, 256, 0 message_type, 4 payload_size, 5 flags, 6 reserved, 8 sender, 16 payload);
