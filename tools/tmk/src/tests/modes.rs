// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Processor modes of the L2, and the states in which it cannot run.

use super::Memory;
use crate::cpu::guest;
use crate::tdx::vmcs;
use crate::vm::{Outcome, Vm, equal, reason, reg};

pub fn real_mode_to_long_mode(vm: &mut Vm, _: &Memory) -> Outcome {
    const EFER: u64 = 0xc000_0080;
    vm.grant_image()?;
    vm.start_real()?;
    vm.expect_vmcall(1)?;
    vm.expect_vmcall(2)?;
    equal!(vm.get(reg::RBX) & 0xffff_ffff, 0x20);
    // PE is the L2's own: no exit on the way to protected mode.
    vm.expect_vmcall(3)?;
    equal!(vm.get(reg::RBX) & 0x21, 0x21);
    vm.expect_skip(reason::RDMSR, 2)?;
    equal!(vm.get(reg::RCX), EFER);
    vm.set(reg::RAX, vm.read(vmcs::GUEST_EFER));
    vm.set(reg::RDX, 0);
    vm.expect_skip(reason::WRMSR, 2)?;
    equal!(vm.get(reg::RAX) & 0x100, 0x100);
    vm.write(vmcs::GUEST_EFER, 0x900)?;
    vm.expect_vmcall(4)?;
    // PG too: EFER.LMA and the IA-32e control follow.
    vm.expect_vmcall(5)?;
    equal!(vm.get(reg::RBX) & 0x8000_0021, 0x8000_0021);
    equal!(vm.get(reg::RCX) & 0x2260, 0x220);
    equal!(vm.get(reg::RDX), guest::l2_pml4());
    equal!(vm.read(vmcs::GUEST_EFER) & 0x400, 0x400);
    equal!(vm.read(vmcs::ENTRY_CONTROLS) & 0x200, 0x200);
    // CPL 0, CS.L.
    equal!(vm.exit[12], 0);
    equal!((vm.exit[6] >> 16) & 0x2000, 0x2000);
    vm.call_returns()
}

pub fn user_mode_is_reported(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    vm.set(reg::RSI, guest::l2_user_vmcall());
    vm.call(guest::l2_user());
    vm.expect_vmcall(0xc3)?;
    equal!(vm.exit[12], 3);
    equal!(vm.exit[6] & 0xffff, 0x23);
    // HLT at CPL 3 is the L2's own #GP.
    vm.expect_exception(13, 0)?;
    equal!(vm.exit[12], 0);
    Ok(())
}

/// The access rights are those that the next entry demands.
pub fn loaded_segments_are_accessed_and_the_task_is_busy(vm: &mut Vm, _: &Memory) -> Outcome {
    const CS_ACCESS: u64 = 0x4816;
    const TR_ACCESS: u64 = 0x4822;
    vm.start()?;
    vm.call(guest::l2_far_return());
    vm.call_returns()?;
    equal!(vm.read(CS_ACCESS), 0xa09b);
    equal!((vm.exit[6] >> 16) & 0xffff, 0xa09b);
    vm.call(guest::l2_ltr());
    vm.call_returns()?;
    equal!(vm.read(TR_ACCESS), 0x8b);
    vm.call(guest::l2_nop());
    vm.call_returns()
}

pub fn efer_is_written_by_the_module(vm: &mut Vm, _: &Memory) -> Outcome {
    const EFER: u32 = 0xc000_0080;
    vm.start()?;
    vm.pass_msr(EFER, true, true)?;
    vm.set(reg::RSI, u64::from(EFER));
    vm.set(reg::R12, 0xd00);
    vm.set(reg::R13, 0);
    vm.call(guest::l2_wrmsr());
    vm.call_returns()?;
    equal!(vm.read(vmcs::GUEST_EFER) & 1, 0);
    // NXE is controlled by L1.
    vm.set(reg::R12, 0x500);
    vm.call(guest::l2_wrmsr());
    vm.expect_skip(reason::WRMSR, 2)?;
    vm.call_returns()
}

pub fn bad_guest_state_fails_the_entry(vm: &mut Vm, _: &Memory) -> Outcome {
    const ENTRY_FAILURE_GUEST_STATE: u64 = 0x8000_0021;
    vm.start()?;
    let rip = vm.get(reg::RIP);
    // Paging without protection.
    vm.write(vmcs::CR0, 0x8000_0020)?;
    vm.expect(ENTRY_FAILURE_GUEST_STATE)?;
    equal!(vm.get(reg::RIP), rip);
    vm.write(vmcs::CR0, 0x8000_0021)?;
    vm.call(guest::l2_nop());
    vm.call_returns()
}

pub fn triple_fault_leaves(vm: &mut Vm, _: &Memory) -> Outcome {
    const IDTR_LIMIT: u64 = 0x4812;
    vm.start()?;
    vm.write(IDTR_LIMIT, 0)?;
    vm.call(guest::l2_ud());
    vm.expect(reason::TRIPLE_FAULT)
}
