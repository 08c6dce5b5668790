// SPDX-License-Identifier: GPL-2.0
//! Numbers of the userspace ABI, written by hand from the ABI's description.
//!
//! `rust/glue/abi.rs` asserts at compile time that the C header gives the same ones, so that neither an
//! edit of the header nor a compiler can move a field unnoticed.

/// Byte offset of the status in the argument of `MSHV_HVCALL`.
pub const HVCALL_STATUS: usize = 24;

/// Byte offsets in the answer of `MSHV_VTL_INFO`.
pub mod info {
    /// u32.
    pub const FLAGS: usize = 4;
    /// u64.
    pub const VERSION: usize = 8;
    /// u64.
    pub const CAPABILITIES: usize = 16;
    /// u64.
    pub const TDX_FEATURES0: usize = 24;
    /// u64.
    pub const ATTRIBUTES: usize = 32;
    /// u64.
    pub const XFAM: usize = 40;
    /// u64.
    pub const TSC_KHZ: usize = 48;
    /// u32.
    pub const NUM_L2_VMS: usize = 56;
    /// u32.
    pub const NUM_CPUS: usize = 60;
    /// u32.
    pub const AUDIT_RECORDS: usize = 64;
    /// u32.
    pub const EXIT_KINDS: usize = 68;
    /// Size of the first version.
    pub const SIZE: usize = 72;
}

/// Byte offsets in the answer of `MSHV_VTL_POLICY`.
pub mod policy {
    /// u64.
    pub const LEAF: usize = 8;
    /// u32.
    pub const LINES: usize = 16;
    /// Text.
    pub const NAME: usize = 24;
    /// Text.
    pub const REASON: usize = 48;
    /// Size of the first version.
    pub const SIZE: usize = 176;
    /// In the selector: the line is one of the hypercalls.
    pub const HVCALLS: u32 = 1 << 31;
}

/// Byte offsets in the answer of `MSHV_VTL_STATS`.
pub mod stats {
    /// u32.
    pub const CPU: usize = 4;
    /// Seven u64.
    pub const REFUSED: usize = 8;
    /// u64.
    pub const EXIT_KINDS: usize = 64;
    /// Three u64 per kind.
    pub const EXITS: usize = 72;
    /// u64. The first version ends before it.
    pub const REFUSED_HVCALLS: usize = 2568;
    /// u64. The second version ends before it.
    pub const STALLS: usize = 2576;
    /// u64.
    pub const EXIT_STORMS: usize = 2584;
    /// u64.
    pub const STORM_TICKS: usize = 2592;
    /// u64.
    pub const SHORTEST_STORM_TICKS: usize = 2600;
    /// u64. The third version ends before it.
    pub const VTL_CALLS: usize = 2608;
    /// u64.
    pub const VTL_RETURNS: usize = 2616;
    /// u64.
    pub const VTL_FAST_RETURNS: usize = 2624;
    /// u64.
    pub const VTL_LEFT: usize = 2632;
    /// u64.
    pub const VTL_FLUSHES: usize = 2640;
    /// u64.
    pub const VTL_PROXIED: usize = 2648;
    /// Size of this version.
    pub const SIZE: usize = 2656;
}

/// Byte offsets in the operand of `MSHV_VTL_AUDIT_CHECKPOINT`.
pub mod checkpoint {
    /// 32 bytes.
    pub const NONCE: usize = 8;
    /// u32.
    pub const FLAGS: usize = 40;
    /// u64.
    pub const NUMBER: usize = 48;
    /// Size of the first version.
    pub const SIZE: usize = 56;
    /// In the flags: kick the VPs.
    pub const KICK: u32 = 1;
}

/// Byte offsets in the operand of `MSHV_VTL_AUDIT_EVENT`.
pub mod event {
    /// u64.
    pub const NUMBER: usize = 8;
    /// u64.
    pub const BUFFER: usize = 16;
    /// u32.
    pub const ROOM: usize = 24;
    /// u32.
    pub const STATE: usize = 28;
    /// u64.
    pub const FIRST: usize = 32;
    /// u64.
    pub const NEXT: usize = 40;
    /// u32.
    pub const MODE: usize = 48;
    /// u32.
    pub const RTMR: usize = 52;
    /// u32.
    pub const STREAMS: usize = 56;
    /// u32.
    pub const LEAVES: usize = 60;
    /// u32.
    pub const INTERVAL: usize = 64;
    /// u32.
    pub const BATCH: usize = 68;
    /// Size of the first version.
    pub const SIZE: usize = 72;
}

