// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rights that L1 takes away without a flush: they work on, until they are flushed.

use super::Memory;
use crate::cpu::{guest, poke};
use crate::host;
use crate::tdx::{call, leaf, rights, set_rights};
use crate::vm::{Outcome, Vm, equal, reason, reg};

const RET: u64 = 0xc3;
/// Operands of an entry: INVEPT, and the two kinds of INVVPID.
const INVEPT: u64 = 1;
const INVVPID: [u64; 2] = [2, 3];

/// An accepted page of 4 KiB with these rights, which the L2 has used.
fn page(vm: &mut Vm, memory: &Memory, rights: u64) -> Result<u64, crate::vm::Fail> {
    let page = memory.start + 0xa0_0000;
    // The second time the page is accepted already, which is no error.
    call(leaf::MEM_PAGE_ACCEPT, page, 0, 0, 0);
    equal!(set_rights(vm.number, page, rights), 0);
    vm.start()?;
    poke(page, RET);
    vm.set(reg::RSI, page);
    does(vm, guest::l2_read())?;
    Ok(page)
}

/// The L2 runs a routine to its end.
fn does(vm: &mut Vm, routine: u64) -> Outcome {
    vm.call(routine);
    vm.call_returns()
}

/// The routine does not get at the page.
fn faults(vm: &mut Vm, routine: u64) -> Outcome {
    vm.call(routine);
    vm.expect(reason::EPT_VIOLATION)?;
    equal!(vm.exit[8], vm.get(reg::RSI));
    equal!(vm.exit[13], 0);
    // Back into the loop: all routines here start with the access.
    vm.set(reg::RIP, guest::l2_nop());
    vm.call_returns()
}

pub fn a_page_is_read_until_invept(vm: &mut Vm, memory: &Memory) -> Outcome {
    let page = page(vm, memory, rights::ALL)?;
    equal!(set_rights(vm.number, page, 0), 0);
    does(vm, guest::l2_read())?;
    does(vm, guest::l2_write())?;
    poke(page, RET);
    does(vm, guest::l2_jump())?;
    // Linear addresses are not all that is cached.
    equal!(call(leaf::VP_INVGLA, vm.number << 52, page, 0, 0)[0], 0);
    does(vm, guest::l2_read())?;
    for kind in INVVPID {
        vm.invalidate = kind;
        does(vm, guest::l2_read())?;
    }
    vm.invalidate = INVEPT;
    faults(vm, guest::l2_read())
}

pub fn a_page_is_written_until_invept(vm: &mut Vm, memory: &Memory) -> Outcome {
    let page = page(vm, memory, rights::ALL)?;
    equal!(set_rights(vm.number, page, rights::READ), 0);
    does(vm, guest::l2_write())?;
    equal!(call(leaf::VP_INVEPT, 1 << vm.number, 0, 0, 0)[0], 0);
    does(vm, guest::l2_read())?;
    faults(vm, guest::l2_write())
}

pub fn a_violation_ends_it_for_the_page(vm: &mut Vm, memory: &Memory) -> Outcome {
    let page = page(vm, memory, rights::READ)?;
    equal!(set_rights(vm.number, page, 0), 0);
    does(vm, guest::l2_read())?;
    faults(vm, guest::l2_write())?;
    faults(vm, guest::l2_read())
}

pub fn rights_given_again_are_not_old_ones(vm: &mut Vm, memory: &Memory) -> Outcome {
    let page = page(vm, memory, rights::ALL)?;
    equal!(set_rights(vm.number, page, 0), 0);
    does(vm, guest::l2_read())?;
    equal!(set_rights(vm.number, page, rights::READ), 0);
    does(vm, guest::l2_read())?;
    vm.invalidate = INVEPT;
    does(vm, guest::l2_read())?;
    faults(vm, guest::l2_write())
}

pub fn removal_by_the_host_flushes_everything(vm: &mut Vm, memory: &Memory) -> Outcome {
    const WITHDRAW_PAGE: u64 = 5;
    const GIVE_PAGE: u64 = 6;
    let page = page(vm, memory, rights::ALL)?;
    let other = page + 0x1000;
    call(leaf::MEM_PAGE_ACCEPT, other, 0, 0, 0);
    equal!(set_rights(vm.number, page, 0), 0);
    does(vm, guest::l2_read())?;
    host::ask(WITHDRAW_PAGE, other);
    host::ask(GIVE_PAGE, other);
    faults(vm, guest::l2_read())
}

pub fn a_vm_that_has_not_run_since_its_flush_holds_nothing(vm: &mut Vm, m: &Memory) -> Outcome {
    let page = page(vm, m, rights::ALL)?;
    equal!(call(leaf::VP_INVEPT, 1 << vm.number, 0, 0, 0)[0], 0);
    equal!(set_rights(vm.number, page, 0), 0);
    faults(vm, guest::l2_read())
}

/// With `emu.stale=report` the last run is not survived; without a flush only.
pub fn use_declared_right(vm: &mut Vm, memory: &Memory, flushes: bool) -> Outcome {
    const RIGHTS_ARE_GONE: u64 = 10;
    vm.grant_image()?;
    let page = page(vm, memory, rights::ALL)?;
    equal!(set_rights(vm.number, page, 0), 0);
    vm.call(guest::l2_read());
    let is_gone = vm.call_returns().is_err();
    host::say!("before: {}", if is_gone { "gone" } else { "used" });
    if flushes {
        equal!(call(leaf::VP_INVEPT, 1 << vm.number, 0, 0, 0)[0], 0);
    }
    host::ask(RIGHTS_ARE_GONE, 0);
    if !is_gone {
        vm.call(guest::l2_read());
    }
    let is_gone = vm.call_returns().is_err();
    host::say!("after: {}", if is_gone { "gone" } else { "used" });
    Ok(())
}
