// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Corner cases of the virtual APIC: priorities within a class, nesting, the end of interrupts
//! that are not in service, the task priority [SDM3 30.1, 30.2].

use super::Memory;
use super::interrupts::{EOI, IRR, ISR, PPR, enable_interrupts, start};
use crate::cpu::guest;
use crate::tdx::vmcs;
use crate::vm::{Outcome, Vm, equal, reason, reg};

const TPR: u64 = 0x80;
const TPR_MSR: u32 = 0x808;
const PPR_MSR: u32 = 0x80a;

/// Makes the L2 call WRMSR.
fn write_msr(vm: &Vm, index: u32, value: u64) {
    vm.set(reg::RSI, u64::from(index));
    vm.set(reg::R12, value);
    vm.set(reg::R13, 0);
    vm.call(guest::l2_wrmsr());
}

/// The L2 takes an interrupt of this vector and stops in the handler, before its EOI.
fn in_service(vm: &mut Vm, vector: u64) -> Outcome {
    vm.request(vector);
    vm.set_interrupt_status(vector);
    vm.call(guest::l2_sti());
    vm.expect_interrupt(vector)?;
    equal!(vm.interrupt_status(), vector << 8);
    Ok(())
}

/// Another vector is requested while one is in service.
fn request_also(vm: &Vm, vector: u64) {
    vm.request(vector);
    vm.set_interrupt_status((vm.interrupt_status() & 0xff00) | vector);
}

pub fn same_class_waits_for_the_eoi(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    in_service(vm, 0x41)?;
    request_also(vm, 0x4f);
    enable_interrupts(vm);
    // Not now, but right after the EOI of 0x41, still in its handler.
    vm.expect_interrupt(0x4f)?;
    equal!(vm.interrupt_status(), 0x4f00);
    equal!(vm.apic(ISR + 0x20), 1 << 15);
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0);
    Ok(())
}

pub fn higher_class_nests_and_its_eoi_uncovers_the_lower(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    vm.write(vmcs::EOI_EXIT_BITMAP_0 + 2, 1 << (0x61 - 64))?;
    in_service(vm, 0x41)?;
    request_also(vm, 0x61);
    enable_interrupts(vm);
    vm.expect_interrupt(0x61)?;
    equal!(vm.interrupt_status(), 0x6100);
    equal!(vm.apic(ISR + 0x20), 2);
    equal!(vm.apic(ISR + 0x30), 2);
    equal!(vm.apic(PPR), 0x60);
    vm.expect(reason::VIRTUALIZED_EOI)?;
    equal!(vm.exit[1], 0x61);
    equal!(vm.interrupt_status(), 0x4100);
    equal!(vm.apic(ISR + 0x30), 0);
    equal!(vm.apic(PPR), 0x40);
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0);
    equal!(vm.apic(ISR + 0x20), 0);
    equal!(vm.apic(PPR), 0);
    Ok(())
}

pub fn eoi_without_an_interrupt_in_service(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    write_msr(vm, EOI, 0);
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0);
    equal!(vm.apic(PPR), 0);
    // The vector is SVI, which is 0, and its bit in the bitmap counts.
    vm.write(vmcs::EOI_EXIT_BITMAP_0, 1)?;
    write_msr(vm, EOI, 0);
    vm.expect(reason::VIRTUALIZED_EOI)?;
    equal!(vm.exit[1], 0);
    vm.call_returns()
}

pub fn two_in_one_class_end_one_by_one(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    // As if both had been delivered before, the higher one last.
    crate::cpu::poke32(vm.vapic() + ISR + 0x20, (1 << 1) | (1 << 5));
    vm.set_interrupt_status(0x4500);
    write_msr(vm, EOI, 0);
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0x4100);
    equal!(vm.apic(ISR + 0x20), 2);
    equal!(vm.apic(PPR), 0x40);
    write_msr(vm, EOI, 0);
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0);
    Ok(())
}

pub fn priority_is_the_higher_of_task_and_service(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    vm.pass_msr(PPR_MSR, false, true)?;
    vm.pass_msr(TPR_MSR, true, true)?;
    let read_ppr = |vm: &mut Vm| {
        vm.set(reg::RSI, u64::from(PPR_MSR));
        vm.call(guest::l2_rdmsr());
        vm.call_returns()
    };
    // In the class in service the task priority counts, with its low half; below it does not.
    for (tpr, service, want) in [
        (0x45, 0x4100, 0x45),
        (0x35, 0x4100, 0x40),
        (0x5f, 0x4100, 0x5f),
        (0x45, 0, 0x45),
        (0x0f, 0, 0x0f),
    ] {
        vm.set_interrupt_status(service);
        write_msr(vm, TPR_MSR, tpr);
        vm.call_returns()?;
        equal!(vm.apic(TPR), tpr);
        read_ppr(vm)?;
        equal!(vm.get(reg::RSI), want);
        equal!(vm.apic(PPR), want);
    }
    Ok(())
}

pub fn task_priority_by_msr_lets_an_interrupt_in(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    vm.pass_msr(TPR_MSR, true, true)?;
    write_msr(vm, TPR_MSR, 0x40);
    vm.call_returns()?;
    enable_interrupts(vm);
    vm.request(0x4f);
    vm.set_interrupt_status(0x4f);
    // The task priority is of the same class, which blocks it.
    vm.call(guest::l2_nop());
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0x4f);
    write_msr(vm, TPR_MSR, 0x3f);
    vm.expect_interrupt(0x4f)?;
    vm.call_returns()
}

pub fn class_zero_is_never_delivered(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    vm.request(0x0f);
    vm.set_interrupt_status(0x0f);
    vm.call(guest::l2_sti());
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0x0f);
    equal!(vm.apic(IRR), 1 << 15);
    equal!(vm.apic(ISR), 0);
    Ok(())
}

pub fn request_without_rvi_is_not_seen(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    vm.request(0x41);
    vm.call(guest::l2_sti());
    vm.call_returns()?;
    equal!(vm.apic(IRR + 0x20), 2);
    equal!(vm.interrupt_status(), 0);
    Ok(())
}
