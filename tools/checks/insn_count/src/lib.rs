// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A QEMU plugin that counts what L1 executes between two markers.
//!
//! A benchmark brackets a path with two marker instructions (`marker`); while
//! a vCPU is between them, every L1 instruction it executes is counted and
//! classified (`classify`). Markers count in a lower VTL's code too: between two of them is what L1
//! does for one of its exits. The emulator's own instructions and those of the
//! lower VTL run at low linear addresses and are not counted (`is_l1`). The
//! path's cheapest passage is its figure (`tally`), because an interrupt may
//! fall into any other. `qemu` is the only part that talks to QEMU.

pub mod classify;
pub mod marker;
mod qemu;
pub mod tally;

/// Position-independent user programs lie above this; the emulator (identity
/// mapped) and the benchmark's guest lie below. The kernel is higher still.
const USER_START: u64 = 1 << 40;

/// Returns true if code at this linear address belongs to L1.
pub const fn is_l1(address: u64) -> bool {
    address >= USER_START
}

#[cfg(test)]
mod tests {
    use super::is_l1;

    #[test]
    fn kernel_and_user_addresses_are_l1_low_ones_are_not() {
        assert!(is_l1(0xffff_ffff_8100_0000));
        assert!(is_l1(0x7fff_f7fc_1000));
        assert!(!is_l1(0x20_0000));
        assert!(!is_l1(0x3c00_0000));
    }
}