/// Byte offsets in the operand of `MSHV_VTL_AUDIT_NOTE`.
pub mod note {
    /// Three u64.
    pub const WORDS: usize = 8;
    /// Size of the first version.
    pub const SIZE: usize = 32;
}

/// Byte offsets in the run page.
pub mod run {
    /// u32, non-zero: do not enter.
    pub const CANCEL: usize = 0;
    /// u32.
    pub const VTL_RET_ACTION_SIZE: usize = 4;
    /// u32, bit 0: halted.
    pub const FLAGS: usize = 8;
    /// u8.
    pub const SCAN_PROXY_IRR: usize = 12;
    /// u8.
    pub const OFFLOAD_FLAGS: usize = 13;
    /// u8.
    pub const ENTER_MODE: usize = 15;
    /// 256 bytes.
    pub const EXIT_MESSAGE: usize = 16;
    /// Eleven u64: RAX, RCX, RDX, RSI, RDI, R8 to R13.
    pub const EXIT_INFO: usize = 272;
    /// u64.
    pub const MSR_KERNEL_GS_BASE: usize = 408;
    /// u64.
    pub const MSR_STAR: usize = 416;
    /// u64.
    pub const MSR_LSTAR: usize = 424;
    /// u64.
    pub const MSR_SFMASK: usize = 432;
    /// u64.
    pub const MSR_XSS: usize = 440;
    /// u64.
    pub const CR2: usize = 448;
    /// u64.
    pub const MSR_TSC_AUX: usize = 456;
    /// u64, bits 0 and 1: flush caches.
    pub const VP_FLAGS: usize = 464;
    /// u64, RCX of TDG.VP.ENTER.
    pub const ENTRY_RCX: usize = 504;
    /// L2_ENTER_GUEST_STATE, aligned to 256 bytes.
    pub const GUEST_STATE: usize = 512;
    /// u64 within it: RIP.
    pub const GUEST_STATE_RIP: usize = 648;
    /// u64.
    pub const TSC_DEADLINE: usize = 672;
    /// u8, bit 0.
    pub const TSC_DEADLINE_UPDATE: usize = 680;
    /// 512 bytes in FXSAVE format.
    pub const FX_STATE: usize = 768;
    /// 256 bytes.
    pub const VTL_RET_ACTIONS: usize = 1296;
    /// Eight u32.
    pub const PROXY_IRR: usize = 1552;
    /// u8.
    pub const TARGET_VTL: usize = 1584;
    /// Eight u32.
    pub const PROXY_IRR_BLOCKED: usize = 1588;
    /// Eight u32.
    pub const PROXY_IRR_EXIT_MASK: usize = 1620;
    /// Where the last field ends.
    pub const END: usize = 1652;
    /// The timer of VM 1's APIC.
    pub const TIMER: usize = 4080;
}

/// Byte offsets in it.
pub mod timer {
    /// u64.
    pub const DEADLINE: usize = 0;
    /// u8.
    pub const VECTOR: usize = 8;
    /// Size with what follows.
    pub const SIZE: usize = 16;
}

/// Byte offsets in the switch page.
pub mod switch {
    /// u32.
    pub const ENABLE: usize = 0;
    /// u32.
    pub const ACTIVE_VM: usize = 8;
    /// u32.
    pub const LEFT: usize = 12;
    /// Four u64, by number of the VM.
    pub const FLUSH: usize = 16;
    /// Likewise.
    pub const FLUSHED: usize = 48;
    /// Size of each of the two.
    pub const COUNTERS_SIZE: usize = 32;
    /// Private state of VM 1, then of VM 2.
    pub const PARKED: usize = 256;
    /// Size of one.
    pub const PARKED_SIZE: usize = 128;
    /// Where the last field ends.
    pub const END: usize = 512;
}

