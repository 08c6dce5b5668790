// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The state of one virtual processor (TDVPS): which VM it is in, #VE information, its L2 VMs.

use crate::fields::Field;
use crate::gpa::{Gpa, VmIndex};
use crate::gprs::Gprs;
use crate::msr::{self, Access};
use crate::msr_reduced::VirtualMsrs;
use crate::td::{Td, TdConfig};
use crate::ve::VeInfo;
use crate::vmcs::Vmcs;

/// L2_CTLS bits.
pub mod l2_ctls {
    /// The L2's shared addresses use the host's tables, not an empty one.
    pub const ENABLE_SHARED_EPTP: u64 = 1 << 0;
    /// TDG.VP.VMCALL of the L2 goes to the host, not to L1.
    pub const ENABLE_TDVMCALL: u64 = 1 << 1;
    /// Accepted, without effect.
    pub const ENABLE_EXTENDED_VE: u64 = 1 << 2;
    /// All bits L1 may write.
    pub const ALL: u64 = 7;
}

/// TSC_DEADLINE value that disables the deadline.
pub const TSC_DEADLINE_OFF: u64 = u64::MAX;

/// Words of an MSR bitmap: read low, read high, write low, write high, 1024 bytes each.
pub const MSR_BITMAP_WORDS: usize = 512;

/// One L2 VM as this virtual processor sees it.
#[derive(Clone, Debug)]
pub struct L2Vm {
    /// Its VMCS: what L1 wrote, what the emulator stored at the last exit.
    pub vmcs: Vmcs,
    /// Its general-purpose registers; RSP is the VMCS field.
    pub gprs: Gprs,
    /// MSR bitmap as L1 wrote it; a fresh one intercepts everything.
    pub msr_bitmap: [u64; MSR_BITMAP_WORDS],
    /// Counts the writes of L1 to `msr_bitmap`.
    pub msr_bitmap_writes: u64,
    /// L1's L2_ENTER_GUEST_STATE, known after the first entry.
    pub(crate) state_gpa: Option<Gpa>,
    /// Privilege level at the last exit.
    pub(crate) last_cpl: u8,
}

impl L2Vm {
    fn new(config: &TdConfig) -> Self {
        Self {
            vmcs: Vmcs::of_td(config),
            gprs: Gprs::ZERO,
            msr_bitmap: [u64::MAX; MSR_BITMAP_WORDS],
            msr_bitmap_writes: 0,
            state_gpa: None,
            last_cpl: 0,
        }
    }

    /// The virtual-APIC page, if L1 has set it.
    #[must_use]
    pub fn virtual_apic_gpa(&self) -> Option<Gpa> {
        Gpa::private(self.vmcs.get(Field::VirtualApicAddress))
    }

    /// Returns true if L1's own bitmap intercepts this access. MSRs the bitmap does not cover always
    /// exit.
    #[must_use]
    pub fn l1_intercepts_msr(&self, index: u32, access: Access) -> bool {
        let Some((word, bit)) = msr::bitmap_position(index, access) else {
            return true;
        };
        self.msr_bitmap.get(word).is_none_or(|w| w >> bit & 1 != 0)
    }

    /// Returns true if an access exits: the bit is set in the TD's bitmap or in L1's.
    ///
    /// The emulator builds its MSR permission map from this.
    #[must_use]
    pub fn intercepts_msr(&self, td: &Td<'_>, index: u32, access: Access) -> bool {
        self.l1_intercepts_msr(index, access) || !msr::is_passed_through(td, index, access)
    }
}

/// One virtual processor. About 16 KiB: place it in static or page-sized memory.
#[derive(Clone, Debug)]
pub struct Vcpu {
    /// VCPU_INDEX.
    pub index: u32,
    /// The VM it runs: `None` is L1.
    pub current_vm: Option<VmIndex>,
    /// Information about a #VE that L1 has not fetched yet.
    pub(crate) ve: Option<VeInfo>,
    /// CPUID_SUPERVISOR_VE and CPUID_USER_VE; not zero means every CPUID is a #VE.
    pub(crate) cpuid_supervisor_ve: u8,
    /// See [`Self::cpuid_supervisor_ve`].
    pub(crate) cpuid_user_ve: u8,
    /// CPUID_CONTROL of up to 128 leaves.
    pub(crate) cpuid_control: [u8; 128],
    /// L2_CTLS, index 0 without effect.
    pub(crate) l2_ctls: [u64; 4],
    /// TSC_DEADLINE, index 0 without effect.
    pub(crate) tsc_deadline: [u64; 4],
    /// MSRs that the module keeps.
    pub(crate) msrs: VirtualMsrs,
    /// The L2 VMs.
    l2: [L2Vm; 3],
}

