// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! RDMSR and WRMSR exits of an L2: L1's, the module's, or a fault [ABI L2 MSR accesses].
//!
//! Called from `l2_exit.rs`; the table is in `msr.rs`.

use crate::Field;
use crate::gpa::VmIndex;
use crate::l2_exit::Route;
use crate::l2_state::step_rip;
use crate::machine::Machine;
use crate::msr::{
    self, Access, Action, DEBUGCTL, DEBUGCTL_TR, DEBUGCTL_TR_BTS, DEBUGCTL_VALID, Direction, EFER,
    EFER_CHANGEABLE, EFER_LMA, MsrAction, XSS,
};
use crate::msr_reduced;
use crate::td::Td;
use crate::vcpu::{L2Vm, Vcpu};

/// DEBUGCTL bit that belongs to the platform and is kept.
const DEBUGCTL_PLATFORM: u64 = 1 << 13;

/// Decides on an access to the MSR in ECX.
pub(crate) fn route<M: Machine>(
    td: &Td<'_>,
    vcpu: &mut Vcpu,
    vm: VmIndex,
    access: Access,
    machine: &mut M,
) -> Route {
    let mut msrs = vcpu.msrs;
    let l2 = vcpu.l2_mut(vm);
    // CAST: ECX is the low half of RCX.
    let index = l2.gprs.rcx as u32;
    if l2.l1_intercepts_msr(index, access) {
        return Route::L1;
    }
    let value = l2.gprs.rdx << 32 | l2.gprs.rax & 0xffff_ffff;
    let direction = match access {
        Access::Read => Direction::Read,
        Access::Write => Direction::Write(value),
    };
    let route = match msr::action(td, index, access) {
        Action::Gp => Route::InjectGp,
        // A passed-through MSR does not exit, unless the machine had to intercept it.
        Action::Ve(_) | Action::Pass => Route::L1,
        Action::Emulated => match msr_reduced::emulate(td, &mut msrs, index, direction) {
            Some(MsrAction::Value(value)) => read_as(l2, value),
            Some(MsrAction::Written) => Route::Handled,
            Some(MsrAction::Gp) => Route::InjectGp,
            Some(_) => Route::L1,
            None => match access {
                Access::Read => read(td, l2, index),
                Access::Write => write(td, l2, (index, value), machine),
            },
        },
    };
    if route == Route::Handled {
        step_rip(l2);
    }
    vcpu.msrs = msrs;
    route
}

fn read_as(l2: &mut L2Vm, value: u64) -> Route {
    l2.gprs.rax = value & 0xffff_ffff;
    l2.gprs.rdx = value >> 32;
    Route::Handled
}

fn read(td: &Td<'_>, l2: &mut L2Vm, index: u32) -> Route {
    if index == DEBUGCTL {
        return read_as(l2, l2.vmcs.get(Field::GuestDebugctl) & !DEBUGCTL_PLATFORM);
    }
    match msr::virtual_value(&td.config, index) {
        Some(value) => read_as(l2, value),
        // VMX capabilities are for L1 only.
        None if td.reduces_ve() => Route::InjectGp,
        None => Route::L1,
    }
}

fn write<M: Machine>(
    td: &Td<'_>,
    l2: &mut L2Vm,
    (index, value): (u32, u64),
    machine: &mut M,
) -> Route {
    match index {
        XSS if value & !td.config.xss_allowed() != 0 => Route::InjectGp,
        XSS => {
            machine.write_xss(value);
            Route::Handled
        }
        DEBUGCTL if value & !DEBUGCTL_VALID != 0 => Route::InjectGp,
        DEBUGCTL if value & DEBUGCTL_TR_BTS == DEBUGCTL_TR => Route::L1,
        DEBUGCTL => {
            let kept = l2.vmcs.get(Field::GuestDebugctl) & DEBUGCTL_PLATFORM;
            l2.vmcs
                .set(Field::GuestDebugctl, (value & !DEBUGCTL_PLATFORM) | kept);
            Route::Handled
        }
        EFER => write_efer(l2, value),
        _ => Route::InjectGp,
    }
}

