// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a round trip L1 to L2 to L1 costs, in TSC ticks (`make bench-emu`).

use crate::cpu::{guest, rdtsc};
use crate::host::say;
use crate::vm::{Outcome, Vm, equal, reason, reg};

const TRIPS: u64 = 10_000;

/// Enters an L2 that leaves at its first instruction, again and again.
pub fn run(vm: &mut Vm) -> Outcome {
    vm.grant_image()?;
    vm.start()?;
    vm.set(reg::RIP, guest::l2_cpuid());
    vm.expect(reason::CPUID)?;
    let start = rdtsc();
    for _ in 0..TRIPS {
        equal!(vm.enter(), 0);
    }
    say!("bench: round trip {} ticks", (rdtsc() - start) / TRIPS);
    Ok(())
}
