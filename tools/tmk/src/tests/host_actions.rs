// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Requests to the emulated host: actions of the debug port, messages of Hyper-V's synthetic
//! interrupt controller, hypercalls.

use super::Memory;
use super::memory::shared_window;
use crate::cpu::{self, guest, peek, poke, take_interrupts, taken_vector};
use crate::host;
use crate::tdx::{self, leaf, status};
use crate::vm::{Outcome, Vm, equal};

const INTERRUPT: u64 = 1;
const EXITS: u64 = 2;
const EVENT: u64 = 3;
const MESSAGE: u64 = 4;
const WITHDRAW_PAGE: u64 = 5;
const GIVE_PAGE: u64 = 6;
const PROXY: u64 = 7;
const REFUSALS: u64 = 8;
const BUSY_RTMRS: u64 = 12;
const EXTENDS: u64 = 13;
const BUSY_PAGES: u64 = 14;
const INTERRUPTED_CALLS: u64 = 15;

const DONE: u64 = 0;
const UNKNOWN: u64 = 1;
const BAD_OPERAND: u64 = 2;
const OFF: u64 = 3;
const FULL: u64 = 4;

const SHARED: u64 = 1 << 47;
/// Memory of VTL0 that no other test uses.
const SPARE: u64 = 32 << 20;

/// Starts an action and returns what became of it.
fn ask(command: u64, operand: u64) -> u64 {
    for byte in operand.to_be_bytes() {
        host::write_port(0xec, u64::from(byte));
    }
    host::write_port(0xed, command);
    host::read_port(0xed)
}

pub fn answers_tell_what_became_of_an_action(_: &mut Vm, memory: &Memory) -> Outcome {
    equal!(ask(0, 0), UNKNOWN);
    equal!(ask(0xff, 0), UNKNOWN);
    // Vectors below 32 are exceptions; there is one processor.
    equal!(ask(INTERRUPT, 31), BAD_OPERAND);
    equal!(ask(INTERRUPT, 0x0161), BAD_OPERAND);
    equal!(ask(EVENT, 0x0102), BAD_OPERAND);
    equal!(ask(EVENT, 2), OFF);
    equal!(ask(MESSAGE, 16), OFF);
    equal!(ask(WITHDRAW_PAGE, memory.start + 1), BAD_OPERAND);
    equal!(ask(GIVE_PAGE, memory.start), BAD_OPERAND);
    equal!(ask(GIVE_PAGE, 1 << 46), BAD_OPERAND);
    Ok(())
}

pub fn interrupt_is_posted(_: &mut Vm, _: &Memory) -> Outcome {
    host::wrmsr(0x80f, 0x1ff); // APIC on
    equal!(ask(INTERRUPT, 0x71), DONE);
    take_interrupts();
    equal!(taken_vector(), 0x71);
    Ok(())
}

pub fn runs_of_the_l2_are_taken_as_asked(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    equal!(ask(EXITS, (1 << 16) | 2), DONE);
    vm.call(guest::l2_nop());
    vm.call_returns()?;
    equal!(host::read_port(0xec), 2);
    vm.call(guest::l2_nop());
    equal!(vm.enter(), status::HOST_ROUTED_ASYNC);
    // The reason is an external interrupt, whose vector the exit tells.
    equal!(vm.exit[0] & 0xffff_ffff, 1);
    equal!(vm.exit[9] & 0xffff_ff00, 0x8000_0000);
    equal!(vm.enter(), status::HOST_ROUTED_ASYNC);
    equal!(host::read_port(0xec), 0);
    vm.call_returns()
}

pub fn page_is_withdrawn_and_comes_back_pending(_: &mut Vm, memory: &Memory) -> Outcome {
    let page = memory.start + SPARE;
    let accept = || tdx::call(leaf::MEM_PAGE_ACCEPT, page, 0, 0, 0)[0];
    equal!(ask(WITHDRAW_PAGE, page), DONE);
    equal!(ask(WITHDRAW_PAGE, page), BAD_OPERAND);
    equal!(ask(GIVE_PAGE, page), DONE);
    equal!(accept(), 0);
    equal!(ask(WITHDRAW_PAGE, page), DONE);
    equal!(ask(GIVE_PAGE, page), DONE);
    equal!(accept(), 0);
    // One that is shared is not free.
    host::map_gpa(page | SHARED, 0x1000);
    equal!(ask(GIVE_PAGE, page), BAD_OPERAND);
    poke(shared_window() + page, 0x1111);
    equal!(peek(shared_window() + page), 0x1111);
    host::map_gpa(page, 0x1000);
    equal!(accept(), 0);
    Ok(())
}

