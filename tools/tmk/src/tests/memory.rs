// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Pages of the L2: rights, pending pages, sizes, invalidation, shared addresses.

use super::Memory;
use crate::cpu::{self, guest, peek, poke};
use crate::host;
use crate::tdx::{self, call, leaf, rights, set_rights, status};
use crate::vm::{Outcome, Vm, equal, reason, reg};
use core::sync::atomic::{AtomicU64, Ordering};

const SHARED: u64 = 1 << 47;
/// Where the L2's page tables have the first GiB with the SHARED bit.
const ALIAS: u64 = 4 << 30;
const SIZE_2M: u64 = 1;
const PENDING: u64 = 6;

/// An accepted page of 2 MiB.
fn page(memory: &Memory) -> u64 {
    let page = memory.start + 0x20_0000;
    // The second time the page is accepted already, which is no error.
    call(leaf::MEM_PAGE_ACCEPT, page | SIZE_2M, 0, 0, 0);
    page
}

fn restrict(vm: &mut Vm, gpa: u64, rights: u64) -> Outcome {
    equal!(set_rights(vm.number, gpa, rights), 0);
    vm.invalidate = 1;
    Ok(())
}

/// The exit of an EPT violation at `gpa`, with bits 8:0 of its qualification.
fn expect_violation(vm: &mut Vm, gpa: u64, qualification: u64) -> Outcome {
    vm.expect(reason::EPT_VIOLATION)?;
    equal!(vm.exit[8], gpa);
    equal!(vm.exit[1] & 0x1bf, qualification);
    Ok(())
}

pub fn page_without_rights(vm: &mut Vm, memory: &Memory) -> Outcome {
    vm.start()?;
    let gpa = page(memory) + 0x10;
    restrict(vm, page(memory) | SIZE_2M, 0)?;
    poke(gpa, 0x1234);
    vm.set(reg::RSI, gpa);
    vm.call(guest::l2_read());
    expect_violation(vm, gpa, 0x181)?;
    equal!(vm.exit[2], gpa);
    equal!(vm.exit[13], 0);
    // Not skipped: after L1 has given the page the L2 reads it.
    restrict(vm, page(memory) | SIZE_2M, rights::ALL)?;
    vm.call_returns()
}

pub fn read_only_page(vm: &mut Vm, memory: &Memory) -> Outcome {
    vm.start()?;
    let gpa = page(memory) + 0x20;
    restrict(vm, page(memory) | SIZE_2M, rights::READ)?;
    poke(gpa, 0x99);
    vm.set(reg::RSI, gpa);
    vm.call(guest::l2_read());
    vm.call_returns()?;
    vm.call(guest::l2_write());
    expect_violation(vm, gpa, 0x18a)?;
    restrict(vm, page(memory) | SIZE_2M, rights::READ | rights::WRITE)?;
    vm.call_returns()?;
    equal!(peek(gpa), 0xc0);
    vm.set(reg::RSI, gpa & !0xfff);
    vm.call(guest::l2_jump());
    expect_violation(vm, gpa & !0xfff, 0x19c)
}

pub fn missing_page_is_fetched_from(vm: &mut Vm, memory: &Memory) -> Outcome {
    vm.start()?;
    let gpa = page(memory);
    restrict(vm, gpa | SIZE_2M, 0)?;
    vm.set(reg::RSI, gpa);
    vm.call(guest::l2_jump());
    expect_violation(vm, gpa, 0x184)?;
    equal!(vm.get(reg::RIP), gpa);
    Ok(())
}

pub fn pending_page(vm: &mut Vm, memory: &Memory) -> Outcome {
    vm.start()?;
    let gpa = memory.start + 0x40_0000;
    vm.set(reg::RSI, gpa + 8);
    vm.call(guest::l2_read());
    expect_violation(vm, gpa + 8, 0x181)?;
    equal!(vm.exit[13], PENDING);
    // Rights come before acceptance, and become usable with it.
    restrict(vm, gpa | SIZE_2M, rights::ALL)?;
    expect_violation(vm, gpa + 8, 0x181)?;
    equal!(vm.exit[13], PENDING);
    equal!(call(leaf::MEM_PAGE_ACCEPT, gpa | SIZE_2M, 0, 0, 0)[0], 0);
    vm.invalidate = 1;
    vm.call_returns()
}