/// `flags` bit 0: the lower VTL is halted.
pub const RUN_HALTED: u32 = 1;
/// `MSHV_KICK_CPUS`: return when the listed CPUs have left the lower VTL.
pub const KICK_WAIT: u64 = 1;
/// `MSHV_KICK_CPUS`: cancel the runs.
pub const KICK_CANCEL: u64 = 2;
/// Kind of the run page in the offset of an mmap of a VTL file descriptor.
pub const MMAP_RUN_PAGE: u64 = 0;
/// Kind of the virtual-APIC page of VM 1.
pub const MMAP_VAPIC_PAGE: u64 = 3;
/// Kind of the audit ring of a VP, which is mapped as a whole and for reading only.
pub const MMAP_AUDIT_RING: u64 = 0x10;
/// Kind of the page that says how VTLs are switched.
pub const MMAP_SWITCH_PAGE: u64 = 0x11;
/// Kind of the leaves of that ring.
pub const MMAP_LEAVES: u64 = 0x12;
/// Kind of the ring of the control plane.
pub const MMAP_CONTROL_RING: u64 = 0x13;
/// Kind of the leaves of that.
pub const MMAP_CONTROL_LEAVES: u64 = 0x14;
/// The kind stands above the CPU number.
pub const MMAP_KIND_SHIFT: u32 = 16;

/// VTL calls are served.
const CAP_VTL_SWITCH: u32 = 0x105;

/// Capabilities of our own, from 0x100 on, as bits: INFO, STATS, AUDIT_RING, POLICY, XSAVE; ATTEST;
/// RESET, TIMER, AUDIT_NOTE; and VTL_SWITCH where there are two VTLs to switch between.
pub const fn own_capabilities(num_l2_vms: u8) -> u64 {
    0x75f | ((has_vtl_switch(num_l2_vms) as u64) << (CAP_VTL_SWITCH - 0x100))
}

/// Returns true if a TD with so many L2 VMs has a VTL1.
pub const fn has_vtl_switch(num_l2_vms: u8) -> bool {
    num_l2_vms >= 2
}

/// Answers CHECK_EXTENSION; `None`: a property this driver has never heard of.
pub const fn check_extension(capability: u32, num_l2_vms: u8) -> Option<u32> {
    match capability {
        CAP_VTL_SWITCH => Some(has_vtl_switch(num_l2_vms) as u32),
        0 => Some(0), // CORE_API_STABLE
        1 => Some(0), // REGISTER_PAGE: the TDX module keeps the registers
        2 => Some(0), // VTL_RETURN_ACTION: there is no assist page on TDX
        3 => Some(1), // DR6_SHARED: TDX switches DR7 only
        4 => Some(1), // LOWER_VTL_TIMER_VIRT: deadlines are programmed
        0x100..=0x104 | 0x106 | 0x108..=0x10a => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openhcl_gets_the_answers_it_needs() {
        assert_eq!(
            [0, 1, 2, 3, 4].map(|number| check_extension(number, 2)),
            [Some(0), Some(0), Some(0), Some(1), Some(1)]
        );
        assert_eq!(check_extension(5, 2), None);
        assert_eq!(check_extension(u32::MAX, 2), None);
    }

    #[test]
    fn own_capabilities_are_told_in_both_ways() {
        for (num_l2_vms, bit) in (1..4).flat_map(|vms| (0..64).map(move |bit| (vms, bit))) {
            let is_told = (own_capabilities(num_l2_vms) >> bit) & 1;
            let answer = check_extension(0x100 + bit, num_l2_vms);
            assert_eq!(answer.unwrap_or(0), is_told as u32);
            // A known property is answered for every TD.
            let elsewhere = check_extension(0x100 + bit, 3);
            assert_eq!(answer.is_some(), elsewhere.is_some());
        }
        assert_eq!(check_extension(0x105, 1), Some(0));
        assert_eq!(check_extension(0x105, 2), Some(1));
    }

    #[test]
    fn everything_in_the_run_page_has_its_place() {
        assert_eq!(run::GUEST_STATE % 256, 0);
        assert_eq!(run::FX_STATE % 16, 0);
        const { assert!(run::END <= run::TIMER) };
        const { assert!(run::TIMER + timer::SIZE == 4096) };
    }
}
