// SPDX-License-Identifier: GPL-2.0
//! What userspace lets the kernel handle by itself for the running lower VTL, and which halts the
//! kernel knows of: `offload_flags` and `flags` of the run page.

use super::field::VmIndex;
use super::uapi::{run, RUN_HALTED};

/// `offload_flags` of one VP, for one attempt to enter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offload {
    /// Without [`SERVED`] if the kernel does not serve the VM.
    raw: u8,
}

/// The kernel posts proxied interrupts to the virtual-APIC page and handles halts.
pub const INTR_INJECT: u8 = 1 << 0;
/// The kernel handles writes of the x2APIC's ICR.
pub const X2APIC: u8 = 1 << 1;
/// What the kernel does, all for VM 1 only.
const SERVED: u8 = INTR_INJECT | X2APIC;
/// Halted for a reason that only userspace can end.
pub const HALT_OTHER: u8 = 1 << 5;
/// Halted by HLT.
pub const HALT_HLT: u8 = 1 << 6;
/// Halted by a read of HV_X64_MSR_GUEST_IDLE.
pub const HALT_IDLE: u8 = 1 << 7;
/// All bits that say that a lower VTL is halted, and why.
pub(super) const HALTS: u8 = HALT_OTHER | KERNEL_HALTS;
/// Those that the kernel sets and clears.
const KERNEL_HALTS: u8 = HALT_HLT | HALT_IDLE;

/// A change of `offload_flags` and `flags`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HaltChange {
    /// Bits of `offload_flags` that are set.
    pub set: u8,
    /// Bits of it that are cleared.
    pub clear: u8,
    /// The new `flags`.
    pub flags: u32,
}

impl HaltChange {
    /// Halts the lower VTL for the reasons in `halts`.
    pub(super) const fn halted(halts: u8) -> Self {
        Self {
            set: halts,
            clear: KERNEL_HALTS & !halts,
            flags: RUN_HALTED,
        }
    }
}

/// How a lower VTL halted itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Halt {
    /// HLT: an interrupt ends it only if RFLAGS.IF allows its delivery.
    Hlt,
    /// Guest idle: an interrupt ends it even if RFLAGS.IF is clear.
    GuestIdle,
}

impl Halt {
    /// What the halt changes.
    pub const fn begun(self) -> HaltChange {
        HaltChange::halted(match self {
            Self::Hlt => HALT_HLT,
            Self::GuestIdle => HALT_IDLE,
        })
    }
}

/// Returns `offload_flags`, given the word of the run page that begins with `flags`; `None` if the
/// lower VTL is halted, `flags` is invalid, or interrupts are pending.
pub const fn offload_of_quiet(word: u64) -> Option<u8> {
    const SCAN: u64 = 0xff << (8 * (run::SCAN_PROXY_IRR - run::FLAGS));
    const OFFLOAD_SHIFT: usize = 8 * (run::OFFLOAD_FLAGS - run::FLAGS);
    if word & (SCAN | u32::MAX as u64) != 0 {
        return None;
    }
    Some((word >> OFFLOAD_SHIFT) as u8) // CAST: one byte
}

impl Offload {
    /// Userspace handles everything.
    pub const NONE: Self = Self { raw: 0 };

    /// Decodes the byte for a run of `vm`. The run page does not say for which VM an interrupt is:
    /// all are VM 1's, and for other VMs userspace handles everything. Undefined bits are ignored.
    pub const fn new(raw: u8, vm: VmIndex) -> Self {
        match vm.get() == VmIndex::VM1.get() {
            true => Self { raw },
            false => Self { raw: raw & !SERVED },
        }
    }

    /// Returns true if the kernel handles proxied interrupts and halts.
    pub const fn takes_interrupts(self) -> bool {
        self.raw & INTR_INJECT != 0
    }

    /// Returns true if the kernel handles writes of the ICR, too.
    pub const fn takes_icr(self) -> bool {
        self.takes_interrupts() && self.raw & X2APIC != 0
    }

    /// Returns true if the kernel may post an IPI to the VP directly: its APIC is enabled, and it
    /// is not waiting to be started.
    pub const fn accepts_ipi(raw: u8) -> bool {
        raw & (INTR_INJECT | X2APIC | HALT_OTHER) == INTR_INJECT | X2APIC
    }

    /// Returns true if only userspace can end a halt.
    pub const fn is_halted_otherwise(self) -> bool {
        self.raw & HALT_OTHER != 0
    }

    /// Ends a halt for an interrupt that is deliverable, with RFLAGS.IF in `is_if_set`; `None` if an
    /// interrupt does not end the halt.
    pub const fn woken(self, is_if_set: bool) -> Option<HaltChange> {
        if !self.takes_interrupts() || self.raw & HALT_OTHER != 0 {
            return None;
        }
        let ends = (self.raw & HALT_HLT != 0 && is_if_set) || self.raw & HALT_IDLE != 0;
        if ends {
            Some(HaltChange {
                set: 0,
                clear: KERNEL_HALTS,
                flags: 0,
            })
        } else {
            None
        }
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_offload),
    allow(unsafe_code)
)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quiet_while_flags_and_scan_proxy_irr_are_zero() {
        assert_eq!(offload_of_quiet(0), Some(0));
        for bit in 0..64 {
            let expected = match bit {
                0..=39 => None,
                40..=47 => Some(1 << (bit - 40)),
                _ => Some(0),
            };
            assert_eq!((bit, offload_of_quiet(1 << bit)), (bit, expected));
        }
    }

    const VM2: VmIndex = VmIndex::new(2).unwrap();

    #[test]
    fn only_the_vm_whose_apic_page_the_kernel_has_is_served() {
        for raw in 0..=255 {
            let (vm1, vm2) = (Offload::new(raw, VmIndex::VM1), Offload::new(raw, VM2));
            assert!(!vm2.takes_interrupts() && !vm2.takes_icr());
            assert_eq!(vm2.woken(true), None);
            assert_eq!(vm1.takes_interrupts(), raw & 1 != 0);
            assert_eq!(vm1.takes_icr(), raw & 3 == 3);
            assert_eq!(Offload::accepts_ipi(raw), raw & 0x23 == 3);
        }
        assert!(!Offload::NONE.takes_interrupts());
    }

    /// Checks all values: an interrupt ends only halts that the kernel handles, and changes nothing
    /// but the halt bits.
    #[test]
    fn an_interrupt_ends_only_halts_of_the_kernel() {
        for raw in 0..=255_u8 {
            for is_if_set in [false, true] {
                let woken = Offload::new(raw, VmIndex::VM1).woken(is_if_set);
                let is_kernels = raw & 1 != 0 && raw & 0x20 == 0;
                let ends = (raw & 0x40 != 0 && is_if_set) || raw & 0x80 != 0;
                let change = HaltChange {
                    set: 0,
                    clear: 0xc0,
                    flags: 0,
                };
                let expected = (is_kernels && ends).then_some(change);
                assert_eq!((raw, is_if_set, woken), (raw, is_if_set, expected));
            }
        }
    }

    #[test]
    fn at_most_one_halt_is_noted() {
        for (halt, set, clear) in [(Halt::Hlt, 0x40, 0x80), (Halt::GuestIdle, 0x80, 0x40)] {
            let flags = RUN_HALTED;
            assert_eq!(halt.begun(), HaltChange { set, clear, flags });
        }
    }
}
