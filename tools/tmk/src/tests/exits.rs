// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Instructions that exit from the L2, always or if a control is set.

use super::Memory;
use crate::cpu::guest;
use crate::tdx::vmcs;
use crate::vm::{Outcome, Vm, equal, reason, reg};

/// Routine, reason, length.
type Exit = (fn() -> u64, u64, u64);

fn leaves(vm: &mut Vm, (routine, reason, length): Exit) -> Outcome {
    vm.set(reg::RSI, guest::l2_task());
    vm.call(routine());
    vm.expect_skip(reason, length)
}

pub fn unconditional_exits(vm: &mut Vm, _: &Memory) -> Outcome {
    const EXITS: [Exit; 6] = [
        (guest::l2_cpuid, reason::CPUID, 2),
        (guest::l2_hlt, reason::HLT, 1),
        (guest::l2_invd, 13, 2),
        (guest::l2_rdpmc, 15, 2),
        (guest::l2_wbinvd, 54, 2),
        (guest::l2_xsetbv, 55, 3),
    ];
    vm.start()?;
    for exit in EXITS {
        leaves(vm, exit)?;
        vm.call_returns()?;
    }
    leaves(vm, (guest::l2_monitor_mwait, 39, 3))?;
    vm.expect_skip(36, 3)?;
    vm.call_returns()?;
    // The image of an exit: these are zero whatever L1 had in them.
    equal!(vm.exit[3] | vm.exit[14] | vm.exit[15], 0);
    Ok(())
}

pub fn io_exits_carry_their_qualification(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    leaves(vm, (guest::l2_out, 30, 1))?;
    equal!(vm.exit[1] & 0xffff_003f, 0x3f8_0000);
    equal!(vm.get(reg::RAX) & 0xff, 0x41);
    vm.call_returns()?;
    vm.set(reg::RSI, guest::l2_task());
    leaves(vm, (guest::l2_rep_outs, 30, 2))?;
    equal!(vm.exit[1] & 0xffff_003f, 0x3f8_0030);
    equal!(vm.exit[2], guest::l2_task());
    // Instruction information: 64-bit address size.
    equal!((vm.exit[11] >> 7) & 7, 2);
    vm.call_returns()
}

/// Field, bit and what it makes leave.
const CONTROLLED: [(u64, u64, Exit); 11] = [
    (vmcs::PRIMARY_CONTROLS, 1 << 30, (guest::l2_pause, 40, 2)),
    (vmcs::PRIMARY_CONTROLS, 1 << 12, (guest::l2_rdtsc, 16, 2)),
    (vmcs::PRIMARY_CONTROLS, 1 << 12, (guest::l2_rdtscp, 51, 3)),
    (vmcs::PRIMARY_CONTROLS, 1 << 23, (guest::l2_read_dr7, 29, 3)),
    (
        vmcs::PRIMARY_CONTROLS,
        1 << 23,
        (guest::l2_write_dr0, 29, 3),
    ),
    (vmcs::PRIMARY_CONTROLS, 1 << 9, (guest::l2_invlpg, 14, 3)),
    (vmcs::PRIMARY_CONTROLS, 1 << 20, (guest::l2_read_cr8, 28, 4)),
    (vmcs::SECONDARY_CONTROLS, 1 << 2, (guest::l2_sgdt, 46, 5)),
    (vmcs::SECONDARY_CONTROLS, 1 << 2, (guest::l2_sldt, 47, 3)),
    (vmcs::SECONDARY_CONTROLS, 1 << 2, (guest::l2_str, 47, 3)),
    (vmcs::SECONDARY_CONTROLS, 1 << 2, (guest::l2_lldt, 47, 3)),
];

pub fn exits_as_controlled(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    for (field, bit, exit) in CONTROLLED {
        vm.write_bits(field, bit, bit)?;
        leaves(vm, exit)?;
        if exit.1 == 14 {
            equal!(vm.exit[1], guest::l2_task());
        }
        vm.call_returns()?;
        vm.write_bits(field, 0, bit)?;
    }
    Ok(())
}

