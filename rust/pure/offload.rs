// SPDX-License-Identifier: GPL-2.0
//! What userspace lets the kernel do by itself for the lower VTL that runs, and the halts it knows
//! of: `offload_flags` and `flags` of the run page.

use super::field::VmIndex;
use super::uapi::RUN_HALTED;

/// `offload_flags` of one VP and one attempt to enter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offload {
    raw: u8,
    is_served: bool,
}

/// Proxied interrupts go to the virtual APIC page; halts are the kernel's.
pub const INTR_INJECT: u8 = 1 << 0;
/// Interrupt commands of the x2APIC are the kernel's.
pub const X2APIC: u8 = 1 << 1;
/// Halted for a reason that is userspace's.
pub const HALT_OTHER: u8 = 1 << 5;
/// Halted by HLT.
pub const HALT_HLT: u8 = 1 << 6;
/// Halted by a read of HV_X64_MSR_GUEST_IDLE.
pub const HALT_IDLE: u8 = 1 << 7;
/// What says that a lower VTL is halted, and why.
pub(super) const HALTS: u8 = HALT_OTHER | HALT_HLT | HALT_IDLE;

/// How a lower VTL halts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Halt {
    /// HLT: an interrupt ends it only if it can be taken.
    Hlt,
    /// Guest idle: an interrupt ends it even while RFLAGS.IF is off.
    GuestIdle,
}

impl Offload {
    /// Nothing.
    pub const NONE: Self = Self {
        raw: 0,
        is_served: false,
    };

    /// What the byte asks for while `vm` runs. The run page does not say for which VM an interrupt is:
    /// all are VM 1's, and for other VMs userspace keeps everything. Bits without a meaning have none
    /// here either.
    pub const fn new(raw: u8, vm: VmIndex) -> Self {
        Self {
            raw,
            is_served: vm.get() == VmIndex::VM1.get(),
        }
    }

    /// Whether proxied interrupts and halts are the kernel's.
    pub const fn takes_interrupts(self) -> bool {
        self.is_served && self.raw & INTR_INJECT != 0
    }

    /// Whether interrupt commands are the kernel's, too.
    pub const fn takes_icr(self) -> bool {
        self.takes_interrupts() && self.raw & X2APIC != 0
    }

    /// Whether another VP's kernel may ask this VP for an interrupt without asking its userspace:
    /// its APIC is on, and it does not wait to be started.
    pub const fn accepts_ipi(raw: u8) -> bool {
        raw & (INTR_INJECT | X2APIC | HALT_OTHER) == INTR_INJECT | X2APIC
    }

    /// `offload_flags` after the lower VTL has halted itself.
    pub const fn halted(self, halt: Halt) -> u8 {
        match halt {
            Halt::Hlt => (self.raw | HALT_HLT) & !HALT_IDLE,
            Halt::GuestIdle => (self.raw | HALT_IDLE) & !HALT_HLT,
        }
    }

    /// What ends a halt, if interrupts end it at all: one that is deliverable is there, RFLAGS.IF is
    /// `is_if_set`. Returns `offload_flags` and `flags` afterwards; `None`: it goes on.
    pub const fn woken(self, flags: u32, is_if_set: bool) -> Option<(u8, u32)> {
        if !self.takes_interrupts() || self.raw & HALT_OTHER != 0 {
            return None;
        }
        let ends = (self.raw & HALT_HLT != 0 && is_if_set) || self.raw & HALT_IDLE != 0;
        if ends {
            Some((self.raw & !(HALT_HLT | HALT_IDLE), flags & !RUN_HALTED))
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

    const VM2: VmIndex = VmIndex::new(2).unwrap();

    #[test]
    fn only_the_vm_whose_apic_page_the_kernel_has_is_served() {
        for raw in 0..=255 {
            let (vm1, vm2) = (Offload::new(raw, VmIndex::VM1), Offload::new(raw, VM2));
            assert!(!vm2.takes_interrupts() && !vm2.takes_icr());
            assert_eq!(vm2.woken(1, true), None);
            assert_eq!(vm1.takes_interrupts(), raw & 1 != 0);
            assert_eq!(vm1.takes_icr(), raw & 3 == 3);
            assert_eq!(Offload::accepts_ipi(raw), raw & 0x23 == 3);
        }
        assert!(!Offload::NONE.takes_interrupts());
    }

    /// Exhaustive: an interrupt ends exactly the halts that are the kernel's, and nothing but the
    /// halt bits changes.
    #[test]
    fn an_interrupt_ends_only_halts_of_the_kernel() {
        for raw in 0..=255_u8 {
            for is_if_set in [false, true] {
                let woken = Offload::new(raw, VmIndex::VM1).woken(RUN_HALTED, is_if_set);
                let is_kernels = raw & 1 != 0 && raw & 0x20 == 0;
                let ends = (raw & 0x40 != 0 && is_if_set) || raw & 0x80 != 0;
                let expected = (is_kernels && ends).then_some((raw & 0x3f, 0));
                assert_eq!((raw, is_if_set, woken), (raw, is_if_set, expected));
            }
        }
    }

    #[test]
    fn at_most_one_halt_is_noted() {
        for raw in 0..=255_u8 {
            let offload = Offload::new(raw, VmIndex::VM1);
            assert_eq!(offload.halted(Halt::Hlt), (raw & 0x3f) | 0x40);
            assert_eq!(offload.halted(Halt::GuestIdle), (raw & 0x3f) | 0x80);
        }
    }
}
