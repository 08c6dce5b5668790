// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl run`: loads a guest into VTL0's memory and handles its exits.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use vtl::field::L2Field;
use vtl::{Exit, GpaRange, Gpr, Mshv, PageRights, Vm, Vp};

use crate::cmd::run::limit::Limit;
use crate::cmd::run::msr::Fault;
use crate::layout::{Layout, ModeName};
use crate::services::{self, PortService};
use crate::tally::Tally;
use crate::{ExitStatus, Failure, asm, dump, image, json, options};

mod limit;
mod msr;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Flat binary to run
    #[arg(required_unless_present = "demo", conflicts_with = "demo")]
    file: Option<PathBuf>,
    /// Run the built-in demo guest
    #[arg(long)]
    demo: bool,
    /// Mode in which the guest starts, with the base of its memory in RDI, the size in RSI, its own
    /// address in RDX, and a stack
    #[arg(long, value_enum, default_value_t = ModeName::Long)]
    mode: ModeName,
    /// CPU whose virtual processor runs the guest
    #[arg(long, value_name = "N", default_value_t = 0)]
    cpu: u32,
    /// Where to load the binary, from the base of the guest's memory
    /// [default: 1M; 0x7c00 in real mode]
    #[arg(long, value_name = "OFFSET", value_parser = options::number)]
    load_address: Option<u64>,
    /// VTL0's memory [default: 64 MiB of the largest range of the module's vtl0_mem]
    #[arg(long, value_name = "BASE,SIZE", value_parser = options::range)]
    memory: Option<GpaRange>,
    /// Stop the guest after this many exits
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000)]
    max_exits: u64,
    /// Stop the guest after this many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Print one JSON object instead of text; it contains the guest's output
    #[arg(long)]
    json: bool,
}

/// Why a run is over.
enum End {
    Halted,
    Failed(String),
    Limit(String),
}

impl End {
    fn status(&self) -> ExitStatus {
        match self {
            Self::Halted => ExitStatus::Success,
            Self::Failed(_) => ExitStatus::GuestFailed,
            Self::Limit(_) => ExitStatus::Limit,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Halted => "the guest halted",
            Self::Failed(text) | Self::Limit(text) => text,
        }
    }
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let usage = |error| Failure::new(ExitStatus::Usage, error);
    let memory = options::vtl0_memory(arguments.memory)?;
    let layout = Layout::new(arguments.mode, memory, arguments.load_address).map_err(usage)?;
    // A bad file is found before anything changes.
    let guest = match &arguments.file {
        Some(path) => image::read(path, layout.room())?,
        None => demo(&layout).map_err(usage)?.to_vec(),
    };
    if !arguments.json {
        let (size, entry, mode) = (guest.len(), layout.entry(), arguments.mode.name());
        println!("guest: {size} bytes at {entry:#x}, mode {mode}, memory {memory}");
    }
    let vtl = Mshv::open()?.create_vtl()?;
    let mut vp = vtl.bind(arguments.cpu, Vm::VTL0)?;
    // Refused while somebody else runs it, whose guest's memory this may be.
    vp.renew(1)?;
    load(&vtl, &layout, &guest)?;
    start(&vp, &layout)?;

    let mut console = Console {
        kept: arguments.json.then(Vec::new),
    };
    let mut tally = Tally::default();
    // A cancellation from before concerned another guest.
    vp.canceller().clear();
    let limit = Limit::start(arguments.max_exits, arguments.timeout, vp.canceller());
    let end = serve(&mut vp, &limit, &mut tally, &mut console)?;
    report(&vp, &end, &tally, console, &limit);
    Ok(end.status())
}

/// The built-in guest, which only works with 32-bit addresses.
fn demo(layout: &Layout) -> anyhow::Result<&'static [u8]> {
    let memory = layout.memory();
    anyhow::ensure!(
        memory.end() <= 1 << 32,
        "the demo guest needs memory below 4 GiB, {memory} is not; choose another with --memory"
    );
    Ok(asm::demo(layout.mode()))
}

/// Accepts the guest's memory, gives VTL0 its rights, and copies the guest.
fn load(vtl: &vtl::Vtl, layout: &Layout, guest: &[u8]) -> anyhow::Result<()> {
    let range = layout.memory();
    let memory = vtl
        .accept_zeroed(range)
        .context("cannot accept VTL0's memory")?;
    vtl.set_rights(&range, Vm::VTL0, PageRights::ALL)
        .context("cannot give VTL0 its memory")?;
    for (offset, bytes) in layout.tables()? {
        memory.write(offset, &bytes)?;
    }
    memory.write(layout.load_offset(), guest)?;
    Ok(())
}

/// Sets the processor to the guest's first instruction.
fn start(vp: &Vp, layout: &Layout) -> anyhow::Result<()> {
    vp.reset(layout.start_mode(), layout.entry())
        .context("cannot set the start state")?;
    if let Some((base, limit)) = layout.descriptor_table() {
        vp.write(L2Field::GUEST_GDTR_BASE, base)?;
        vp.write(L2Field::GUEST_GDTR_LIMIT, limit)?;
        vp.write(L2Field::GUEST_TR_BASE, layout.task_segment())?;
    }
    let page = vp.page();
    page.set_gpr(Gpr::Rsp, layout.stack());
    page.set_gpr(Gpr::Rdi, layout.guest_base());
    page.set_gpr(Gpr::Rsi, layout.memory().len());
    page.set_gpr(Gpr::Rdx, layout.entry());
    Ok(())
}

