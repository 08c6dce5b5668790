// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a plain exit and a round trip L1 to L2 to L1 cost, in TSC ticks (`make bench-emu`).

use crate::cpu::{guest, peek, poke, rdtsc, tdcall};
use crate::host::say;
use crate::tdx::vmcs;
use crate::vm::{Fail, Outcome, Vm, equal, reason, reg};

/// Actions that are measured together: few enough to fit between two interruptions by the machine
/// below, which may be busy. The cheapest batch counts.
const BATCH: u64 = 16;
const BATCHES: u64 = 1024;

/// Gives the L2 the bits of CR0 and CR4 that Linux sets and TCG flushes for when they change.
/// The pages of the image are for users too, which SMEP would refuse to execute.
fn set_paging_like_linux(vm: &mut Vm) -> Outcome {
    const PML4E_USER: u64 = 1 << 2;
    const CR0_WP: u64 = 1 << 16;
    const CR4_PSE_PGE_SMEP_SMAP: u64 = (1 << 4) | (1 << 7) | (3 << 20);
    poke(guest::l2_pml4(), peek(guest::l2_pml4()) & !PML4E_USER);
    vm.write(vmcs::CR0, vm.read(vmcs::CR0) | CR0_WP)?;
    vm.write(vmcs::CR4, vm.read(vmcs::CR4) | CR4_PSE_PGE_SMEP_SMAP)
}

/// The cheapest batch, in ticks for each of its actions.
fn measure(mut action: impl FnMut() -> Outcome) -> Result<u64, Fail> {
    let mut cheapest = u64::MAX;
    for _ in 0..BATCHES {
        let start = rdtsc();
        for _ in 0..BATCH {
            action()?;
        }
        cheapest = cheapest.min((rdtsc() - start) / BATCH);
    }
    Ok(cheapest)
}

/// A TDCALL of a leaf that does not exist: an exit, reading the instruction through L1's page
/// tables, a refusal, and a VMRUN. Then an L2 that exits at its first instruction.
pub fn run(vm: &mut Vm) -> Outcome {
    const NO_LEAF: u64 = 0xffff;
    let plain_exit = measure(|| {
        let mut registers = [0; 16];
        registers[0] = NO_LEAF;
        tdcall(&mut registers);
        equal!(registers[0] >> 63, 1);
        Ok(())
    })?;
    say!("bench: plain exit {plain_exit} ticks");
    vm.grant_image()?;
    vm.start()?;
    vm.set(reg::RIP, guest::l2_cpuid());
    set_paging_like_linux(vm)?;
    vm.expect(reason::CPUID)?;
    let round_trip = measure(|| {
        equal!(vm.enter(), 0);
        Ok(())
    })?;
    say!("bench: round trip {round_trip} ticks");
    Ok(())
}