impl Vcpu {
    /// A fresh virtual processor, in L1.
    #[must_use]
    pub fn new(index: u32, config: &TdConfig) -> Self {
        Self {
            index,
            current_vm: None,
            ve: None,
            cpuid_supervisor_ve: 0,
            cpuid_user_ve: 0,
            cpuid_control: [0; 128],
            l2_ctls: [0; 4],
            tsc_deadline: [TSC_DEADLINE_OFF; 4],
            msrs: VirtualMsrs::new(index),
            l2: VmIndex::ALL.map(|_| L2Vm::new(config)),
        }
    }

    /// An L2 VM's state.
    #[must_use]
    pub fn l2(&self, vm: VmIndex) -> &L2Vm {
        let [a, b, c] = &self.l2;
        match vm {
            VmIndex::Vm1 => a,
            VmIndex::Vm2 => b,
            VmIndex::Vm3 => c,
        }
    }

    /// An L2 VM's state, to change.
    pub fn l2_mut(&mut self, vm: VmIndex) -> &mut L2Vm {
        let [a, b, c] = &mut self.l2;
        match vm {
            VmIndex::Vm1 => a,
            VmIndex::Vm2 => b,
            VmIndex::Vm3 => c,
        }
    }

    /// L2_CTLS of a VM.
    #[must_use]
    pub fn l2_ctls(&self, vm: VmIndex) -> u64 {
        self.l2_ctls
            .get(usize::from(vm.number()))
            .copied()
            .unwrap_or(0)
    }

    /// The virtual TSC value at which a VM must exit with reason 52, if L1 set one.
    ///
    /// A value in the past means an exit before the first instruction. It stays set on expiry.
    #[must_use]
    pub fn tsc_deadline(&self, vm: VmIndex) -> Option<u64> {
        let value = self.tsc_deadline.get(usize::from(vm.number())).copied();
        value.filter(|v| *v != TSC_DEADLINE_OFF)
    }

    /// The value of the VMX-preemption timer at an entry of a VM, if L1 has set a deadline: with 0 it
    /// exits before its first instruction.
    ///
    /// The timer counts down every 2^`rate` ticks of the TSC and has 32 bits, so an exit can come
    /// before the deadline, by one count or after a very long run [ABI TSC_DEADLINE].
    #[must_use]
    pub fn preemption_timer(&self, vm: VmIndex, now: u64, rate: u32) -> Option<u64> {
        let left = self.tsc_deadline(vm)?.saturating_sub(now);
        Some((left >> rate.min(31)).min(u64::from(u32::MAX)))
    }

    /// Returns true if L1 wants a #VE for CPUID at this privilege level: for all leaves, or for the one
    /// with this number in CPUID_CONTROL, if it has one.
    #[must_use]
    pub fn cpuid_is_ve(&self, cpl: u8, index: Option<usize>) -> bool {
        let (switch, bit) = if cpl == 0 {
            (self.cpuid_supervisor_ve, 1)
        } else {
            (self.cpuid_user_ve, 2)
        };
        let control = index.and_then(|i| self.cpuid_control.get(i));
        switch != 0 || control.is_some_and(|c| c & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_td;

    #[test]
    fn preemption_timer_rounds_a_deadline_down_and_has_32_bits() {
        with_td(|_, vcpu, _| {
            let mut timer = |deadline, now, rate| {
                vcpu.tsc_deadline[1] = deadline;
                vcpu.preemption_timer(VmIndex::Vm1, now, rate)
            };
            assert_eq!(timer(TSC_DEADLINE_OFF, 0, 5), None);
            assert_eq!(timer(1000, 2000, 5), Some(0));
            // 31 ticks too early.
            assert_eq!(timer(1031, 1000, 5), Some(0));
            assert_eq!(timer(1032, 1000, 5), Some(1));
            assert_eq!(timer(1001, 1000, 0), Some(1));
            assert_eq!(timer(1 << 50, 0, 5), Some(u64::from(u32::MAX)));
        });
    }
}
