// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Ways to end the machine, for `scripts/test-emu-ends.sh`: each shows one answer of the emulator to
//! something that it, its host or a TDX module cannot go on after (`tmk.do=end_NAME`).

use crate::cpu::{guest, peek};
use crate::host;
use crate::tdx::{self, leaf, vmcs};
use crate::tests::{Memory, find_word, modes, stale};
use crate::vm::{Outcome, Vm, reg};

type End = fn(&mut Vm, &Memory) -> Outcome;

/// The first one counts, so a name comes before those that it begins with.
const ENDS: [(&[u8], End); 17] = [
    (b"tmk.do=end_reset_kbd", reset_by_keyboard),
    (b"tmk.do=end_reset_outputs", reset_by_outputs),
    (b"tmk.do=end_reset_fast", reset_by_system_control),
    (b"tmk.do=end_reset", reset),
    (b"tmk.do=end_stop", stop),
    (b"tmk.do=end_fatal_error", fatal_error),
    (b"tmk.do=end_triple_fault", triple_fault),
    (b"tmk.do=end_missing_page", missing_page),
    (b"tmk.do=end_bad_entry", bad_entry),
    (b"tmk.do=end_refused_entry", refused_entry),
    (b"tmk.do=end_lower_triple_fault", lower_triple_fault),
    (b"tmk.do=end_control", control),
    (b"tmk.do=end_linear_translation", linear_translation),
    (b"tmk.do=end_monitor_trap", monitor_trap),
    (b"tmk.do=end_execute_only", execute_only),
    (b"tmk.do=end_stale_right", stale_right),
    (b"tmk.do=end_flushed_right", flushed_right),
];

/// The test that the command line selects.
pub fn find(boot_params: u64) -> Option<End> {
    let is_asked = |(word, _): &&(&[u8], End)| find_word(boot_params, word).is_some();
    ENDS.iter().find(is_asked).map(|(_, end)| *end)
}

/// L1 requests a reset.
fn reset(_: &mut Vm, _: &Memory) -> Outcome {
    host::write_port(0xcf9, 6);
    Ok(())
}

/// The same by a pulse of the keyboard controller, in a form that is not the usual one.
fn reset_by_keyboard(_: &mut Vm, _: &Memory) -> Outcome {
    host::write_port(0x64, 0xf0);
    Ok(())
}

/// The same by its output port.
fn reset_by_outputs(_: &mut Vm, _: &Memory) -> Outcome {
    host::write_port(0x64, 0xd1);
    host::write_port(0x60, 0);
    Ok(())
}

/// The same by the port that also has A20.
fn reset_by_system_control(_: &mut Vm, _: &Memory) -> Outcome {
    host::write_port(0x92, 3);
    Ok(())
}

/// L1 sleeps with interrupts off.
fn stop(_: &mut Vm, _: &Memory) -> Outcome {
    host::stop();
    Ok(())
}

/// L1 reports a fatal error.
fn fatal_error(_: &mut Vm, _: &Memory) -> Outcome {
    host::report_fatal_error(0x1234);
    Ok(())
}

/// L1, which has made a TDCALL, faults without a table to go by.
fn triple_fault(_: &mut Vm, _: &Memory) -> Outcome {
    tdx::call(leaf::MEM_PAGE_ATTR_RD, 0, 0, 0, 0);
    crate::cpu::triple_fault()
}

/// L1 accesses a page that the host has not added.
fn missing_page(_: &mut Vm, _: &Memory) -> Outcome {
    peek(0xb000_0000);
    Ok(())
}

/// L1 enters an L2 with control fields that VMX refuses.
fn bad_entry(vm: &mut Vm, _: &Memory) -> Outcome {
    const CR3_TARGET_COUNT: u64 = 0x400a;
    vm.grant_image()?;
    vm.start()?;
    vm.write(CR3_TARGET_COUNT, 5)?;
    vm.enter();
    Ok(())
}

/// L1 enters an L2 whose task-state segment is not busy.
fn refused_entry(vm: &mut Vm, _: &Memory) -> Outcome {
    const ENTRY_FAILURE_GUEST_STATE: u64 = 0x8000_0021;
    const TR_ACCESS: u64 = 0x4822;
    vm.grant_image()?;
    vm.start()?;
    vm.write(TR_ACCESS, 0x89)?;
    vm.expect(ENTRY_FAILURE_GUEST_STATE)
}

/// An L2 faults without a table to go by.
fn lower_triple_fault(vm: &mut Vm, memory: &Memory) -> Outcome {
    vm.grant_image()?;
    modes::triple_fault_leaves(vm, memory)?;
    host::say!("rip: {:#x}", vm.get(reg::RIP));
    Ok(())
}

/// Enters an L2 with a bit of a control field set.
fn enter_with(vm: &mut Vm, field: u64, bit: u64) -> Outcome {
    vm.grant_image()?;
    vm.start()?;
    vm.write_bits(field, bit, bit)?;
    vm.call(guest::l2_nop());
    vm.enter();
    Ok(())
}

/// A control for which SVM has no intercept: exiting on RDRAND.
fn control(vm: &mut Vm, _: &Memory) -> Outcome {
    enter_with(vm, vmcs::SECONDARY_CONTROLS, 1 << 11)
}

/// A control for which SVM has no page walk: HLAT.
fn linear_translation(vm: &mut Vm, _: &Memory) -> Outcome {
    const TERTIARY_CONTROLS: u64 = 0x2034;
    enter_with(vm, TERTIARY_CONTROLS, 1 << 1)
}

/// A control whose exit a TDX module does not handle.
fn monitor_trap(vm: &mut Vm, _: &Memory) -> Outcome {
    enter_with(vm, vmcs::PRIMARY_CONTROLS, 1 << 27)
}

/// Rights that nested paging of SVM does not have.
fn execute_only(vm: &mut Vm, memory: &Memory) -> Outcome {
    const EXECUTE_SUPERVISOR: u64 = 4;
    vm.grant_image()?;
    vm.start()?;
    let page = memory.start + 0x20_0000;
    tdx::call(leaf::MEM_PAGE_ACCEPT, page | 1, 0, 0, 0);
    tdx::set_rights(vm.number, page | 1, EXECUTE_SUPERVISOR);
    Ok(())
}

/// L1 declares a right gone that it has not flushed.
fn stale_right(vm: &mut Vm, memory: &Memory) -> Outcome {
    stale::use_declared_right(vm, memory, false)
}

/// The same after a flush.
fn flushed_right(vm: &mut Vm, memory: &Memory) -> Outcome {
    stale::use_declared_right(vm, memory, true)
}