pub fn registers_of_the_synic_are_refused_as_asked(_: &mut Vm, _: &Memory) -> Outcome {
    const SVERSION: u64 = 0x4000_0081;
    equal!(ask(REFUSALS, (1 << 16) | 2), DONE);
    for is_refused in [0, 1, 1, 0] {
        equal!(u64::from(host::refuses_rdmsr(SVERSION)), is_refused);
    }
    Ok(())
}

pub fn measurement_registers_are_busy_or_refused_as_asked(_: &mut Vm, memory: &Memory) -> Outcome {
    const RTMR: u64 = 168;
    const BUSY: u64 = (0x8000_0200 << 32) | RTMR;
    const NO_LEAF: u64 = status::OPERAND_INVALID << 32;
    let page = memory.start + SPARE + 0x1000;
    equal!(tdx::call(leaf::MEM_PAGE_ACCEPT, page, 0, 0, 0)[0], 0);
    let extend = || tdx::call(leaf::MR_RTMR_EXTEND, page, 3, 0, 0)[0];
    let register = || {
        let answer = tdx::call(leaf::MR_REPORT, page, page + 0x400, 0, 0)[0];
        (answer, cpu::peek(page + 0x200 + 0x160))
    };
    let before = register();
    equal!(before.0, 0);
    equal!(ask(BUSY_RTMRS, (1 << 16) | 2), DONE);
    equal!(register().0, 0);
    equal!(register().0, BUSY);
    equal!(extend(), BUSY);
    equal!(u64::from(register() == before), 1);
    equal!(ask(EXTENDS, 2), DONE);
    for _ in 0..2 {
        equal!(extend(), NO_LEAF);
        equal!(u64::from(register() == before), 1);
    }
    equal!(extend(), 0);
    equal!(u64::from(register() == before), 0);
    Ok(())
}

pub fn synic_posts_messages_and_events(_: &mut Vm, memory: &Memory) -> Outcome {
    const SCONTROL: u64 = 0x4000_0080;
    const SIEFP: u64 = 0x4000_0082;
    const SIMP: u64 = 0x4000_0083;
    const EOM: u64 = 0x4000_0084;
    const SINT0: u64 = 0x4000_0090;
    const SINT2: u64 = 0x4000_0092;
    const MASKED: u64 = 1 << 16;
    let pages = memory.start + SPARE + 0x2000;
    host::wrmsr(0x80f, 0x1ff); // APIC on
    host::wrmsr(SIMP, pages | 1);
    host::wrmsr(SIEFP, (pages + 0x1000) | 1);
    host::wrmsr(SINT2, 0x62);
    host::wrmsr(SCONTROL, 1);
    // The host does not reach private pages.
    equal!(ask(MESSAGE, 2), OFF);
    equal!(ask(EVENT, 2), OFF);
    host::map_gpa(pages | SHARED, 0x2000);
    equal!(ask(MESSAGE, (7 << 32) | (1 << 16) | 2), DONE);
    take_interrupts();
    equal!(taken_vector(), 0x62);
    // Nothing empties the slot: further messages are queued, but only a limited number.
    for _ in 0..8 {
        equal!(ask(MESSAGE, 2), DONE);
    }
    equal!(ask(MESSAGE, 2), FULL);
    host::wrmsr(EOM, 0);
    equal!(ask(MESSAGE, 2), FULL);
    equal!(ask(MESSAGE, 3), OFF);
    equal!(ask(PROXY, 0x0140), BAD_OPERAND);
    equal!(ask(PROXY, 0x40), OFF);
    host::wrmsr(SINT0, 0x64);
    equal!(ask(PROXY, 0x40), DONE);
    take_interrupts();
    equal!(taken_vector(), 0x64);
    host::wrmsr(SINT2, 0x63);
    equal!(ask(EVENT, (2047 << 16) | 2), DONE);
    take_interrupts();
    equal!(taken_vector(), 0x63);
    equal!(ask(EVENT, (2048 << 16) | 2), OFF);
    equal!(host::rdmsr(SIMP), pages | 1);
    host::wrmsr(SINT2, MASKED);
    equal!(ask(EVENT, 2), OFF);
    host::wrmsr(SCONTROL, 0);
    Ok(())
}