fn write_efer(l2: &mut L2Vm, value: u64) -> Route {
    let old = l2.vmcs.get(Field::GuestEfer);
    if (old ^ value) & !(EFER_CHANGEABLE | EFER_LMA) != 0 {
        return Route::L1;
    }
    l2.vmcs.set(
        Field::GuestEfer,
        (value & EFER_CHANGEABLE) | (old & !EFER_CHANGEABLE),
    );
    Route::Handled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeMachine, with_td};

    fn access(
        td: &Td<'_>,
        vcpu: &mut Vcpu,
        m: &mut FakeMachine,
        index: u64,
        write: Option<u64>,
    ) -> Route {
        let l2 = vcpu.l2_mut(VmIndex::Vm1);
        l2.msr_bitmap.fill(0);
        l2.vmcs.set(Field::ExitInstructionLength, 2);
        l2.gprs.rcx = index;
        if let Some(value) = write {
            l2.gprs.rax = value & 0xffff_ffff | 0xdead << 32;
            l2.gprs.rdx = value >> 32;
        }
        route(
            td,
            vcpu,
            VmIndex::Vm1,
            if write.is_some() {
                Access::Write
            } else {
                Access::Read
            },
            m,
        )
    }

    #[test]
    fn default_bitmap_sends_everything_to_l1() {
        with_td(|td, vcpu, m| {
            for index in [0x10, 0x9b, 0x1d9, 0xc000_0080, 0x4000_0000, 0x2000] {
                vcpu.l2_mut(VmIndex::Vm1).gprs.rcx = index;
                let vm = VmIndex::Vm1;
                assert_eq!(route(td, vcpu, vm, Access::Write, m), Route::L1);
                let l2 = vcpu.l2(vm);
                assert!(l2.intercepts_msr(td, index as u32, Access::Read));
            }
        });
    }

    #[test]
    fn cleared_bitmap_leaves_the_tables_decision() {
        with_td(|td, vcpu, m| {
            assert_eq!(access(td, vcpu, m, 0x9b, None), Route::InjectGp);
            assert_eq!(access(td, vcpu, m, 0x830, Some(0)), Route::L1);
            assert_eq!(access(td, vcpu, m, 0x4000_0000, None), Route::L1);
            assert_eq!(access(td, vcpu, m, 0x480, None), Route::L1);
            let l2 = vcpu.l2(VmIndex::Vm1);
            assert!(!l2.intercepts_msr(td, 0x10, Access::Read));
            assert!(l2.intercepts_msr(td, 0x10, Access::Write));
            assert!(l2.intercepts_msr(td, 0x830, Access::Write));
        });
    }

    #[test]
    fn efer_write_of_l2_steps_over_it_and_nxe_is_l1s() {
        with_td(|td, vcpu, m| {
            let rip = |vcpu: &Vcpu| vcpu.l2(VmIndex::Vm1).vmcs.get(Field::GuestRip);
            let before = rip(vcpu);
            assert_eq!(
                access(td, vcpu, m, 0xc000_0080, Some(0x801)),
                Route::Handled
            );
            assert_eq!(vcpu.l2(VmIndex::Vm1).vmcs.get(Field::GuestEfer), 0x801);
            assert_eq!(rip(vcpu), before + 2);
            assert_eq!(access(td, vcpu, m, 0xc000_0080, Some(1)), Route::L1);
            assert_eq!(rip(vcpu), before + 2);
        });
    }

    #[test]
    fn debugctl_is_emulated_and_checked() {
        with_td(|td, vcpu, m| {
            let mut set = |v| access(td, vcpu, m, 0x1d9, Some(v));
            assert_eq!(set(0x20), Route::InjectGp);
            assert_eq!(set(0x40), Route::L1);
            assert_eq!(set(0x2001), Route::Handled);
            assert_eq!(access(td, vcpu, m, 0x1d9, None), Route::Handled);
            assert_eq!(vcpu.l2(VmIndex::Vm1).gprs.rax, 1);
        });
    }

    #[test]
    fn xss_of_l2_is_loaded_or_refused() {
        with_td(|td, vcpu, m| {
            assert_eq!(access(td, vcpu, m, 0xda0, Some(1 << 8)), Route::InjectGp);
            assert_eq!(access(td, vcpu, m, 0xda0, Some(0)), Route::Handled);
            assert_eq!(m.xss, Some(0));
        });
    }
}
