// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Control-register exits of an L2: L1's, the module's, or a fault [ABI L2 CR accesses].
//!
//! Called from `l2_exit.rs`. L1's ownership is judged by the masks and shadows as L1 wrote them,
//! not by the effective ones.

use crate::Field;
use crate::l2_exit::{L2Exit, Route};
use crate::l2_state::{is_64_bit, step_rip};
use crate::td::TdConfig;
use crate::vcpu::L2Vm;

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_VMXE: u64 = 1 << 13;
const CR4_CET: u64 = 1 << 23;
/// Reserved bits of CR0 that a MOV can not change: 28:19, 17 and 15:6.
const CR0_IGNORED: u64 = 0x1ff8_0000 | 1 << 17 | 0xffc0;
/// CR0 bits LMSW can load.
const LMSW_BITS: u64 = 0xf;
/// IA32_VMX_CR0_FIXED0 without PE and PG, and FIXED1, of every processor with unrestricted guest.
const CR0_FIXED0: u64 = CR0_NE;
const CR0_FIXED1: u64 = 0xffff_ffff;

/// Decides on the access the qualification describes.
pub(crate) fn route(config: &TdConfig, l2: &mut L2Vm, exit: &L2Exit) -> Route {
    let q = exit.qualification;
    let route = match (q & 0xf, q >> 4 & 3) {
        (0, 0) => mov_to_cr0(l2, operand(l2, q)),
        (4, 0) => mov_to_cr4(config, l2, operand(l2, q)),
        (0, 3) => lmsw(l2, q >> 16 & 0xffff),
        _ => Route::L1,
    };
    if route == Route::Handled {
        step_rip(l2);
    }
    route
}

/// The general-purpose register the qualification names.
fn operand(l2: &L2Vm, qualification: u64) -> u64 {
    // CAST: four bits.
    let number = (qualification >> 8 & 0xf) as u8;
    let value = if number == 4 {
        l2.vmcs.get(Field::GuestRsp)
    } else {
        l2.gprs.get(number)
    };
    if is_64_bit(l2) {
        value
    } else {
        value & 0xffff_ffff
    }
}

/// Returns true if a bit that L1 owns would become different from its shadow.
fn changes_owned(l2: &L2Vm, mask: Field, shadow: Field, value: u64, bits: u64) -> bool {
    (value ^ l2.vmcs.get(shadow)) & l2.vmcs.get(mask) & bits != 0
}

fn mov_to_cr0(l2: &mut L2Vm, value: u64) -> Route {
    if changes_owned(l2, Field::Cr0Mask, Field::Cr0Shadow, value, u64::MAX) {
        return Route::L1;
    }
    let is_fixed_violated = !value & CR0_FIXED0 != 0 || value & !CR0_FIXED1 != 0;
    let pages_without_protection = value & (CR0_PG | CR0_PE) == CR0_PG;
    let has_cet = l2.vmcs.get(Field::GuestCr4) & CR4_CET != 0;
    if is_fixed_violated || pages_without_protection || (has_cet && value & CR0_WP == 0) {
        return Route::InjectGp;
    }
    if value & (CR0_NW | CR0_CD) != 0 {
        return Route::L1;
    }
    // Bits of L1's too: the L2 gets their shadows, which are what it wrote.
    let old = l2.vmcs.get(Field::GuestCr0);
    l2.vmcs.set(
        Field::GuestCr0,
        (old & CR0_IGNORED) | (value & !CR0_IGNORED) | CR0_ET,
    );
    Route::Handled
}

/// The module never performs a CR4 write: it faults, or it is L1's.
fn mov_to_cr4(config: &TdConfig, l2: &L2Vm, value: u64) -> Route {
    if changes_owned(l2, Field::Cr4Mask, Field::Cr4Shadow, value, u64::MAX) {
        return Route::L1;
    }
    let is_forbidden = value & !(config.cr4_allowed() | CR4_VMXE) != 0;
    let cet_without_wp = value & CR4_CET != 0 && l2.vmcs.get(Field::GuestCr0) & CR0_WP == 0;
    if is_forbidden || cet_without_wp {
        Route::InjectGp
    } else {
        Route::L1
    }
}

