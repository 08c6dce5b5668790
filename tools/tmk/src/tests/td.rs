// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Entry operands, calls of the L2 to the host, the other VMs. State that nothing switches:
//! `leaks.rs`.

use super::Memory;
use crate::cpu::{self, guest};
use crate::host;
use crate::tdx::{self, leaf, status, vmcs};
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
    // RDX is checked before RCX.
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
    // A return address for the routine, which is not entered through the loop.
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

pub fn host_resumes_l1_after_a_call_of_the_l2(vm: &mut Vm, _: &Memory) -> Outcome {
    const ENABLE_TDVMCALL: u64 = 2;
    const GET_TD_VM_CALL_INFO: u64 = 0x1_0000;
    const EXITS: u64 = 2;
    const HOST_ROUTED_TDVMCALL: u64 = 0x1101;
    vm.start()?;
    equal!(
        tdx::write(tdx::l2_ctls_id(vm.number), ENABLE_TDVMCALL, 7),
        0
    );
    // The next run is not preempted, the one after it is as soon as possible.
    host::ask(EXITS, (1 << 16) | 1);
    let stack = vm.get(reg::RSP) - 8;
    vm.set(reg::RSP, stack);
    cpu::poke(stack, guest::l2_loop());
    vm.set(reg::RAX, 0);
    vm.set(reg::RCX, 0xfc00);
    vm.set(reg::R10, 0);
    vm.set(reg::R11, GET_TD_VM_CALL_INFO);
    vm.set(reg::R12, 0);
    vm.set(reg::R13, 0x55);
    vm.set(reg::RIP, guest::l2_tdcall());
    equal!(vm.enter(), HOST_ROUTED_TDVMCALL);
    equal!(vm.exit[0] & 0xffff_ffff, reason::TDCALL);
    // The call is complete: the results are set and RIP is after it.
    equal!(vm.get(reg::RIP), guest::l2_tdcall() + 4);
    equal!(vm.get(reg::R13), 0);
    vm.call_returns()
}

