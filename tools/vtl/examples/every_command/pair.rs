// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! VTL0 and VTL1 as a pair: the same program, switched by the kernel, by userspace, and by both.

use vtl::{
    Exit, GpaRange, Gpr, Left, LowerMemory, Mode, PageRights, PrivateState, SwitchEnable, Vm,
    VtlPair, identity_tables,
};

use crate::{Bed, Outcome, ensure};

/// VTL0. Calls VTL1 RDX times and adds up what it finds in RAX and RCX afterwards:
/// ```text
/// 1: xor eax, eax; mov ecx, 0x11; vmcall; add rbx, rax; add rbx, rcx; dec edx; jnz 1b; hlt
/// ```
const VTL0: &[u8] = b"\x31\xc0\xb9\x11\x00\x00\x00\x0f\x01\xc1\x48\x01\xc3\x48\x01\xcb\xff\xca\
    \x75\xec\xf4";

/// VTL1. Counts in RSI and, with RSP, which VTL0 must not see; writes both to the assist page at
/// RBP; every second return is a fast one:
/// ```text
/// 1: inc rsi; sub rsp, 8; mov [rbp+0x10], rsi; mov [rbp+0x18], rsp
///    mov eax, esi; and eax, 1; mov ecx, 0x12; vmcall; jmp 1b
/// ```
const VTL1: &[u8] = b"\x48\xff\xc6\x48\x83\xec\x08\x48\x89\x75\x10\x48\x89\x65\x18\x89\xf0\
    \x83\xe0\x01\xb9\x12\x00\x00\x00\x0f\x01\xc1\xeb\xe2";

const PAGE: u64 = 0x1000;
/// Offsets in the memory: three levels of page tables, code of both, assist page.
const CODE: [u64; 2] = [3 * PAGE, 4 * PAGE];
const ASSIST: u64 = 5 * PAGE;

const CALLS: u64 = 10;
/// RSP of VTL1 before its first call; it is never used as a stack.
const VTL1_RSP: u64 = 0x1_0000;

/// What the program leaves.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    gprs: [u64; 4],
    rip: u64,
    vtl1: PrivateState,
    assist: [u8; 32],
}

fn write_guests(memory: &LowerMemory, base: u64) -> Outcome {
    memory.write(0, &[0; 0x7000])?;
    memory.write(0, &identity_tables(base))?;
    memory.write(CODE[0], VTL0)?;
    memory.write(CODE[1], VTL1)?;
    Ok(())
}

fn start(bed: &Bed) -> Result<VtlPair, Box<dyn std::error::Error>> {
    let base = bed.memory.base();
    bed.vtl.accept(&bed.memory)?;
    for vm in [Vm::VTL0, Vm::VTL1] {
        let lower = bed.vtl.lower(vm);
        lower.set_rights(&bed.memory, PageRights::ALL)?;
    }
    write_guests(&LowerMemory::map(bed.memory)?, base)?;
    let vtl0 = bed.vtl.bind(0, Vm::VTL0)?;
    vtl0.reset(Mode::Long64 { cr3: base }, base + CODE[0])?;
    vtl0.page().set_gpr(Gpr::Rdx, CALLS);
    vtl0.page().set_gpr(Gpr::Rbp, base + ASSIST);
    let assist = LowerMemory::map(GpaRange::new(base + ASSIST, PAGE)?)?;
    let pair = VtlPair::new(vtl0, assist)?;
    pair.start_vtl1(Mode::Long64 { cr3: base }, base + CODE[1], VTL1_RSP)?;
    pair.vp(Vm::VTL1).new_apic_page()?;
    Ok(pair)
}

/// Runs the program; returns what it left, and the calls and returns that the kernel carried out.
fn run(bed: &Bed, enable: SwitchEnable) -> Result<(Trace, [u64; 2]), Box<dyn std::error::Error>> {
    let counters = || -> Result<[u64; 2], Box<dyn std::error::Error>> {
        let stats = bed.vtl.stats(0)?.ok_or("no counters")?.vtl;
        Ok([stats.calls, stats.returns + stats.fast_returns])
    };
    let mut pair = start(bed)?;
    let before = counters()?;
    pair.set_enable(enable);
    loop {
        match pair.run()? {
            (Vm::VTL0, Exit::Halt(_)) => break,
            (_, Exit::Interrupted | Exit::NotEntered(_)) => {}
            (vm, exit) => return Err(format!("{vm:?}: {}", exit.name()).into()),
        }
    }
    let after = counters()?;
    let page = pair.vp(Vm::VTL0).page();
    let mut assist = [0; 32];
    LowerMemory::map(bed.memory)?.read(ASSIST, &mut assist)?;
    let trace = Trace {
        gprs: [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rsi].map(|gpr| page.gpr(gpr)),
        rip: page.rip(),
        vtl1: pair.page().parked(Vm::VTL1),
        assist,
    };
    Ok((trace, [after[0] - before[0], after[1] - before[1]]))
}

/// The sum of RAX and RCX after each call.
fn expected_sum() -> u64 {
    (1..=CALLS)
        .map(|call| match call % 2 {
            1 => 1 + 0x12,
            _ => call + VTL1_RSP - 8 * call,
        })
        .sum()
}

pub(crate) fn switched(bed: &Bed) -> Outcome {
    if bed.info.num_l2_vms < 2 {
        return Ok(());
    }
    let none = SwitchEnable::new();
    let (by_kernel, counted) = run(bed, none.with_calls(true).with_returns(true))?;
    ensure!(counted == [CALLS, CALLS], "{counted:?} by the kernel");
    ensure!(by_kernel.gprs[1] == expected_sum(), "{by_kernel:x?}");
    ensure!(by_kernel.vtl1.rsp == VTL1_RSP - 8 * CALLS, "{by_kernel:x?}");
    for (enable, expected) in [
        (none, [0, 0]),
        (none.with_calls(true), [CALLS, 0]),
        (none.with_returns(true), [0, CALLS]),
    ] {
        let (trace, counted) = run(bed, enable)?;
        ensure!(counted == expected, "{counted:?} with {enable:?}");
        ensure!(trace == by_kernel, "{trace:x?}, not {by_kernel:x?}");
    }
    Ok(())
}

pub(crate) fn refused(bed: &Bed) -> Outcome {
    if bed.info.num_l2_vms < 2 {
        return Ok(());
    }
    let mut pair = start(bed)?;
    pair.set_enable(SwitchEnable::new().with_calls(true).with_returns(true));
    // Instead of `xor eax, eax`: RAX keeps an invalid value.
    LowerMemory::map(bed.memory)?.write(CODE[0], b"\x90\x90")?;
    pair.vp(Vm::VTL0).page().set_gpr(Gpr::Rax, 2);
    let found = loop {
        match pair.run()? {
            (_, Exit::Interrupted | Exit::NotEntered(_)) => {}
            (vm, exit) => break (vm, exit.name()),
        }
    };
    ensure!(found == (Vm::VTL0, "VMCALL"), "{found:?}");
    let left = pair.page().left();
    ensure!(left == Some(Left::Operands), "{left:?}");
    Ok(())
}
