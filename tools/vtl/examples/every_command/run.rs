// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Runs of small guests.

use std::io::Write as _;

use vtl::audit::{Follower, Step};
use vtl::field::L2Field;
use vtl::{Event, Exit, Flush, Gpr, Kick, LowerMemory, Mode, PageRights, Vectors, Vm, Vp};

use crate::{Bed, Outcome, ensure};

/// `cpuid; hlt`
const CPUID: &[u8] = b"\x0f\xa2\xf4";
/// `1: jmp 1b`
const SPIN: &[u8] = b"\xeb\xfe";
/// `cli; nop; sti; nop; 1: jmp 1b`
const STI: &[u8] = b"\xfa\x90\xfb\x90\xeb\xfe";

/// `sti; hlt; cli; hlt`
const SHADOW: &[u8] = b"\xfb\xf4\xfa\xf4";
/// `movw %ax, %ss; hlt`
const SHADOW_OF_SS: &[u8] = b"\x8e\xd0\xf4";
/// `xorl %ecx, %ecx; rdpmc`
const RDPMC: &[u8] = b"\x31\xc9\x0f\x33";

/// A guest in front of its first instruction.
fn start(bed: &Bed, code: &[u8]) -> Result<Vp, Box<dyn std::error::Error>> {
    bed.vtl.accept(&bed.memory)?;
    bed.vtl0.set_rights(&bed.memory, PageRights::ALL)?;
    LowerMemory::map(bed.memory)?.write(0, code)?;
    let vp = bed.vtl0.bind(0)?;
    vp.reset(Mode::Protected32, bed.memory.base())?;
    vp.canceller().clear();
    Ok(vp)
}

/// The next exit that is one, by its name, after `answer` was given.
fn next(vp: &mut Vp) -> Result<&'static str, Box<dyn std::error::Error>> {
    loop {
        match vp.run()? {
            Exit::NotEntered(_) => {}
            Exit::Cpuid(cpuid) => {
                cpuid.answer([1, 2, 3, 4]);
                return Ok("CPUID");
            }
            exit => return Ok(exit.name()),
        }
    }
}

fn expect_next(vp: &mut Vp, name: &str) -> Outcome {
    let found = next(vp)?;
    ensure!(found == name, "{found}, not {name}");
    Ok(())
}

pub(crate) fn exits(bed: &Bed) -> Outcome {
    let mut vp = start(bed, CPUID)?;
    expect_next(&mut vp, "CPUID")?;
    expect_next(&mut vp, "HLT")?;
    let found = [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rdx].map(|gpr| vp.page().gpr(gpr));
    ensure!(found == [1, 2, 3, 4], "{found:x?}");
    ensure!(vp.page().entry_rcx() & 3 == 0, "the flush was not done");
    bed.vtl.flush([vp.page()])?;
    ensure!(vp.page().entry_rcx() & 3 == 1, "no flush was asked for");
    Ok(())
}

pub(crate) fn shadow(bed: &Bed) -> Outcome {
    let mut vp = start(bed, SHADOW)?;
    loop {
        match vp.run()? {
            Exit::Halt(halt) => break halt.complete(),
            Exit::NotEntered(_) => {}
            exit => return Err(format!("{}, not HLT", exit.name()).into()),
        }
    }
    ensure!(vp.can_take_interrupt()?, "still in the shadow of STI");
    vp.watch_interrupt_window()?;
    expect_next(&mut vp, "INTERRUPT_WINDOW")?;
    let behind_halt = bed.memory.base() + 2;
    ensure!(vp.page().rip() == behind_halt, "{:#x}", vp.page().rip());
    Ok(())
}

pub(crate) fn shadow_of_ss(bed: &Bed) -> Outcome {
    const BLOCKING: u64 = 3;
    let mut vp = start(bed, SHADOW_OF_SS)?;
    let segment_base = bed.memory.base();
    vp.start(Mode::Real16 { segment_base }, 0)?;
    loop {
        match vp.run()? {
            Exit::Halt(halt) => {
                let state = halt.vp().read(L2Field::GUEST_INTERRUPTIBILITY)?;
                ensure!(state & BLOCKING != 0, "MOV SS blocks nothing");
                break halt.complete();
            }
            Exit::NotEntered(_) => {}
            exit => return Err(format!("{}, not HLT", exit.name()).into()),
        }
    }
    ensure!(vp.page().rflags() & (1 << 9) == 0, "IF is set");
    let state = vp.read(L2Field::GUEST_INTERRUPTIBILITY)?;
    ensure!(state & BLOCKING == 0, "an NMI could not be injected");
    Ok(())
}

