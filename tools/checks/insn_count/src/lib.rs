// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A QEMU plugin that counts what L1's kernel executes between two markers.
//!
//! A benchmark brackets a path with two marker instructions (`marker`); while
//! a vCPU is between them, every instruction of L1's kernel that it executes is counted and
//! classified (`classify`). Markers count in a lower VTL's code too: between two of them is what L1
//! does for one of its exits. What runs below the kernel's half of the linear addresses is not
//! counted (`is_kernel`): the emulator, lower VTLs, and the program that makes the calls, so that
//! its language and the way it was linked make no difference. The
//! path's cheapest passage is its figure (`tally`), because an interrupt may
//! fall into any other; the plugin can also say at which addresses that passage was. Or it counts
//! all that is executed from reset, and from the entry of a VM's kernel, to the first instruction of its
//! first process, and whose instructions these are (`boot`).
//! `qemu` is the only part that talks to QEMU.

pub mod boot;
pub mod classify;
pub mod marker;
mod qemu;
pub mod tally;

/// Returns true if code at this linear address belongs to L1's kernel, which is in the upper half.
/// The emulator is identity mapped, and the benchmark's guests are at low addresses.
pub const fn is_kernel(address: u64) -> bool {
    address >> 63 != 0
}

#[cfg(test)]
mod tests {
    use super::is_kernel;

    #[test]
    fn only_the_upper_half_is_the_kernel() {
        assert!(is_kernel(0xffff_ffff_8100_0000));
        assert!(is_kernel(0xffff_8880_0000_0000));
        // Position-independent and other programs, emulator, guest.
        for address in [
            0x7fff_f7fc_1000,
            0x5555_5555_0000,
            0x40_1000,
            0x20_0000,
            0x3c00_0000,
        ] {
            assert!(!is_kernel(address), "{address:#x}");
        }
    }
}