pub fn large_page_then_small(vm: &mut Vm, memory: &Memory) -> Outcome {
    const MISMATCH_OF_2M: u64 = (0xc000_0b0b << 32) | 1;
    vm.start()?;
    let gpa = memory.start + 0x60_0000;
    // The host splits a large pending page when L1 accepts a small one.
    equal!(call(leaf::MEM_PAGE_ACCEPT, gpa, 0, 0, 0)[0], 0);
    equal!(
        call(leaf::MEM_PAGE_ACCEPT, gpa | SIZE_2M, 0, 0, 0)[0],
        MISMATCH_OF_2M
    );
    restrict(vm, gpa, rights::ALL)?;
    vm.set(reg::RSI, gpa);
    vm.call(guest::l2_read());
    vm.call_returns()?;
    vm.set(reg::RSI, gpa + 4096);
    vm.call(guest::l2_read());
    expect_violation(vm, gpa + 4096, 0x181)?;
    equal!(vm.exit[13], PENDING);
    let attributes = call(leaf::MEM_PAGE_ATTR_RD, gpa, 0, 0, 0);
    equal!(attributes[0], 0);
    equal!(attributes[1], gpa);
    equal!((attributes[2] >> 16) & 0x800f, 0x800f);
    Ok(())
}

pub fn rights_are_per_vm(vm: &mut Vm, memory: &Memory) -> Outcome {
    let gpa = page(memory);
    let mut other = Vm::new(2);
    other.grant_image()?;
    vm.start()?;
    other.start()?;
    restrict(vm, gpa | SIZE_2M, rights::ALL)?;
    restrict(&mut other, gpa | SIZE_2M, rights::READ)?;
    vm.set(reg::RSI, gpa);
    vm.call(guest::l2_write());
    vm.call_returns()?;
    other.set(reg::RSI, gpa);
    other.call(guest::l2_read());
    other.call_returns()?;
    other.call(guest::l2_write());
    expect_violation(&mut other, gpa, 0x18a)
}

pub fn invalidations_are_accepted(vm: &mut Vm, memory: &Memory) -> Outcome {
    let number = vm.number << 52;
    vm.start()?;
    equal!(call(leaf::VP_INVEPT, 1 << vm.number, 0, 0, 0)[0], 0);
    equal!(
        call(leaf::VP_INVEPT, 1, 0, 0, 0)[0],
        (status::OPERAND_INVALID << 32) | 1
    );
    equal!(call(leaf::VP_INVGLA, number, page(memory), 0, 0)[0], 0);
    let not_canonical = call(leaf::VP_INVGLA, number, 1 << 52, 0, 0)[0] >> 32;
    equal!(not_canonical, status::GLA_NOT_CANONICAL);
    for kind in 0..4 {
        vm.invalidate = kind;
        vm.call(guest::l2_nop());
        vm.call_returns()?;
    }
    // Without rights the translation is removed by TDG.VP.INVEPT alone.
    restrict(vm, page(memory) | SIZE_2M, rights::ALL)?;
    vm.set(reg::RSI, page(memory));
    vm.call(guest::l2_read());
    vm.call_returns()?;
    equal!(set_rights(vm.number, page(memory) | SIZE_2M, 0), 0);
    equal!(call(leaf::VP_INVEPT, 1 << vm.number, 0, 0, 0)[0], 0);
    vm.call(guest::l2_read());
    expect_violation(vm, page(memory), 0x181)
}

/// Where this program sees the first GiB through its shared alias.
pub fn shared_window() -> u64 {
    #[repr(align(4096))]
    struct Table([AtomicU64; 512]);
    static PDPT: Table = Table([const { AtomicU64::new(0) }; 512]);
    const TABLE: u64 = 0x63;
    const LARGE_PAGE: u64 = 0xe3;
    PDPT.0[0].store(SHARED | LARGE_PAGE, Ordering::SeqCst);
    poke(cpu::read_cr3() + 8 * 256, PDPT.0.as_ptr() as u64 | TABLE);
    0xffff_8000_0000_0000
}

