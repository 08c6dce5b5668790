// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What L1's time-stamp counter says of things the emulator does for it (`tmk.do=time`): with
//! counted instructions and the emulator's time hidden, two runs print the same
//! (`scripts/test-emu-ends.sh`).

use crate::cpu::{self, guest, rdtsc};
use crate::host::{self, say};
use crate::tdx::{self, leaf, rights, status};
use crate::tests::Memory;
use crate::vm::{Fail, Outcome, Vm, equal, reason};

const ROUNDS: u64 = 200;

/// Measures something again and again: the sum of the ticks, the most, and a mix of all of them.
fn measure(name: &str, mut what: impl FnMut() -> Outcome) -> Outcome {
    let (mut sum, mut most, mut mix) = (0, 0, 0u64);
    for _ in 0..ROUNDS {
        let start = rdtsc();
        what()?;
        let ticks = rdtsc() - start;
        sum += ticks;
        most = most.max(ticks);
        mix = mix.rotate_left(7) ^ ticks;
    }
    say!("time: {name}: sum {sum} most {most} mix {mix:#x}");
    Ok(())
}

/// Everything that is measured.
pub fn run(vm: &mut Vm, memory: &Memory) -> Outcome {
    const VP_INFO: u64 = 1;
    const UNKNOWN: u64 = 31;
    let start = rdtsc();
    vm.grant_image()?;
    vm.start()?;
    say!("time: start of an L2: {}", rdtsc() - start);
    measure("CPUID", || {
        cpu::index();
        Ok(())
    })?;
    measure("TDG.VP.INFO", || {
        tdx::call(VP_INFO, 0, 0, 0, 0);
        Ok(())
    })?;
    measure("a leaf that is refused", || {
        equal!(
            tdx::call(UNKNOWN, 0, 0, 0, 0)[0] >> 32,
            status::OPERAND_INVALID
        );
        Ok(())
    })?;
    measure("RDMSR by the host", || {
        host::rdmsr(0x80a);
        Ok(())
    })?;
    let page = memory.start + 0x20_0000;
    let mut next = page;
    measure("TDG.MEM.PAGE.ACCEPT", || {
        next += 4096;
        equal!(tdx::call(leaf::MEM_PAGE_ACCEPT, next, 0, 0, 0)[0], 0);
        equal!(tdx::set_rights(1, next, rights::ALL), 0);
        Ok(())
    })?;
    measure("round trip to the L2", || {
        vm.call(guest::l2_cpuid());
        vm.expect_skip(reason::CPUID, 2)?;
        vm.call_returns()
    })?;
    if rdtsc() - start == 0 {
        let (line, file, what) = (line!(), file!(), "the counter stands still");
        return Err(Fail {
            line,
            file,
            what,
            got: 0,
            want: 1,
        });
    }
    Ok(())
}
