// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Exceptions inside the L2, events that L1 injects, and deliveries that are interrupted.

use super::Memory;
use crate::cpu::guest;
use crate::tdx::{leaf, rights, set_rights, vmcs};
use crate::vm::{INTERRUPT, Outcome, RFLAGS_IF, Vm, equal, reason, reg};

pub fn exceptions_reach_the_l2(vm: &mut Vm, _: &Memory) -> Outcome {
    const UNMAPPED: u64 = 0x7f00_0000_0123;
    vm.start()?;
    vm.call(guest::l2_ud());
    vm.expect_exception(6, 0)?;
    equal!(vm.get(reg::R9), guest::l2_ud());
    vm.set_return(guest::l2_ud() + 2);
    vm.call_returns()?;
    vm.call(guest::l2_int3());
    vm.expect_exception(3, 0)?;
    equal!(vm.get(reg::R9), guest::l2_int3() + 1);
    vm.call_returns()?;
    vm.call(guest::l2_divide());
    vm.expect_exception(0, 0)?;
    vm.set_return(guest::l2_nop());
    vm.call_returns()?;
    vm.set(reg::RSI, UNMAPPED);
    vm.call(guest::l2_read());
    vm.expect_exception(14, 0)?;
    equal!(vm.get(reg::R11), UNMAPPED);
    vm.set_return(guest::l2_nop());
    vm.call_returns()
}

pub fn injected_exception_has_its_error_code(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    vm.write(vmcs::ENTRY_EVENT, 0x8000_0b0d)?;
    vm.write(vmcs::ENTRY_ERROR_CODE, 0x55)?;
    vm.call(guest::l2_nop());
    let rip = vm.get(reg::RIP);
    vm.expect_exception(13, 0x55)?;
    equal!(vm.get(reg::R9), rip);
    // Consumed: it does not come again.
    equal!(vm.read(vmcs::ENTRY_EVENT) >> 31, 0);
    vm.call_returns()
}

pub fn injected_software_interrupt_returns_behind(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    vm.write(vmcs::ENTRY_EVENT, 0x8000_0480)?;
    vm.write(vmcs::ENTRY_LENGTH, 2)?;
    vm.call(guest::l2_nop());
    let rip = vm.get(reg::RIP);
    vm.expect_exception(0x80, 0)?;
    equal!(vm.get(reg::R9), rip + 2);
    vm.set_return(rip);
    vm.call_returns()
}

pub fn injected_interrupt(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    vm.pass_msr(0x80b, true, true)?;
    vm.set(reg::RFLAGS, vm.get(reg::RFLAGS) | RFLAGS_IF);
    vm.write(vmcs::ENTRY_EVENT, 0x8000_0041)?;
    vm.call(guest::l2_nop());
    vm.expect_interrupt(0x41)?;
    vm.call_returns()
}

pub fn injected_nmi_blocks_until_iret(vm: &mut Vm, _: &Memory) -> Outcome {
    const BLOCKING_BY_NMI: u64 = 8;
    const NMI_WINDOW: u64 = 1 << 22;
    vm.start()?;
    vm.write(vmcs::ENTRY_EVENT, 0x8000_0202)?;
    vm.call(guest::l2_nop());
    vm.expect_exception(2, 0)?;
    equal!(
        vm.read(vmcs::INTERRUPTIBILITY) & BLOCKING_BY_NMI,
        BLOCKING_BY_NMI
    );
    vm.write_bits(vmcs::PRIMARY_CONTROLS, NMI_WINDOW, NMI_WINDOW)?;
    vm.expect(reason::NMI_WINDOW)?;
    equal!(vm.read(vmcs::INTERRUPTIBILITY) & BLOCKING_BY_NMI, 0);
    vm.write_bits(vmcs::PRIMARY_CONTROLS, 0, NMI_WINDOW)?;
    vm.call_returns()
}