pub fn shared_page_is_reached_through_the_hosts_tables(vm: &mut Vm, memory: &Memory) -> Outcome {
    const ENABLE_SHARED_EPTP: u64 = 1;
    const PENDING: u64 = 1 << 62;
    let page = memory.start + (48 << 20);
    let set_ctls = |vm: &Vm, value| tdx::write(tdx::l2_ctls_id(vm.number), value, 7);
    vm.start()?;
    host::map_gpa(page | SHARED, 0x1000);
    let window = shared_window() + page;
    poke(window, 0x1111);
    equal!(set_ctls(vm, ENABLE_SHARED_EPTP), 0);
    vm.set(reg::RSI, ALIAS + page);
    vm.call(guest::l2_read());
    vm.call_returns()?;
    vm.call(guest::l2_write());
    vm.call_returns()?;
    equal!(peek(window), 0xc0);
    // Without the control the same processor finds nothing there again.
    equal!(set_ctls(vm, 0), 0);
    vm.call(guest::l2_read());
    equal!(vm.enter(), status::HOST_ROUTED_ASYNC);
    equal!(vm.exit[8], SHARED + page);
    equal!(set_ctls(vm, ENABLE_SHARED_EPTP), 0);
    vm.call_returns()?;
    // Private again: the alias is removed, the page is pending.
    host::map_gpa(page, 0x1000);
    equal!(
        call(leaf::MEM_PAGE_ATTR_RD, page, 0, 0, 0)[1],
        page | PENDING
    );
    vm.invalidate = 1;
    vm.call(guest::l2_read());
    equal!(vm.enter(), status::HOST_ROUTED_ASYNC);
    equal!(vm.exit[8], SHARED + page);
    Ok(())
}

pub fn released_page_has_to_be_accepted_again(vm: &mut Vm, memory: &Memory) -> Outcome {
    const MEM_PAGE_RELEASE: u64 = 30;
    const EPT_ENTRY_STATE_INCORRECT: u64 = 0xc000_0b0d;
    let gpa = memory.start + 0x60_0000 + 0x8000;
    vm.start()?;
    equal!(call(leaf::MEM_PAGE_ACCEPT, gpa, 0, 0, 0)[0], 0);
    restrict(vm, gpa, rights::ALL)?;
    poke(gpa, 0x4242);
    vm.set(reg::RSI, gpa);
    vm.call(guest::l2_read());
    vm.call_returns()?;
    equal!(call(MEM_PAGE_RELEASE, gpa, 0, 0, 0)[0], 0);
    let again = call(MEM_PAGE_RELEASE, gpa, 0, 0, 0);
    equal!(again[0] >> 32, EPT_ENTRY_STATE_INCORRECT);
    vm.invalidate = 1;
    vm.call(guest::l2_read());
    expect_violation(vm, gpa, 0x181)?;
    equal!(vm.exit[13], PENDING);
    equal!(call(leaf::MEM_PAGE_ACCEPT, gpa, 0, 0, 0)[0], 0);
    equal!(peek(gpa), 0);
    vm.invalidate = 1;
    vm.call_returns()
}

pub fn shared_address_goes_to_the_host(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    vm.set(reg::RSI, ALIAS + 0x5000);
    vm.call(guest::l2_read());
    // The host has nothing there and routes the exit to L1.
    equal!(vm.enter(), status::HOST_ROUTED_ASYNC);
    equal!(vm.exit[0] & 0xffff_ffff, reason::EPT_VIOLATION);
    equal!(vm.exit[8] & !0xfff, SHARED + 0x5000);
    equal!(vm.exit[13], 0);
    Ok(())
}

pub fn invalidation_ends_at_the_edge_of_the_canonical_addresses(
    vm: &mut Vm,
    memory: &Memory,
) -> Outcome {
    const LIST: u64 = 1;
    const LAST: u64 = 0x7fff_ffff_f000;
    let number = vm.number << 52;
    let status = |rcx, rdx| call(leaf::VP_INVGLA, rcx, rdx, 0, 0);
    equal!(status(number, LAST)[0], 0);
    equal!(status(number, LAST | 1)[0] >> 32, status::GLA_NOT_CANONICAL);
    let list = page(memory);
    poke(list, 0x1000);
    poke(list + 8, LAST | 1);
    let refused = status(number | LIST, list | (2 << 52));
    equal!(refused[0] >> 32, status::GLA_NOT_CANONICAL);
    equal!(refused[2], list | (2 << 52));
    // What has been done is counted off.
    equal!(status(number | LIST, list | (1 << 52))[2], list | 1);
    Ok(())
}
