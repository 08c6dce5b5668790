// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One virtual processor: starts it, lets it run, and answers its exits.
//!
//! What can be decided without the processor is in `cpuid`, `msr`, `apic` and `decode`; the
//! devices are the [`Board`]'s.

mod control;
mod guest;
mod mmio;
mod registers;
mod start;
mod watched;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vtl::exit::{Direction, ExceptionExit};
use vtl::{Exception, Exit, Gpr, Vm, Vp, reason};
use vtl1_host::Prepared;

use crate::apic::{Effect, LocalApic};
use crate::board::{Board, End, Tally};
use crate::cpuid;
use crate::image::Start;
use crate::memory::LowerRam;
use crate::processors::{Phase, Processor};

use guest::{Guest, Ran};

/// A virtual processor with its registers that the TDX module does not keep.
#[derive(Debug)]
pub(crate) struct Vcpu {
    board: Arc<Board<LowerRam>>,
    number: usize,
    apic: LocalApic,
    identity: cpuid::CpuidSubject,
    xcr0: u64,
    tally: Tally,
}

/// What to do after an exit.
enum Next {
    /// The processor runs.
    Run,
    /// It is over, unless it is already.
    End(End),
}

impl Vcpu {
    /// The processor of this number; all have the same time-stamp counter.
    pub(crate) fn new(board: Arc<Board<LowerRam>>, number: usize, tsc_khz: u64) -> Self {
        let list = board.processors.list();
        let apic_id = list[number].apic_id;
        let identity = cpuid::CpuidSubject {
            apic_id,
            // CAST: at most as many as there are CPUs.
            count: list.len() as u32,
            tsc_khz,
        };
        let tsc_per_tick = (tsc_khz / cpuid::crystal_khz(tsc_khz)).max(1);
        Self {
            apic: LocalApic::new(apic_id, number == 0, tsc_per_tick),
            board,
            number,
            identity,
            xcr0: 1,
            tally: Tally::new(),
        }
    }

    /// Runs the processor in this thread until the machine has ended. The boot processor begins as
    /// `begin` says, perhaps with a VTL1; the others where their start-up IPI says.
    pub(crate) fn run(
        mut self,
        begin: Option<(Start, Option<Prepared>)>,
        num_l2_vms: u32,
    ) -> vtl::Result<Tally> {
        let board = Arc::clone(&self.board);
        let own = &board.processors.list()[self.number];
        let mut vp = board.processors.vtl().bind(own.cpu, Vm::VTL0)?;
        vp.renew(num_l2_vms)?;
        let outcome = self.serve(vp.sibling(Vm::VTL0), own, begin);
        // Nothing that belongs to this guest stays with the processor, however it ended.
        let renewed = vp.renew(num_l2_vms);
        outcome.and(renewed)?;
        Ok(self.tally)
    }

    fn serve(
        &mut self,
        vp: Vp,
        own: &Processor,
        begin: Option<(Start, Option<Prepared>)>,
    ) -> vtl::Result<()> {
        let board = Arc::clone(&self.board);
        let mut secure = None;
        if let Some((start, prepared)) = begin {
            start::begin(&vp, start)?;
            secure = prepared;
        }
        let mut guest = Guest::new(vp, secure)?;
        while !board.processors.is_over().load(Ordering::SeqCst) {
            if self.attend(&guest, own)? {
                self.be_watched(&guest)?;
                let next = self.turn(&mut guest, own)?;
                if let Next::End(end) = next {
                    board.end(end);
                }
            }
        }
        Ok(())
    }

    /// Handles what other processors request of this one. Returns true if it may run then.
    fn attend(&mut self, guest: &Guest, own: &Processor) -> vtl::Result<bool> {
        let activity = &own.activity;
        if guest.is_in_call(activity.has_request() || self.is_watched()) {
            return Ok(true);
        }
        let vp = guest.vp();
        match activity.phase() {
            Phase::Running => {
                if activity.take_nmi() && !control::deliver_nmi(vp)? {
                    activity.keep_nmi();
                }
                return Ok(true);
            }
            Phase::Starting(page) => {
                self.reset_registers();
                if let Some(watch) = &self.board.watch {
                    watch.restarted(self.number);
                }
                start::at_page(vp, page)?;
                activity.has_started();
                // An INIT may have arrived meanwhile.
                return Ok(false);
            }
            // In this phase senders leave interrupt commands to userspace.
            Phase::Waiting => vp.page().set_offload(vtl::Offload::new()),
            Phase::Dead => {}
        }
        // Nobody is left to start or to wake it: the last one to get here finds out.
        if !self.board.processors.has_live() {
            self.board.end(End::Halted);
        }
        activity.wait(self.board.processors.is_over());
        Ok(false)
    }