pub fn interrupt_window(vm: &mut Vm, _: &Memory) -> Outcome {
    const INTERRUPT_WINDOW: u64 = 1 << 2;
    vm.start()?;
    vm.write_bits(vmcs::PRIMARY_CONTROLS, INTERRUPT_WINDOW, INTERRUPT_WINDOW)?;
    vm.call(guest::l2_sti());
    vm.expect(reason::INTERRUPT_WINDOW)?;
    // After STI and the instruction in its shadow.
    equal!(vm.get(reg::RIP), guest::l2_sti() + 2);
    vm.write_bits(vmcs::PRIMARY_CONTROLS, 0, INTERRUPT_WINDOW)?;
    vm.call_returns()
}

/// Interrupts are disabled: what holds them back for an instruction is MOV SS, not STI.
pub fn exit_behind_mov_ss_can_be_entered_again(vm: &mut Vm, _: &Memory) -> Outcome {
    const BY_STI: u64 = 1;
    vm.start()?;
    vm.set(reg::RFLAGS, vm.get(reg::RFLAGS) & !RFLAGS_IF);
    vm.call(guest::l2_mov_ss());
    vm.expect(reason::CPUID)?;
    equal!(vm.read(vmcs::INTERRUPTIBILITY) & BY_STI, 0);
    vm.expect(reason::CPUID)?;
    vm.skip();
    vm.call_returns()
}

/// A stack page without rights, right under `page` + 4 KiB.
fn take_stack(vm: &mut Vm, memory: &Memory) -> Result<u64, crate::vm::Fail> {
    let page = memory.start + 0x20_0000;
    crate::tdx::call(leaf::MEM_PAGE_ACCEPT, page | 1, 0, 0, 0);
    equal!(set_rights(vm.number, page | 1, 0), 0);
    vm.invalidate = 1;
    let old = vm.get(reg::RSP);
    vm.set(reg::RSP, page + 0x800);
    Ok(old)
}

fn give_stack(vm: &mut Vm, memory: &Memory) -> Outcome {
    equal!(
        set_rights(vm.number, (memory.start + 0x20_0000) | 1, rights::ALL),
        0
    );
    vm.invalidate = 1;
    Ok(())
}

pub fn interrupted_delivery_is_reported(vm: &mut Vm, memory: &Memory) -> Outcome {
    vm.start()?;
    let stack = take_stack(vm, memory)?;
    vm.set(reg::RIP, guest::l2_ud());
    vm.expect(reason::EPT_VIOLATION)?;
    equal!(vm.exit[10] & 0xffff_ffff, 0x8000_0306);
    equal!(vm.exit[1] & 7, 2);
    give_stack(vm, memory)?;
    vm.write(vmcs::ENTRY_EVENT, vm.exit[10] & 0xffff_ffff)?;
    vm.expect_exception(6, 0)?;
    equal!(vm.get(reg::R9), guest::l2_ud());
    vm.set(reg::RSP, stack);
    Ok(())
}

pub fn interrupted_injection_is_reported(vm: &mut Vm, memory: &Memory) -> Outcome {
    vm.start()?;
    take_stack(vm, memory)?;
    vm.set(reg::RIP, guest::l2_nop());
    vm.write(vmcs::ENTRY_EVENT, 0x8000_0480)?;
    vm.write(vmcs::ENTRY_LENGTH, 2)?;
    vm.expect(reason::EPT_VIOLATION)?;
    equal!(vm.exit[10] & 0xffff_ffff, 0x8000_0480);
    equal!(vm.length(), 2);
    equal!(vm.get(reg::RIP), guest::l2_nop());
    give_stack(vm, memory)?;
    // An external interrupt in its place.
    vm.set(reg::RFLAGS, vm.get(reg::RFLAGS) | RFLAGS_IF);
    vm.write(vmcs::ENTRY_EVENT, 0x8000_0051)?;
    vm.expect_vmcall(INTERRUPT)?;
    equal!(vm.get(reg::R8), 0x51);
    Ok(())
}
