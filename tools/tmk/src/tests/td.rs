// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Entry operands, calls of the L2 to the host, the other VMs, and the state nobody switches.

use super::Memory;
use crate::cpu::{self, guest};
use crate::tdx::{self, status};
use crate::vm::{Outcome, Vm, equal, reason, reg};

pub fn entry_without_virtual_apic_is_refused(vm: &mut Vm, _: &Memory) -> Outcome {
    const L2_VAPIC_GPA: u64 = 170;
    equal!(vm.enter(), status::OPERAND_INVALID);
    equal!(vm.exit[0] & 0xffff_ffff, L2_VAPIC_GPA);
    Ok(())
}

pub fn entry_operands_are_checked_in_order(vm: &mut Vm, _: &Memory) -> Outcome {
    let invalid = |operand| (status::OPERAND_INVALID << 32) | operand;
    let state = vm.state();
    // RDX is looked at before RCX.
    vm.enter_with(0, state + 8);
    equal!(vm.exit[0], invalid(2));
    vm.enter_with(0, state);
    equal!(vm.exit[0], invalid(1));
    vm.enter_with((1 << 52) | 4, state);
    equal!(vm.exit[0], invalid(1));
    vm.enter_with((1 << 54) | (1 << 52), state);
    equal!(vm.exit[0], invalid(1));
    vm.enter_with(1 << 52, state | (1 << 47));
    equal!(vm.exit[0], invalid(2));
    Ok(())
}

pub fn l2_tdvmcall_goes_to_the_host_if_l1_says_so(vm: &mut Vm, _: &Memory) -> Outcome {
    const ENABLE_TDVMCALL: u64 = 2;
    const GET_TD_VM_CALL_INFO: u64 = 0x1_0000;
    vm.start()?;
    let ask = |vm: &Vm, leaf| {
        vm.set(reg::RAX, leaf);
        vm.set(reg::RCX, 0xfc00);
        vm.set(reg::R10, 0);
        vm.set(reg::R11, GET_TD_VM_CALL_INFO);
        vm.set(reg::R12, 0);
        vm.set(reg::R13, 0x55);
        vm.set(reg::RIP, guest::l2_tdcall());
    };
    let rip = vm.get(reg::RIP);
    let stack = vm.get(reg::RSP);
    // A return address for the routine, which is entered behind the loop's back.
    vm.set(reg::RSP, stack - 8);
    cpu::poke(stack - 8, guest::l2_loop());
    ask(vm, 0);
    vm.expect(reason::TDCALL)?;
    equal!(
        tdx::write(tdx::l2_ctls_id(vm.number), ENABLE_TDVMCALL, 7),
        0
    );
    vm.expect_vmcall(crate::vm::LOOP)?;
    equal!(vm.get(reg::R10), 0);
    equal!(vm.get(reg::R13), 0);
    // Any other leaf is L1's all the same.
    vm.set(reg::RSP, stack - 8);
    cpu::poke(stack - 8, guest::l2_loop());
    ask(vm, 1);
    vm.expect(reason::TDCALL)?;
    vm.set(reg::RIP, rip);
    Ok(())
}

/// Registers the TDX module leaves alone: KERNEL_GS_BASE, STAR, LSTAR, FMASK, TSC_AUX.
const LEAKING: [u32; 5] = [
    0xc000_0102,
    0xc000_0081,
    0xc000_0082,
    0xc000_0084,
    0xc000_0103,
];

fn pass_leaking(vm: &Vm) -> Outcome {
    for index in LEAKING {
        vm.pass_msr(index, false, true)?;
        vm.pass_msr(index, true, true)?;
    }
    Ok(())
}

pub fn l1_state_leaks_into_the_l2(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    pass_leaking(vm)?;
    for (number, index) in (1..).zip(LEAKING) {
        let value = 0x1100 + number;
        cpu::wrmsr(index, value);
        vm.set(reg::RSI, u64::from(index));
        vm.call(guest::l2_rdmsr());
        vm.call_returns()?;
        equal!(vm.get(reg::RSI), value);
        equal!(cpu::rdmsr(index), value);
    }
    cpu::write_xmm3(0x1234_5678_9abc);
    vm.call(guest::l2_xmm());
    vm.set(reg::RSI, 0xfedc);
    vm.expect(reason::VMCALL)?;
    equal!(cpu::read_xmm3(), 0xfedc);
    Ok(())
}

pub fn l2_state_leaks_into_l1(vm: &mut Vm, _: &Memory) -> Outcome {
    const UNMAPPED: u64 = 0x7f00_0000_0456;
    vm.start()?;
    pass_leaking(vm)?;
    for (number, index) in (1..).zip(LEAKING) {
        let value = 0x2200 + number;
        vm.set(reg::RSI, u64::from(index));
        vm.set(reg::R12, value);
        vm.set(reg::R13, 0);
        vm.call(guest::l2_wrmsr());
        vm.call_returns()?;
        equal!(cpu::rdmsr(index), value);
    }
    vm.set(reg::RSI, 0x4321);
    vm.call(guest::l2_write_dr0());
    vm.call_returns()?;
    equal!(cpu::read_dr0(), 0x4321);
    cpu::write_cr2(0);
    vm.set(reg::RSI, UNMAPPED);
    vm.call(guest::l2_read());
    vm.expect_exception(14, 0)?;
    equal!(cpu::read_cr2(), UNMAPPED);
    vm.set_return(guest::l2_nop());
    vm.call_returns()
}

pub fn every_vm_runs(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    let (mut second, mut third) = (Vm::new(2), Vm::new(3));
    second.grant_image()?;
    third.grant_image()?;
    second.start()?;
    third.start()?;
    // Each keeps its own CR8, whichever ran in between.
    let vms = [vm, &mut second, &mut third];
    for vm in &vms {
        vm.set(reg::RSI, 2 * vm.number);
        vm.call(guest::l2_write_cr8());
    }
    for vm in vms {
        vm.call_returns()?;
        vm.set(reg::RSI, 0);
        vm.call(guest::l2_read_cr8());
        vm.call_returns()?;
        equal!(vm.get(reg::RSI), 2 * vm.number);
        equal!(vm.apic(0x80), 32 * vm.number);
    }
    Ok(())
}
