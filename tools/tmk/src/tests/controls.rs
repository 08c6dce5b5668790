// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Control-register masks and shadows, the task priority, and which exceptions leave.

use super::Memory;
use crate::cpu::guest;
use crate::tdx::vmcs;
use crate::vm::{Outcome, Vm, equal, reason, reg};

pub fn cr0_mask_and_shadow(vm: &mut Vm, _: &Memory) -> Outcome {
    const TS: u64 = 1 << 3;
    vm.start()?;
    vm.call(guest::l2_read_cr0());
    vm.call_returns()?;
    equal!(vm.get(reg::RSI), 0x8000_0021);
    // TS is the L2's: CLTS and LMSW stay inside.
    vm.set(reg::RSI, 0x8000_0021 | TS);
    vm.call(guest::l2_write_cr0());
    vm.call_returns()?;
    equal!(vm.read(vmcs::CR0) & TS, TS);
    vm.call(guest::l2_clts());
    vm.call_returns()?;
    equal!(vm.read(vmcs::CR0) & TS, 0);
    vm.call(guest::l2_lmsw());
    vm.call_returns()?;
    // TS is L1's and reads as 1.
    vm.write(vmcs::CR0_SHADOW, 0x20 | TS)?;
    vm.write(vmcs::CR0_MASK, 0x6000_0020 | TS)?;
    vm.call(guest::l2_read_cr0());
    vm.call_returns()?;
    equal!(vm.get(reg::RSI) & TS, TS);
    vm.call(guest::l2_clts());
    vm.expect_skip(reason::CR_ACCESS, 2)?;
    equal!(vm.exit[1] & 0x3f, 0x20);
    vm.call_returns()?;
    vm.set(reg::RSI, 0x8000_0021);
    vm.call(guest::l2_write_cr0());
    vm.expect_skip(reason::CR_ACCESS, 3)?;
    equal!(vm.exit[1] & 0xfff, 0x600);
    vm.call_returns()
}

pub fn cr4_mask_and_shadow(vm: &mut Vm, _: &Memory) -> Outcome {
    const PGE: u64 = 1 << 7;
    const VMXE: u64 = 1 << 13;
    vm.start()?;
    vm.call(guest::l2_read_cr4());
    vm.call_returns()?;
    equal!(vm.get(reg::RSI), 0x220);
    vm.set(reg::RSI, 0x220 | PGE);
    vm.call(guest::l2_write_cr4());
    vm.call_returns()?;
    equal!(vm.read(vmcs::CR4) & PGE, PGE);
    vm.set(reg::RSI, 0x220 | VMXE);
    vm.call(guest::l2_write_cr4());
    vm.expect_skip(reason::CR_ACCESS, 3)?;
    equal!(vm.exit[1] & 0xfff, 0x604);
    vm.call_returns()
}

pub fn cr8_is_the_task_priority(vm: &mut Vm, _: &Memory) -> Outcome {
    const TPR: u64 = 0x80;
    vm.start()?;
    vm.set(reg::RSI, 9);
    vm.call(guest::l2_write_cr8());
    vm.call_returns()?;
    equal!(vm.apic(TPR), 0x90);
    vm.set(reg::RSI, 0);
    vm.call(guest::l2_read_cr8());
    vm.call_returns()?;
    equal!(vm.get(reg::RSI), 9);
    Ok(())
}

pub fn exception_bitmap(vm: &mut Vm, _: &Memory) -> Outcome {
    const VALID: u64 = 1 << 31;
    vm.start()?;
    vm.write_bits(vmcs::EXCEPTION_BITMAP, 0x4049, 0xfffb_ffff)?;
    vm.call(guest::l2_ud());
    vm.expect(reason::EXCEPTION)?;
    equal!(vm.exit[9], VALID | 0x306);
    equal!(vm.get(reg::RIP), guest::l2_ud());
    vm.set(reg::RIP, guest::l2_ud() + 2);
    vm.call_returns()?;
    vm.call(guest::l2_int3());
    vm.expect_skip(reason::EXCEPTION, 1)?;
    equal!(vm.exit[9], VALID | 0x603);
    vm.call_returns()?;
    vm.call(guest::l2_divide());
    vm.expect(reason::EXCEPTION)?;
    equal!(vm.exit[9], VALID | 0x300);
    vm.set(reg::RIP, guest::l2_nop());
    vm.call_returns()?;
    // Software interrupts never leave.
    vm.call(guest::l2_int80());
    vm.expect_exception(0x80, 0)?;
    vm.call_returns()
}

const UNMAPPED: u64 = 0x7f00_0000_0123;

pub fn page_fault_filter(vm: &mut Vm, _: &Memory) -> Outcome {
    const PAGE_FAULT: u64 = 1 << 14;
    vm.start()?;
    vm.set(reg::RSI, UNMAPPED);
    vm.write_bits(vmcs::EXCEPTION_BITMAP, PAGE_FAULT, 0xfffb_ffff)?;
    vm.call(guest::l2_read());
    vm.expect(reason::EXCEPTION)?;
    equal!(vm.exit[9], 0x8000_0b0e);
    equal!(vm.exit[1], UNMAPPED);
    vm.set(reg::RIP, guest::l2_nop());
    vm.call_returns()?;
    // Only writes: mask and match of the W bit.
    vm.write(vmcs::PAGE_FAULT_MASK, 2)?;
    vm.write(vmcs::PAGE_FAULT_MATCH, 2)?;
    vm.call(guest::l2_read());
    vm.expect_exception(14, 0)?;
    equal!(vm.get(reg::R11), UNMAPPED);
    vm.set_return(guest::l2_nop());
    vm.call_returns()?;
    vm.call(guest::l2_write());
    vm.expect(reason::EXCEPTION)?;
    equal!(vm.exit[9], 0x2_8000_0b0e);
    Ok(())
}

pub fn trap_flag_steps(vm: &mut Vm, _: &Memory) -> Outcome {
    const DEBUG: u64 = 1 << 1;
    const SINGLE_STEP: u64 = 1 << 14;
    vm.start()?;
    vm.write_bits(vmcs::EXCEPTION_BITMAP, DEBUG, 0xfffb_ffff)?;
    vm.call(guest::l2_trap_flag());
    let mut steps = 0;
    loop {
        equal!(vm.enter(), 0);
        if vm.exit[0] & 0xffff_ffff != reason::EXCEPTION {
            break;
        }
        equal!(vm.exit[9] & 0xffff_ffff, 0x8000_0301);
        equal!(vm.exit[1] & SINGLE_STEP, SINGLE_STEP);
        steps += 1;
    }
    equal!(steps, 4);
    equal!(vm.exit[0] & 0xffff_ffff, reason::VMCALL);
    Ok(())
}