    fn reset_registers(&mut self) {
        let tsc_khz = self.identity.tsc_khz;
        let tsc_per_tick = (tsc_khz / cpuid::crystal_khz(tsc_khz)).max(1);
        self.apic = LocalApic::new(self.identity.apic_id, self.number == 0, tsc_per_tick);
        self.xcr0 = 1;
    }

    /// One run, and the answer to what it ended with.
    fn turn(&mut self, guest: &mut Guest, own: &Processor) -> vtl::Result<Next> {
        let board = Arc::clone(&self.board);
        let exit = match guest.run(&board, own)? {
            Ran::Exit(exit) => exit,
            Ran::Served => return Ok(Next::Run),
            Ran::End(end) => return Ok(Next::End(end)),
        };
        *self.tally.entry(exit.name()).or_default() += 1;
        match exit {
            Exit::Interrupted => guest.vp().canceller().clear(),
            Exit::NotEntered(_) => {}
            Exit::Cpuid(exit) => {
                let answer = self.cpuid(exit.vp(), exit.leaf(), exit.subleaf())?;
                exit.answer(answer);
            }
            Exit::Port(exit) if !exit.port().is_string => return Ok(self.port(exit)),
            Exit::MsrRead(exit) => self.read_msr(exit)?,
            Exit::MsrWrite(exit) => return self.write_msr(exit),
            Exit::Deadline => {
                let vp = guest.vp();
                self.note_timer(vp);
                if let Some(vector) = self.apic.expire(vtl::tsc()) {
                    vp.page().request_interrupt(vector);
                }
                self.arm(vp);
            }
            // KVM's answer to an unknown hypercall: also to a VTL call where there is no VTL1, and to
            // one that is not valid.
            Exit::Vmcall(exit) => exit.answer(NO_HYPERCALL),
            Exit::Halt(exit) => {
                let vp = exit.vp();
                exit.complete();
                self.halt(vp);
            }
            Exit::Cr(exit) => control::access_cr(exit)?,
            Exit::Xsetbv(exit) => {
                let value = exit.value();
                if exit.index() == 0 && control::is_xcr0(value) {
                    exit.execute()?;
                    self.xcr0 = value;
                } else {
                    exit.fault(Exception::GeneralProtection)?;
                }
            }
            Exit::Wbinvd(exit) => {
                exit.vp()
                    .page()
                    .request_cache_flush(vtl::CacheFlush::WriteBackInvalidate);
                exit.complete();
            }
            Exit::Mmio(exit) if !exit.is_shared() => {
                return mmio::emulate(&self.board, guest.vp(), exit.gpa, exit.access());
            }
            Exit::EptViolation(exit) if !exit.is_pending => {
                return mmio::emulate(&self.board, guest.vp(), exit.gpa, exit.access());
            }
            Exit::TripleFault => {
                let first = guest.first_exception()?;
                let rip = guest.vp().page().rip();
                return Ok(Next::End(End::Failed(triple_fault(first, rip))));
            }
            Exit::NmiWindow => control::ignore_nmi_window(guest.vp())?,
            Exit::Unknown(exit) => return control::refuse(exit),
            other => return Ok(Next::End(End::Failed(describe(&other)))),
        }
        Ok(Next::Run)
    }

    fn cpuid(&self, vp: &Vp, leaf: u32, subleaf: u32) -> vtl::Result<cpuid::Answer> {
        const WITH_OSXSAVE: u32 = 1;
        let cr4 = match leaf {
            WITH_OSXSAVE => vp.read(vtl::field::L2Field::GUEST_CR4)?,
            _ => 0,
        };
        let state = cpuid::State {
            cr4,
            xcr0: self.xcr0,
        };
        Ok(cpuid::answer(
            leaf,
            subleaf,
            self.identity,
            state,
            |leaf, subleaf| {
                let own = raw_cpuid::cpuid!(leaf, subleaf);
                [own.eax, own.ebx, own.ecx, own.edx]
            },
        ))
    }

    fn port(&self, exit: vtl::exit::PortAccess<'_>) -> Next {
        let port = exit.port();
        match port.direction {
            Direction::In => {
                let value = self.board.ports.read(port.number, port.size_bytes);
                exit.answer(value);
            }
            Direction::Out => {
                let value = exit.value();
                exit.complete();
                if let Some(power) = self.board.ports.write(port.number, port.size_bytes, value) {
                    return Next::End(End::Power(power));
                }
            }
        }
        Next::Run
    }