pub(crate) fn rdpmc(bed: &Bed) -> Outcome {
    let mut vp = start(bed, RDPMC)?;
    expect_next(&mut vp, "RDPMC")
}

pub(crate) fn renewal(bed: &Bed) -> Outcome {
    let mut vp = start(bed, CPUID)?;
    expect_next(&mut vp, "CPUID")?;
    ensure!(vp.page().entry_rcx() & 3 == 0, "the flush was not done");
    // A run that is cancelled prepares an entry and makes none: what it asks for stays.
    vp.renew(bed.info.num_l2_vms)?;
    vp.canceller().cancel();
    expect_next(&mut vp, "(interrupted)")?;
    ensure!(
        vp.page().entry_rcx() & 3 == 1,
        "the next guest would have translations of the last one"
    );
    vp.renew(bed.info.num_l2_vms)?;
    ensure!(
        vp.page().entry_rcx() & 3 == 1,
        "a flush that was requested is lost"
    );
    ensure!(vp.canceller().is_cancelled(), "a cancellation is lost");
    vp.canceller().clear();
    Ok(())
}

pub(crate) fn flush(bed: &Bed) -> Outcome {
    ensure!(bed.info.num_l2_vms > 1, "one VM only");
    let mut vtl0 = start(bed, SPIN)?;
    let mut vtl1 = vtl0.sibling(Vm::VTL1);
    bed.vtl.set_rights(&bed.memory, Vm::VTL1, PageRights::ALL)?;
    // Both have run: neither has anything left to invalidate.
    let run = |vp: &mut Vp| -> Outcome {
        vp.start(Mode::Protected32, bed.memory.base())?;
        vp.page().arm_deadline(vtl::tsc() + 100_000);
        expect_next(vp, "PREEMPTION_TIMER")?;
        ensure!(vp.page().entry_rcx() & 3 == 0, "the flush was not done");
        Ok(())
    };
    // A cancelled run makes no entry: what it would have invalidated stays in the page.
    let requested = |vp: &mut Vp| -> Result<u64, Box<dyn std::error::Error>> {
        vp.canceller().cancel();
        expect_next(vp, "(interrupted)")?;
        vp.canceller().clear();
        Ok(vp.page().entry_rcx() & 3)
    };
    run(&mut vtl0)?;
    run(&mut vtl1)?;
    ensure!(requested(&mut vtl0)? == 0, "VTL0 flushes for no reason");
    run(&mut vtl1)?;
    // The page names VTL1, which does this.
    bed.vtl.flush([vtl1.page()])?;
    run(&mut vtl1)?;
    ensure!(requested(&mut vtl0)? == 1, "VTL0 keeps its translations");
    run(&mut vtl0)?;
    // A request for VTL0, and VTL1 runs first.
    vtl0.page().request_flush(Flush::Linear);
    run(&mut vtl1)?;
    ensure!(requested(&mut vtl0)? == 1, "VTL1 has taken VTL0's flush");
    run(&mut vtl0)?;
    vtl0.start(Mode::Protected32, bed.memory.base())?;
    ensure!(requested(&mut vtl0)? == 1, "a new start keeps translations");
    vtl0.page().disarm_deadline();
    bed.vtl
        .set_rights(&bed.memory, Vm::VTL1, PageRights::NONE)?;
    Ok(())
}