/// The run loop: enters VTL0, counts the exit, answers it.
fn serve(
    vp: &mut Vp,
    limit: &Limit,
    tally: &mut Tally,
    console: &mut Console,
) -> anyhow::Result<End> {
    let cpu = vp.cpu();
    let mut last_fault = None;
    loop {
        if let Some(text) = limit.reached(tally.total()) {
            return Ok(End::Limit(text));
        }
        let exit = vp.run()?;
        tally.count(exit.name());
        match exit {
            Exit::Cpuid(cpuid) => {
                let answer = services::virtual_cpuid(cpuid.leaf(), cpu);
                cpuid.answer(answer);
            }
            Exit::Port(access) if !access.port().is_string => match services::port(access.port()) {
                PortService::Console => {
                    console.put(access.value());
                    access.complete();
                }
                PortService::Ignored => access.complete(),
                PortService::Answer(value) => access.answer(value),
            },
            Exit::Port(access) => {
                let number = access.port().number;
                return Ok(End::Failed(format!(
                    "string I/O to port {number:#x} is not supported (expected IN or OUT)"
                )));
            }
            Exit::MsrRead(read) => last_fault = msr::read(read)?.or(last_fault),
            Exit::MsrWrite(write) => last_fault = msr::write(write)?.or(last_fault),
            Exit::Vmcall(call) => {
                let result =
                    services::service(call.gpr(Gpr::Rax), call.gpr(Gpr::Rbx), call.gpr(Gpr::Rcx));
                call.answer(result);
            }
            // Nothing here raises interrupts, so nothing could end a halt.
            Exit::Halt(halt) => {
                halt.complete();
                return Ok(End::Halted);
            }
            // If it was the limit, the next turn ends; a cancellation of somebody else's would make
            // this loop spin.
            Exit::Interrupted => vp.canceller().clear(),
            Exit::NotEntered(_) => {}
            Exit::TripleFault => return Ok(End::Failed(triple_fault(vp, last_fault)?)),
            other => return Ok(End::Failed(describe(&other))),
        }
    }
}

/// A guest without handlers dies of the first exception it gets: of its own, or of one that was raised
/// here.
fn triple_fault(vp: &mut Vp, last_fault: Option<Fault>) -> vtl::Result<String> {
    let text = "triple fault: the guest could not handle an exception";
    Ok(match (vp.first_exception()?, last_fault) {
        (Some(first), _) => format!("{text}, {first} at {:#x}", vp.page().rip()),
        (None, Some(fault)) => format!("{text}, after {fault}"),
        (None, None) => text.to_owned(),
    })
}

fn describe(exit: &Exit<'_>) -> String {
    match exit {
        Exit::EptViolation(violation) => format!(
            "the guest may not {} guest-physical address {:#x} ({})",
            violation.access(),
            violation.gpa,
            if violation.is_pending {
                "the page is not accepted"
            } else {
                "no right to it"
            },
        ),
        Exit::Mmio(mmio) => format!(
            "the guest may not {} guest-physical address {:#x}{} (no memory, and no device is \
             emulated)",
            mmio.access(),
            mmio.gpa,
            if mmio.is_shared() {
                ", shared with the host"
            } else {
                ""
            },
        ),
        Exit::EntryFailure {
            reason,
            qualification,
        } => format!(
            "the guest's state is invalid (exit reason {reason}, qualification {qualification:#x})"
        ),
        Exit::Unknown(instruction) => format!(
            "exit {} is not supported (reason {:#x}, qualification {:#x})",
            exit.name(),
            instruction.info().rax,
            instruction.info().rcx,
        ),
        other => format!("exit {} is not supported", other.name()),
    }
}

/// Where the guest's characters go.
struct Console {
    /// With --json they are kept for the object.
    kept: Option<Vec<u8>>,
}

impl Console {
    fn put(&mut self, value: u32) {
        // CAST: a character port has eight bits.
        let byte = value as u8;
        match &mut self.kept {
            Some(kept) => kept.push(byte),
            None => {
                // A closed terminal must not end the guest.
                let mut stdout = std::io::stdout().lock();
                let _ = stdout.write_all(&[byte]);
                if byte == b'\n' {
                    let _ = stdout.flush();
                }
            }
        }
    }
}

fn report(vp: &Vp, end: &End, tally: &Tally, console: Console, limit: &Limit) {
    let registers = match end {
        End::Halted => Vec::new(),
        End::Failed(_) | End::Limit(_) => dump::registers(vp),
    };
    if let Some(kept) = console.kept {
        let registers: serde_json::Map<_, _> = registers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json::word(*value)))
            .collect();
        println!(
            "{}",
            serde_json::json!({
                "end": end.text(),
                "halted": matches!(end, End::Halted),
                "exits": tally.to_json(),
                "total": tally.total(),
                "seconds": limit.elapsed_seconds(),
                "console": String::from_utf8_lossy(&kept),
                "registers": registers,
            })
        );
        return;
    }
    if !registers.is_empty() {
        println!("\nstate of cpu {}:\n{}", vp.cpu(), dump::table(&registers));
    }
    println!(
        "\n{tally}\n\n{} ({:.2} s)",
        end.text(),
        limit.elapsed_seconds()
    );
}
