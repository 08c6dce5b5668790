// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a TDX module of the 2.0 line has besides (`emu.feature_level=2`).

use super::Memory;
use super::exits::access_msr;
use crate::cpu::{self, guest, peek, poke, rdmsr};
use crate::host;
use crate::tdx::{self, leaf, status};
use crate::vm::{Outcome, Vm, equal, reason, reg};

const VM_RD: u64 = 7;
const VM_WR: u64 = 8;
const SYS_RD: u64 = 11;
const MR_KEY_GET: u64 = 29;
/// Action of the debug port: let entries fail.
const FAILED_ENTRIES: u64 = 17;

const TD_CTLS: u64 = 0x1110_0003_0000_0017;
const FEATURE_PARAVIRT_CTRL: u64 = 0x9110_0003_0000_0022;
const REDUCE_VE: u64 = 1 << 3;
const LOCK: u64 = 1 << 63;
const PARAVIRT_MTRR: u64 = 1 << 4;

/// Categories of #VE.
const CONFIGURABLE: u64 = 0x10 << 32;
const NOT_CONFIGURABLE: u64 = 0x11 << 32;

const MSR_PLATFORM_ID: u32 = 0x17;
const MSR_APIC_BASE: u32 = 0x1b;
const MSR_TSC_ADJUST: u32 = 0x3b;
const MSR_BIOS_SIGN_ID: u32 = 0x8b;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;

fn write_field(id: u64, value: u64, mask: u64) -> u64 {
    tdx::call(VM_WR, 0, id, value, mask)[0]
}

fn ve_of_rdmsr(index: u32) -> u64 {
    let read = || {
        rdmsr(index);
    };
    cpu::catch_ve_with_category(read).unwrap_or(0)
}

fn ve_of_cpuid(leaf: u32) -> u64 {
    let read = || {
        cpu::cpuid(leaf, 0);
    };
    cpu::catch_ve_with_category(read).unwrap_or(0)
}

pub fn version_is_2_0(_: &mut Vm, _: &Memory) -> Outcome {
    const MINOR_VERSION: u64 = 0x0800_0001_0000_0003;
    const MAJOR_VERSION: u64 = 0x0800_0001_0000_0004;
    equal!(tdx::call(SYS_RD, 0, MAJOR_VERSION, 0, 0)[8], 2);
    equal!(tdx::call(SYS_RD, 0, MINOR_VERSION, 0, 0)[8], 0);
    Ok(())
}

pub fn categories_of_ve_are_told(_: &mut Vm, _: &Memory) -> Outcome {
    equal!(ve_of_rdmsr(MSR_TSC_ADJUST), CONFIGURABLE | reason::RDMSR);
    equal!(ve_of_rdmsr(MSR_APIC_BASE), NOT_CONFIGURABLE | reason::RDMSR);
    equal!(ve_of_cpuid(6), CONFIGURABLE | reason::CPUID);
    // The version before has no such thing.
    let ve = cpu::catch_ve(|| {
        rdmsr(MSR_TSC_ADJUST);
    });
    equal!(ve.unwrap_or(0), reason::RDMSR);
    Ok(())
}

pub fn reduction_leaves_what_l1_asks_for(_: &mut Vm, _: &Memory) -> Outcome {
    equal!(write_field(TD_CTLS, REDUCE_VE, REDUCE_VE), 0);
    equal!(u64::from(cpu::cpuid(6, 0).eax), 4);
    equal!(u64::from(cpu::cpuid(0xc, 0).eax), 0);
    equal!(rdmsr(MSR_BIOS_SIGN_ID), 0xffff_ffff);
    for index in [MSR_TSC_ADJUST, MSR_MTRR_DEF_TYPE] {
        equal!(u64::from(cpu::rdmsr_faults(index)), 1);
    }
    for index in [MSR_PLATFORM_ID, MSR_APIC_BASE] {
        equal!(ve_of_rdmsr(index), NOT_CONFIGURABLE | reason::RDMSR);
    }
    // Memory types are the host's business again, if L1 wants that.
    let mtrr = |value| write_field(FEATURE_PARAVIRT_CTRL, value, PARAVIRT_MTRR);
    const CPUID_MTRR: u32 = 1 << 12;
    equal!(u64::from(cpu::cpuid(1, 0).edx & CPUID_MTRR), 0);
    equal!(mtrr(PARAVIRT_MTRR), 0);
    equal!(u64::from(cpu::cpuid(1, 0).edx & CPUID_MTRR), 1 << 12);
    equal!(ve_of_rdmsr(MSR_MTRR_DEF_TYPE), CONFIGURABLE | reason::RDMSR);
    equal!(mtrr(0), 0);
    equal!(write_field(TD_CTLS, 0, REDUCE_VE), 0);
    equal!(ve_of_rdmsr(MSR_TSC_ADJUST), CONFIGURABLE | reason::RDMSR);
    Ok(())
}