    /// A halt that the kernel has left to userspace.
    fn halt(&self, vp: &Vp) {
        const TF: u64 = 1 << 8;
        const IF: u64 = 1 << 9;
        let page = vp.page();
        match page.rflags() {
            // The trap ends the halt at once.
            rflags if rflags & TF != 0 => {}
            rflags if rflags & IF != 0 => page.set_halt(Some(vtl::Halt::Hlt)),
            _ => self.board.processors.list()[self.number]
                .activity
                .halt_for_good(),
        }
    }

    /// Has the timer expire in time: by the kernel, where it can serve it, or with an exit.
    fn arm(&self, vp: &Vp) {
        let page = vp.page();
        page.set_timer_vector(self.apic.served_vector());
        page.set_timer_deadline(self.apic.tsc_deadline());
        match self.apic.deadline() {
            Some(deadline) => page.arm_deadline(deadline),
            None => page.disarm_deadline(),
        }
    }

    /// Learns what became of a timer that the kernel serves.
    fn note_timer(&mut self, vp: &Vp) {
        if vp.page().timer_vector().is_some() {
            self.apic.note_tsc_deadline(vp.page().timer_deadline());
        }
    }

    /// Carries out the effect of a write to the APIC. Returns false if the value is not accepted.
    fn carry_out(&self, vp: &Vp, effect: Effect) -> vtl::Result<bool> {
        match effect {
            Effect::None => {}
            Effect::Fault => return Ok(false),
            Effect::Timer => self.arm(vp),
            Effect::Send(command) => {
                let processors = &self.board.processors;
                processors.send(command, &processors.list()[self.number])?;
            }
        }
        Ok(true)
    }
}

/// -KVM_ENOSYS.
const NO_HYPERCALL: u64 = 1000_u64.wrapping_neg();

fn triple_fault(first: Option<ExceptionExit>, rip: u64) -> String {
    let text = "triple fault: the guest could not handle an exception";
    match first {
        Some(first) => format!("{text}, {first} at {rip:#x}"),
        None => text.to_owned(),
    }
}

/// What the guest did, in words.
fn describe(exit: &Exit<'_>) -> String {
    match exit {
        Exit::EntryFailure {
            reason,
            qualification,
        } => format!(
            "the guest's state is invalid (exit reason {reason}, qualification {qualification:#x})"
        ),
        Exit::Mmio(mmio) => format!(
            "the guest may not {} guest-physical address {:#x}, which it would share with the host",
            mmio.access(),
            mmio.gpa
        ),
        Exit::EptViolation(violation) => format!(
            "the guest may not {} guest-physical address {:#x}: the page is not accepted",
            violation.access(),
            violation.gpa
        ),
        Exit::Port(access) => format!(
            "string I/O to port {:#x} is not supported (expected IN or OUT)",
            access.port().number
        ),
        other => format!("exit {} is not supported", other.name()),
    }
}

/// The reason of an exit that has no variant.
fn basic_reason(rax: u64) -> (u16, &'static str) {
    // CAST: bits 15:0.
    let basic = rax as u16;
    (basic, reason::name(basic).unwrap_or("(unknown reason)"))
}

/// Advances RIP past an instruction of `len` bytes. Outside 64-bit code it has 32 bits.
fn step_over(vp: &Vp, len: u8, is_64_bit: bool) {
    let page = vp.page();
    let rip = page.rip().wrapping_add(u64::from(len));
    page.set_rip(if is_64_bit { rip } else { rip & 0xffff_ffff });
    vp.note_step();
}

/// The privilege level: the DPL of SS.
fn cpl(vp: &Vp) -> vtl::Result<u8> {
    const DPL_SHIFT: u32 = 5;
    // CAST: two bits.
    Ok(((vp.read(vtl::field::L2Field::GUEST_SS_AR)? >> DPL_SHIFT) & 3) as u8)
}

/// Returns true if the exit was in 64-bit code: L of the CS rights in RSI.
fn is_64_bit(vp: &Vp) -> bool {
    const CS_L: u64 = 1 << (16 + 13);
    vp.page().exit_info().rsi & CS_L != 0
}

/// Sets a register of the guest.
fn set_gpr(vp: &Vp, gpr: Gpr, value: u64) {
    vp.page().set_gpr(gpr, value);
}