pub fn hypercalls_use_shared_pages(_: &mut Vm, memory: &Memory) -> Outcome {
    const ONE_REP: u64 = 1 << 32;
    const SELF_PARTITION_MISSING: u64 = 0xd;
    let (shared, private) = (memory.start + SPARE + 0x4000, memory.start + SPARE);
    host::map_gpa(shared | SHARED, 0x1000);
    let call = |control, input: u64| host::hypercall(control, input, shared + 2048);
    // A connection that does not exist, and a call that does not exist.
    equal!(call(0x5c, shared), 0x12);
    equal!(call(0x5d, shared), 0x12);
    equal!(call(0x123, shared), 2);
    // Reserved bits, a rep call without reps, alignment, a page the host does not reach.
    equal!(call(0x50 | (1 << 27), shared), 3);
    equal!(call(0x50, shared), 3);
    equal!(call(0x50 | ONE_REP, shared + 4), 4);
    equal!(call(0x50 | ONE_REP, private), 5);
    equal!(call(0x5c, private), 5);
    // Lists that leave their pages, by the header, by an element, by a message, and what is no
    // guest-physical address.
    let end = shared + 0x1000;
    for (control, input) in [
        (0x50 | ONE_REP, end - 8),
        (0x50 | ONE_REP, end - 16),
        (0x51 | ONE_REP, end - 40),
        (0x5c, end - 8),
        (0x5c, shared + 1),
        (0x50 | ONE_REP, 1 << 48),
        (0x5d, 1 << 63),
    ] {
        equal!(call(control, input), 4);
    }
    // The output, before anything is done.
    for (output, result) in [(shared + 2052, 4), (end - 8, 4), (1 << 50, 4), (private, 5)] {
        equal!(host::hypercall(0x50 | ONE_REP, shared, output), result);
    }
    // The page is fresh: partition 0 is not L1's.
    equal!(call(0x50 | ONE_REP, shared), SELF_PARTITION_MISSING);
    Ok(())
}

pub fn memory_of_devices_is_not_converted_and_a_mixed_range_is_refused(
    _: &mut Vm,
    _: &Memory,
) -> Outcome {
    const VGA: u64 = 0xa_0000;
    const VGA_END: u64 = 0xc_0000;
    for gpa in [VGA, VGA | SHARED, 0xfec0_0000 | SHARED] {
        equal!(u64::from(host::refuses_map_gpa(gpa, VGA_END - VGA)), 0);
    }
    // Memory behind a device, before one, and on both sides.
    for (start, end) in [
        (VGA_END - 0x1000, VGA_END + 0x1000),
        (VGA - 0x1000, VGA + 0x1000),
        (0x100_0000, 1 << 46),
    ] {
        for alias in [0, SHARED] {
            equal!(
                u64::from(host::refuses_map_gpa(start | alias, end - start)),
                1
            );
        }
    }
    Ok(())
}

pub fn entry_of_a_page_is_held_by_the_host(vm: &mut Vm, memory: &Memory) -> Outcome {
    const OPERAND_BUSY_RCX: u64 = 0x8000_0200_0000_0001;
    let page = memory.start + SPARE + 0x1000;
    let rights = 0x8007 << (16 * vm.number);
    let mask = 7 << (16 * vm.number);
    equal!(ask(BUSY_PAGES, 3), DONE);
    let accept = || tdx::call(leaf::MEM_PAGE_ACCEPT, page, 0, 0, 0);
    equal!(accept()[0], OPERAND_BUSY_RCX);
    let read = tdx::call(leaf::MEM_PAGE_ATTR_RD, page, 5, 0, 0);
    equal!(read[0], OPERAND_BUSY_RCX);
    equal!(read[1] | read[2], 0);
    let write = tdx::call(leaf::MEM_PAGE_ATTR_WR, page, rights, mask, 0);
    equal!(write[0], OPERAND_BUSY_RCX);
    equal!(write[1] | write[2], 0);
    equal!(accept()[0] >> 63, 0);
    equal!(
        tdx::call(leaf::MEM_PAGE_ATTR_WR, page, rights, mask, 0)[0],
        0
    );
    equal!(tdx::call(leaf::MEM_PAGE_ATTR_RD, page, 5, 0, 0)[2], rights);
    Ok(())
}

/// A call that is interrupted is executed again without L1's doing; only the count of its leaf, which
/// the log has, tells.
pub fn long_calls_are_interrupted_and_go_on(vm: &mut Vm, memory: &Memory) -> Outcome {
    const LIST: u64 = 1;
    let page = memory.start + SPARE + 0x20_0000;
    equal!(ask(INTERRUPTED_CALLS, 100), DONE);
    let accepted = tdx::call(leaf::MEM_PAGE_ACCEPT, page | 1, 0, 0, 0);
    equal!(accepted[0], 0);
    for at in (page..page + 0x20_0000).step_by(0x1000) {
        equal!(peek(at), 0);
    }
    equal!(ask(INTERRUPTED_CALLS, 3), DONE);
    for entry in 0..8 {
        poke(page + 8 * entry, 0x1000 * entry);
    }
    let list = tdx::call(
        leaf::VP_INVGLA,
        (vm.number << 52) | LIST,
        page | (8 << 52),
        0,
        0,
    );
    equal!(list[0], 0);
    equal!(list[2], page | 8);
    equal!(ask(INTERRUPTED_CALLS, 0), DONE);
    Ok(())
}