pub fn table_instructions_name_themselves(vm: &mut Vm, _: &Memory) -> Outcome {
    const DESCRIPTOR_TABLES: u64 = 1 << 2;
    // Routine, reason, and for each of its instructions length and identity.
    type Tables = (fn() -> u64, u64, &'static [(u64, u64)]);
    const TABLES: [Tables; 5] = [
        (guest::l2_lgdt, 46, &[(5, 0), (5, 2)]),
        (guest::l2_lidt, 46, &[(5, 1), (5, 3)]),
        (guest::l2_sldt, 47, &[(3, 0)]),
        (guest::l2_str, 47, &[(3, 1)]),
        (guest::l2_lldt, 47, &[(3, 2)]),
    ];
    vm.start()?;
    vm.write_bits(
        vmcs::SECONDARY_CONTROLS,
        DESCRIPTOR_TABLES,
        DESCRIPTOR_TABLES,
    )?;
    for (routine, reason, instructions) in TABLES {
        vm.call(routine());
        for (length, identity) in instructions {
            vm.expect_skip(reason, *length)?;
            equal!((vm.exit[11] >> 28) & 3, *identity);
        }
        vm.call_returns()?;
    }
    Ok(())
}

pub fn vmx_instructions_leave(vm: &mut Vm, _: &Memory) -> Outcome {
    // Reason and length, in the order of the routine.
    const INSTRUCTIONS: [(u64, u64); 13] = [
        (20, 3),
        (24, 3),
        (26, 3),
        (23, 3),
        (25, 3),
        (21, 3),
        (19, 4),
        (27, 4),
        (22, 3),
        (50, 5),
        (53, 5),
        (59, 3),
        (76, 4),
    ];
    const RSI: u64 = 6;
    vm.start()?;
    vm.set(reg::RSI, guest::l2_task());
    vm.call(guest::l2_vmx());
    for (reason, length) in INSTRUCTIONS {
        vm.expect_skip(reason, length)?;
        if matches!(reason, 19 | 21 | 22 | 27 | 50 | 53) {
            // The base register of the operand, no displacement.
            equal!((vm.exit[11] >> 23) & 0x1f, RSI);
            equal!(vm.exit[1], 0);
        }
    }
    vm.call_returns()
}

pub fn nothing_leaves_without_control(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    for (_, _, (routine, _, _)) in CONTROLLED {
        vm.set(reg::RSI, guest::l2_task());
        vm.call(routine());
        vm.call_returns()?;
    }
    for routine in [guest::l2_cr3, guest::l2_lgdt, guest::l2_lidt] {
        vm.call(routine());
        vm.call_returns()?;
    }
    Ok(())
}

pub fn cr_accesses_carry_their_register(vm: &mut Vm, _: &Memory) -> Outcome {
    const CR3_BOTH: u64 = 3 << 15;
    vm.start()?;
    vm.write_bits(vmcs::PRIMARY_CONTROLS, CR3_BOTH, CR3_BOTH)?;
    vm.call(guest::l2_cr3());
    vm.expect_skip(reason::CR_ACCESS, 3)?;
    equal!(vm.exit[1] & 0xfff, 0x013);
    vm.set(reg::RAX, guest::l2_pml4());
    vm.expect_skip(reason::CR_ACCESS, 3)?;
    equal!(vm.exit[1] & 0xfff, 0x003);
    vm.call_returns()?;
    vm.write_bits(vmcs::PRIMARY_CONTROLS, 1 << 19, 1 << 19)?;
    vm.set(reg::RSI, 4);
    vm.call(guest::l2_write_cr8());
    vm.expect_skip(reason::CR_ACCESS, 4)?;
    equal!(vm.exit[1] & 0xfff, 0x608);
    vm.call_returns()
}

pub(super) fn access_msr(vm: &mut Vm, routine: fn() -> u64, index: u32) {
    vm.set(reg::RSI, u64::from(index));
    vm.set(reg::R12, 0x77);
    vm.set(reg::R13, 0);
    vm.call(routine());
}

pub fn msr_bitmap_decides(vm: &mut Vm, _: &Memory) -> Outcome {
    const PAT: u32 = 0x277;
    const SYSENTER_CS: u32 = 0x174;
    const UNLISTED: u32 = 0x4000_0000;
    vm.start()?;
    access_msr(vm, guest::l2_rdmsr, PAT);
    vm.expect_skip(reason::RDMSR, 2)?;
    vm.call_returns()?;
    vm.pass_msr(PAT, false, true)?;
    access_msr(vm, guest::l2_rdmsr, PAT);
    vm.call_returns()?;
    vm.pass_msr(PAT, false, false)?;
    access_msr(vm, guest::l2_rdmsr, PAT);
    vm.expect_skip(reason::RDMSR, 2)?;
    vm.call_returns()?;
    access_msr(vm, guest::l2_rdmsr, UNLISTED);
    vm.expect_skip(reason::RDMSR, 2)?;
    vm.call_returns()?;
    vm.pass_msr(SYSENTER_CS, true, true)?;
    access_msr(vm, guest::l2_wrmsr, SYSENTER_CS);
    vm.call_returns()?;
    equal!(vm.read(vmcs::SYSENTER_CS), 0x77);
    Ok(())
}

pub fn forbidden_msrs_fault_in_the_l2(vm: &mut Vm, _: &Memory) -> Outcome {
    const SMM_MONITOR_CTL: u32 = 0x9b;
    vm.start()?;
    vm.pass_msr(SMM_MONITOR_CTL, false, true)?;
    access_msr(vm, guest::l2_rdmsr, SMM_MONITOR_CTL);
    vm.expect_exception(13, 0)?;
    vm.set_return(guest::l2_nop());
    vm.call_returns()
}

pub fn tdcall_leaves_to_l1(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    leaves(vm, (guest::l2_tdcall, reason::TDCALL, 4))?;
    vm.call_returns()
}