pub(crate) fn failure(bed: &Bed) -> Outcome {
    const PAGING: u64 = 1 << 31;
    const PROTECTION: u64 = 1;
    let mut vp = start(bed, CPUID)?;
    let cr0 = vp.read(L2Field::GUEST_CR0)?;
    vp.write(L2Field::GUEST_CR0, (cr0 | PAGING) & !PROTECTION)?;
    expect_next(&mut vp, "ENTRY_FAILURE_GUEST_STATE")?;
    let pending = vp.pending_event()?;
    ensure!(pending.is_none(), "an event waits: {pending:x?}");
    vp.write(L2Field::GUEST_CR0, cr0)?;
    expect_next(&mut vp, "CPUID")
}

pub(crate) fn window(bed: &Bed) -> Outcome {
    let mut vp = start(bed, STI)?;
    ensure!(!vp.can_take_interrupt()?, "interrupts are off");
    vp.watch_interrupt_window()?;
    expect_next(&mut vp, "INTERRUPT_WINDOW")?;
    vp.ignore_interrupt_window()?;
    ensure!(vp.can_take_interrupt()?, "the window is closed");
    vp.inject(Event::Interrupt(0x31))?;
    ensure!(!vp.can_take_interrupt()?, "there is room for two");
    let second = vp.inject(Event::Nmi);
    ensure!(
        second.is_err(),
        "a second event took the place of the first"
    );
    // The guest has no table of interrupts.
    expect_next(&mut vp, "TRIPLE_FAULT")
}

pub(crate) fn deadline(bed: &Bed) -> Outcome {
    let mut vp = start(bed, SPIN)?;
    vp.page().arm_deadline(vtl::tsc() + 100_000);
    expect_next(&mut vp, "PREEMPTION_TIMER")?;
    ensure!(
        vp.page().deadline().is_none(),
        "the kernel has not taken it"
    );
    Ok(())
}

pub(crate) fn kick(bed: &Bed) -> Outcome {
    let mut vp = start(bed, SPIN)?;
    let vtl = bed.vtl.clone();
    let kicker = std::thread::spawn(move || vtl.kick([0], Kick::new().with_cancel(true)));
    expect_next(&mut vp, "(interrupted)")?;
    kicker.join().map_err(|_| "the kicker panicked")??;
    ensure!(vp.canceller().is_cancelled(), "it was not cancelled");
    vp.canceller().clear();
    bed.vtl.kick([0, 4000], Kick::new().with_wait(true))?;
    Ok(())
}

pub(crate) fn poll_file(bed: &Bed) -> Outcome {
    let mut vp = start(bed, SPIN)?;
    let (file, mut other) = std::os::unix::net::UnixStream::pair()?;
    bed.vtl.set_poll_file(0, &file)?;
    let writer = std::thread::spawn(move || other.write_all(b"x").map(|()| other));
    expect_next(&mut vp, "(interrupted)")?;
    let _other = writer.join().map_err(|_| "the writer panicked")??;
    bed.vtl.clear_poll_file(0)?;
    vp.canceller().clear();
    let missing = bed.vtl.set_poll_file(4000, &file);
    let errno = missing.err().and_then(|error| error.errno());
    ensure!(errno == Some(vtl::Errno::ENXIO), "{errno:?}");
    Ok(())
}

pub(crate) fn interrupt(bed: &Bed) -> Outcome {
    let mut vp = start(bed, SPIN)?;
    vp.page().request_interrupt(0x41);
    expect_next(&mut vp, "(interrupted)")?;
    let taken = vp.page().take_interrupts();
    ensure!(taken == Vectors::from_iter([0x41]), "{taken:?}");
    ensure!(vp.page().take_interrupts().is_empty(), "taken twice");
    Ok(())
}

pub(crate) fn records(bed: &Bed) -> Outcome {
    let stats = bed.vtl.stats(0)?.ok_or("no counters")?;
    ensure!(stats.exits.iter().any(|exit| exit.count != 0), "{stats:?}");
    ensure!(bed.vtl.stats(4000)?.is_none(), "CPU 4000 has counters");
    let mut follower = Follower::from_oldest(bed.vtl.map_audit_ring(0, &bed.info)?);
    let mut last = 0;
    while let Some(step) = follower.step() {
        if let Step::Record(record) = step {
            ensure!(record.sequence > last && record.vm != 0, "{record:?}");
            last = record.sequence;
        }
    }
    ensure!(last != 0, "the ring is empty");
    Ok(())
}
