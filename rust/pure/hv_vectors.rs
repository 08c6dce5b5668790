// SPDX-License-Identifier: GPL-2.0
//! Which vectors the host may raise in a lower VTL, and how many redirected ones this kernel takes.
//!
//! Userspace can't extend the list of a VM. It can narrow it for a VP, by `proxy_irr_blocked` of
//! the run page and by what it redirects.

use super::apic::{Vector, WORDS};
use super::field::VmIndex;

// These can't be the kernel crate's atomics: this folder does not use that crate.
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Vectors below 32 are exceptions or reserved for them: an interrupt with such a vector would look
/// to the guest like a fault that it never had, with an error code missing on its stack.
const INTERRUPTS: [u32; WORDS] = [0, !0, !0, !0, !0, !0, !0, !0];
const NONE: [u32; WORDS] = [0; WORDS];

/// The vectors for a VM. The host knows only VTL0, which is VM 1; devices belong to no other VM.
pub const fn allowed(vm: VmIndex) -> [u32; WORDS] {
    match vm.get() {
        1 => INTERRUPTS,
        _ => NONE,
    }
}

/// Returns true if the host may raise the vector in the VM.
pub const fn is_allowed(vm: VmIndex, vector: Vector) -> bool {
    allowed(vm)[vector.word()] & vector.bit() != 0
}

/// Number of vectors of a CPU that are redirected, by all files together.
#[derive(Debug, Default)]
pub struct Quota(AtomicU32);

impl Quota {
    /// Limit per file and CPU.
    pub const PER_FILE: usize = 64;
    /// Limit per CPU for all files. The kernel keeps about seventy of its about two hundred vectors
    /// for its own devices.
    const PER_CPU: u32 = 128;

    /// Takes one vector of the quota. Returns false if it is exhausted.
    pub fn take(&self) -> bool {
        // ORDERING: a number that orders nothing else.
        let one_more = |count: u32| (count < Self::PER_CPU).then_some(count + 1);
        self.0.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// Returns one vector to the quota.
    pub fn give_back(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_raises_no_exception_and_nothing_outside_vtl0() {
        for number in 16..=255 {
            let vector = Vector::new(number).unwrap();
            assert_eq!(is_allowed(VmIndex::VM1, vector), number >= 32, "{number}");
            for vm in [2, 3] {
                let vm = VmIndex::new(vm).unwrap();
                assert!(!is_allowed(vm, vector), "{number}");
            }
        }
    }

    #[test]
    fn a_processor_keeps_vectors_for_its_own_devices() {
        let quota = Quota::default();
        for _ in 0..128 {
            assert!(quota.take());
        }
        assert!(!quota.take());
        quota.give_back();
        assert!(quota.take());
        assert!(!quota.take());
    }
}