fn lmsw(l2: &mut L2Vm, source: u64) -> Route {
    let value = source & LMSW_BITS;
    if changes_owned(l2, Field::Cr0Mask, Field::Cr0Shadow, value, LMSW_BITS) {
        return Route::L1;
    }
    // LMSW can set PE, not clear it.
    let old = l2.vmcs.get(Field::GuestCr0);
    l2.vmcs
        .set(Field::GuestCr0, (old & !LMSW_BITS) | value | old & CR0_PE);
    Route::Handled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpa::VmIndex;
    use crate::testing::with_td;
    use crate::vcpu::Vcpu;

    /// An L2 whose L1 owns the given CR0 bits with a shadow of 0 and no CR4 bits.
    fn owning(vcpu: &mut Vcpu, config: &TdConfig, cr0: u64) {
        let vmcs = &mut vcpu.l2_mut(VmIndex::Vm1).vmcs;
        vmcs.set(Field::Cr0Mask, cr0);
        vmcs.recompute_cr0();
        vmcs.set(Field::Cr4Mask, 0);
        vmcs.recompute_cr4(config);
    }

    fn mov(vcpu: &mut Vcpu, config: &TdConfig, cr: u64, value: u64) -> Route {
        let l2 = vcpu.l2_mut(VmIndex::Vm1);
        l2.gprs.rbx = value;
        let exit = L2Exit {
            qualification: cr | 3 << 8,
            ..L2Exit::default()
        };
        route(config, l2, &exit)
    }

    #[test]
    fn owned_bits_go_to_l1_and_others_are_written() {
        with_td(|td, vcpu, _| {
            owning(vcpu, &td.config, CR0_NE);
            assert_eq!(mov(vcpu, &td.config, 0, 0x31), Route::L1);
            owning(vcpu, &td.config, 0);
            assert_eq!(mov(vcpu, &td.config, 0, 0x8005_0033), Route::Handled);
            let cr0 = vcpu.l2(VmIndex::Vm1).vmcs.get(Field::GuestCr0);
            assert_eq!(cr0, 0x8005_0033);
        });
    }

    #[test]
    fn faults_come_before_the_modules_own_bits() {
        with_td(|td, vcpu, _| {
            owning(vcpu, &td.config, 0);
            assert_eq!(mov(vcpu, &td.config, 0, CR0_CD | CR0_PE), Route::InjectGp);
            assert_eq!(mov(vcpu, &td.config, 0, CR0_PG | CR0_NE), Route::InjectGp);
            assert_eq!(
                mov(vcpu, &td.config, 0, CR0_CD | CR0_NE | CR0_PE),
                Route::L1
            );
            // Reserved low bits are ignored.
            assert_eq!(mov(vcpu, &td.config, 0, 0x31 | 1 << 7), Route::Handled);
        });
    }

    #[test]
    fn cr4_is_never_written_by_the_module() {
        with_td(|td, vcpu, _| {
            owning(vcpu, &td.config, 0);
            assert_eq!(mov(vcpu, &td.config, 4, 0x60), Route::L1);
            assert_eq!(mov(vcpu, &td.config, 4, 0x2040 | CR4_CET), Route::InjectGp);
            assert_eq!(mov(vcpu, &td.config, 3, 0x1000), Route::L1);
        });
    }

    #[test]
    fn lmsw_can_not_clear_pe() {
        with_td(|td, vcpu, _| {
            owning(vcpu, &td.config, 0);
            let l2 = vcpu.l2_mut(VmIndex::Vm1);
            let exit = L2Exit {
                qualification: 3 << 4 | 8 << 16,
                ..L2Exit::default()
            };
            assert_eq!(route(&td.config, l2, &exit), Route::Handled);
            assert_eq!(l2.vmcs.get(Field::GuestCr0), 0x29);
        });
    }

    #[test]
    fn shadows_of_owned_bits_become_real_when_the_module_writes_cr0() {
        with_td(|td, vcpu, _| {
            // L1 owns TS with a shadow of 0, and has set it: no write of the L2's may change that.
            owning(vcpu, &td.config, 8);
            let vmcs = &mut vcpu.l2_mut(VmIndex::Vm1).vmcs;
            vmcs.set(Field::GuestCr0, 0x39);
            assert_eq!(mov(vcpu, &td.config, 0, 0x39), Route::L1);
            assert_eq!(mov(vcpu, &td.config, 0, 0x31 | 1 << 7), Route::Handled);
            assert_eq!(vcpu.l2(VmIndex::Vm1).vmcs.get(Field::GuestCr0), 0x31);
        });
    }

    #[test]
    fn lmsw_is_compared_with_the_shadow_as_it_is() {
        with_td(|td, vcpu, _| {
            owning(vcpu, &td.config, 1);
            let l2 = vcpu.l2_mut(VmIndex::Vm1);
            l2.vmcs.set(Field::Cr0Shadow, 1);
            l2.vmcs.recompute_cr0();
            let exit = L2Exit {
                qualification: 3 << 4,
                ..L2Exit::default()
            };
            assert_eq!(route(&td.config, l2, &exit), Route::L1);
        });
    }
}
