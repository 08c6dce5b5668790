// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! State that a TDX module does not switch: what one side leaves, the other finds
//! [ABI state not switched].

use super::Memory;
use crate::cpu::{self, guest, leaky};
use crate::tdx::vmcs;
use crate::vm::{Outcome, Vm, equal, reg};

/// KERNEL_GS_BASE, STAR, LSTAR, FMASK, TSC_AUX.
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

pub fn msrs_of_l1_are_found_by_the_l2(vm: &mut Vm, _: &Memory) -> Outcome {
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
    Ok(())
}

pub fn msrs_of_the_l2_are_found_by_l1_and_other_vms(vm: &mut Vm, _: &Memory) -> Outcome {
    let mut other = Vm::new(2);
    other.grant_image()?;
    vm.start()?;
    other.start()?;
    pass_leaking(vm)?;
    pass_leaking(&other)?;
    for (number, index) in (1..).zip(LEAKING) {
        let value = 0x2200 + number;
        vm.set(reg::RSI, u64::from(index));
        vm.set(reg::R12, value);
        vm.set(reg::R13, 0);
        vm.call(guest::l2_wrmsr());
        vm.call_returns()?;
        equal!(cpu::rdmsr(index), value);
        other.set(reg::RSI, u64::from(index));
        other.call(guest::l2_rdmsr());
        other.call_returns()?;
        equal!(other.get(reg::RSI), value);
    }
    Ok(())
}

pub fn debug_registers_leak_both_ways(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    leaky::write_drs([0x11, 0x22, 0x33, 0x44]);
    vm.call(guest::l2_read_drs());
    vm.call_returns()?;
    for (register, want) in [
        (reg::R8, 0x11),
        (reg::R9, 0x22),
        (reg::R10, 0x33),
        (reg::R11, 0x44),
    ] {
        equal!(vm.get(register), want);
        vm.set(register, want << 8);
    }
    vm.call(guest::l2_write_drs());
    vm.call_returns()?;
    for (got, want) in leaky::read_drs()
        .into_iter()
        .zip([0x1100, 0x2200, 0x3300, 0x4400])
    {
        equal!(got, want);
    }
    // DR7 is switched.
    equal!(vm.read(vmcs::DR7), 0x400);
    Ok(())
}

pub fn cr2_leaks_both_ways(vm: &mut Vm, _: &Memory) -> Outcome {
    const UNMAPPED: u64 = 0x7f00_0000_0456;
    vm.start()?;
    leaky::write_cr2(0x1234_5000);
    vm.call(guest::l2_read_cr2());
    vm.call_returns()?;
    equal!(vm.get(reg::RSI), 0x1234_5000);
    vm.set(reg::RSI, 0x5678_9000);
    vm.call(guest::l2_write_cr2());
    vm.call_returns()?;
    equal!(leaky::read_cr2(), 0x5678_9000);
    // And so does what a page fault of the L2 leaves there.
    vm.set(reg::RSI, UNMAPPED);
    vm.call(guest::l2_read());
    vm.expect_exception(14, 0)?;
    equal!(leaky::read_cr2(), UNMAPPED);
    vm.set_return(guest::l2_nop());
    vm.call_returns()
}

pub fn sse_registers_leak_both_ways(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    leaky::write_xmm3(0x1234_5678_9abc);
    vm.set(reg::RSI, 0xfedc);
    vm.call(guest::l2_xmm());
    vm.call_returns()?;
    equal!(vm.get(reg::RSI), 0x1234_5678_9abc);
    equal!(leaky::read_xmm3(), 0xfedc);
    Ok(())
}

pub fn avx_registers_and_xcr0_leak_both_ways(vm: &mut Vm, _: &Memory) -> Outcome {
    const OSXSAVE: u64 = 1 << 18;
    vm.start()?;
    vm.write(vmcs::CR4, 0x2040 | 0x220 | OSXSAVE)?;
    for xcr0 in [3, 7] {
        leaky::grant_state(xcr0);
        vm.call(guest::l2_xgetbv());
        vm.call_returns()?;
        equal!(vm.get(reg::RSI), xcr0);
    }
    leaky::write_ymm4(0xaaaa_5555_1234);
    vm.set(reg::RSI, 0x7777_8888);
    vm.call(guest::l2_ymm());
    vm.call_returns()?;
    equal!(vm.get(reg::RSI), 0xaaaa_5555_1234);
    equal!(leaky::read_ymm4(), 0x7777_8888);
    // The L2 can't change XCR0: XSETBV exits (exits.unconditional_exits).
    equal!(leaky::read_xcr0(), 7);
    leaky::grant_state(1);
    Ok(())
}