/// The entry that follows fails, and L1 is told that `by` was the one who entered.
fn expect_failure(vm: &mut Vm, by: u64) -> Outcome {
    const L2_VM_ENTRY_FAILED: u64 = 0x8000_1103;
    const NO_REASON: u64 = 0x8000_ffff;
    const EEQ_VM_ENTRY_FAILURE: u64 = 7;
    equal!(vm.enter(), L2_VM_ENTRY_FAILED);
    equal!(vm.exit[0] & 0xffff_ffff, NO_REASON);
    equal!(vm.exit[1] | vm.exit[2] | vm.exit[8] | vm.exit[11], 0);
    equal!(vm.exit[13], (by << 32) | EEQ_VM_ENTRY_FAILURE);
    Ok(())
}

pub fn failed_entries_say_whose_they_were(vm: &mut Vm, _: &Memory) -> Outcome {
    const BY_HOST: u64 = 8;
    const BY_L1: u64 = 9;
    const BY_MODULE: u64 = 10;
    const CR3_TARGET_COUNT: u64 = 0x400a;
    const SMM_MONITOR_CTL: u32 = 0x9b;
    const ENABLE_TDVMCALL: u64 = 2;
    const GET_TD_VM_CALL_INFO: u64 = 0x1_0000;
    vm.grant_image()?;
    vm.write(tdx::vmcs::VIRTUAL_APIC_ADDRESS, vm.vapic())?;
    vm.start()?;
    vm.write(CR3_TARGET_COUNT, 5)?;
    expect_failure(vm, BY_L1)?;
    vm.write(CR3_TARGET_COUNT, 0)?;
    // The module makes an exception of it, and enters the L2 again.
    vm.pass_msr(SMM_MONITOR_CTL, false, true)?;
    access_msr(vm, guest::l2_rdmsr, SMM_MONITOR_CTL);
    host::ask(FAILED_ENTRIES, 1);
    expect_failure(vm, BY_MODULE)?;
    vm.expect_exception(13, 0)?;
    vm.set_return(guest::l2_nop());
    vm.call_returns()?;
    // The host gets a call of the L2, and enters it again.
    equal!(
        tdx::write(tdx::l2_ctls_id(vm.number), ENABLE_TDVMCALL, 7),
        0
    );
    let stack = vm.get(reg::RSP) - 8;
    vm.set(reg::RSP, stack);
    poke(stack, guest::l2_loop());
    vm.set(reg::RAX, 0);
    vm.set(reg::RCX, 0xfc00);
    vm.set(reg::R10, 0);
    vm.set(reg::R11, GET_TD_VM_CALL_INFO);
    vm.set(reg::R12, 0);
    vm.set(reg::RIP, guest::l2_tdcall());
    host::ask(FAILED_ENTRIES, 1);
    expect_failure(vm, BY_HOST)?;
    equal!(vm.get(reg::RIP), guest::l2_tdcall() + 4);
    vm.call_returns()
}

/// The key for a request with this policy, in four words.
fn key(request: u64, policy: u64) -> Result<[u64; 4], u64> {
    const SIZE_256: u64 = 1 << 1;
    for word in 0..16 {
        poke(request + 8 * word, 0);
    }
    poke(request, SIZE_256 << 24);
    poke(request + 8, policy);
    let to = request + 0x100;
    let answer = tdx::call(MR_KEY_GET, request, to, 0, 0);
    if answer[0] != 0 {
        return Err(answer[0]);
    }
    Ok(core::array::from_fn(|word| peek(to + 8 * word as u64)))
}

pub fn key_follows_a_measurement_that_the_policy_names(_: &mut Vm, memory: &Memory) -> Outcome {
    const RTMR3: u64 = 1 << 35;
    const RESERVED: u64 = 1 << 63;
    let page = memory.start;
    equal!(tdx::call(leaf::MEM_PAGE_ACCEPT, page, 0, 0, 0)[0], 0);
    let invalid = (status::OPERAND_INVALID << 32) | 1;
    equal!(key(page, RESERVED).unwrap_err(), invalid);
    let get = |policy| key(page, policy).unwrap_or_default();
    let (plain, named) = (get(0), get(RTMR3));
    equal!(u64::from(plain == [0; 4] || plain == named), 0);
    equal!(tdx::call(leaf::MR_RTMR_EXTEND, page, 3, 0, 0)[0], 0);
    equal!(u64::from(get(0) == plain), 1);
    equal!(u64::from(get(RTMR3) == named), 0);
    Ok(())
}

pub fn locked_controls_stay(_: &mut Vm, _: &Memory) -> Outcome {
    const VALUE_NOT_VALID: u64 = 0xc000_0c03;
    let change = |value, mask| write_field(TD_CTLS, value, mask) >> 32;
    equal!(change(LOCK | REDUCE_VE, LOCK | REDUCE_VE), 0);
    equal!(change(0, REDUCE_VE), VALUE_NOT_VALID);
    equal!(change(0, LOCK), VALUE_NOT_VALID);
    let paravirt = write_field(FEATURE_PARAVIRT_CTRL, PARAVIRT_MTRR, PARAVIRT_MTRR);
    equal!(paravirt >> 32, VALUE_NOT_VALID);
    let controls = tdx::call(VM_RD, 0, TD_CTLS, 0, 0);
    equal!(controls[0], 0);
    equal!(controls[8] & (LOCK | REDUCE_VE), LOCK | REDUCE_VE);
    Ok(())
}