pub fn every_vm_runs(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    let (mut second, mut third) = (Vm::new(2), Vm::new(3));
    second.grant_image()?;
    third.grant_image()?;
    second.start()?;
    third.start()?;
    // Each VM keeps its own CR8, whichever ran in between.
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

pub fn each_vm_has_its_own_controls(vm: &mut Vm, _: &Memory) -> Outcome {
    const PAT: u32 = 0x277;
    const PAUSE: u64 = 1 << 30;
    let (mut second, mut third) = (Vm::new(2), Vm::new(3));
    second.grant_image()?;
    third.grant_image()?;
    vm.start()?;
    second.start()?;
    third.start()?;
    // VM 2 may read PAT, VM 3 exits at PAUSE, VM 1 does neither.
    second.pass_msr(PAT, false, true)?;
    third.write_bits(vmcs::PRIMARY_CONTROLS, PAUSE, PAUSE)?;
    let vms = [vm, &mut second, &mut third];
    for vm in vms {
        vm.set(reg::RSI, u64::from(PAT));
        vm.call(guest::l2_rdmsr());
        if vm.number != 2 {
            vm.expect_skip(reason::RDMSR, 2)?;
        }
        vm.call_returns()?;
        vm.call(guest::l2_pause());
        if vm.number == 3 {
            vm.expect_skip(40, 2)?;
        }
        vm.call_returns()?;
    }
    Ok(())
}

pub fn interrupts_of_vms_do_not_mix(vm: &mut Vm, _: &Memory) -> Outcome {
    const EOI: u32 = 0x80b;
    let (mut second, mut third) = (Vm::new(2), Vm::new(3));
    second.grant_image()?;
    third.grant_image()?;
    let vms = [vm, &mut second, &mut third];
    for vm in vms {
        vm.start()?;
        vm.pass_msr(EOI, true, true)?;
        let vector = 0x40 + vm.number;
        vm.request(vector);
        vm.set_interrupt_status(vector);
        vm.call(guest::l2_sti());
        vm.expect_interrupt(vector)?;
        equal!(vm.interrupt_status(), vector << 8);
        vm.call_returns()?;
        equal!(vm.interrupt_status(), 0);
    }
    Ok(())
}

pub fn system_fields_come_as_a_list(_: &mut Vm, memory: &Memory) -> Outcome {
    const SYS_RDALL: u64 = 12;
    const SYS_RD: u64 = 11;
    let page = memory.start + 0x20_0000;
    // Accepted already if another test ran first, which is no error.
    tdx::call(leaf::MEM_PAGE_ACCEPT, page | 1, 0, 0, 0);
    let out = tdx::call(SYS_RDALL, 0, page, u64::MAX, 0);
    equal!(out[0], 0);
    equal!(out[8], u64::MAX);
    // Header, then the first sequence: an id, and the values of its fields.
    let first = tdx::call(SYS_RD, 0, u64::MAX, 0, 0)[2];
    equal!(cpu::peek(page + 8), first);
    equal!(cpu::peek(page + 16), tdx::call(SYS_RD, 0, first, 0, 0)[8]);
    equal!(cpu::peek(page + (cpu::peek(page) & 0xffff)), 0);
    equal!(
        tdx::call(SYS_RDALL, 0, page + 8, u64::MAX, 0)[0],
        (status::OPERAND_INVALID << 32) | 2
    );
    Ok(())
}

pub fn bad_control_fields_fail_the_entry(vm: &mut Vm, _: &Memory) -> Outcome {
    const L2_VM_ENTRY_FAILED: u64 = 0x8000_1103;
    const CR3_TARGET_COUNT: u64 = 0x400a;
    vm.start()?;
    let rip = vm.get(reg::RIP);
    vm.write(CR3_TARGET_COUNT, 5)?;
    equal!(vm.enter(), L2_VM_ENTRY_FAILED);
    equal!(vm.get(reg::RIP), rip);
    vm.write(CR3_TARGET_COUNT, 0)?;
    vm.call(guest::l2_nop());
    vm.call_returns()
}

pub fn leaves_that_the_module_does_not_virtualize_are_ve(_: &mut Vm, _: &Memory) -> Outcome {
    /// CPUID_CONTROL of leaf 7, subleaf 0: the fifth of the module's table.
    const CONTROL_OF_LEAF_7: u64 = 0xa120_0000_0000_0005;
    const FOR_THE_KERNEL: u64 = 1;
    let ve = |leaf, subleaf| {
        cpu::catch_ve(|| {
            cpu::cpuid(leaf, subleaf);
        })
    };
    for (leaf, subleaf) in [
        (2, 0),
        (0xb, 0),
        (4, 5),
        (7, 3),
        (0x4000_0000, 0),
        (0x8000_0002, 0),
    ] {
        equal!(ve(leaf, subleaf).unwrap_or(0), reason::CPUID);
    }
    for (leaf, subleaf) in [
        (0, 0),
        (4, 4),
        (7, 2),
        (0x21, 0),
        (0x8000_0001, 0),
        (0x24, 0),
    ] {
        equal!(u64::from(ve(leaf, subleaf).is_some()), 0);
    }
    equal!(u64::from(cpu::cpuid(0x8000_0000, 0).eax), 0x8000_0008);
    // L1 can have a #VE for others too.
    equal!(tdx::write(CONTROL_OF_LEAF_7, FOR_THE_KERNEL, 3), 0);
    equal!(ve(7, 0).unwrap_or(0), reason::CPUID);
    equal!(u64::from(ve(7, 1).is_some()), 0);
    equal!(tdx::write(CONTROL_OF_LEAF_7, 0, 3), 0);
    equal!(u64::from(ve(7, 0).is_some()), 0);
    Ok(())
}
