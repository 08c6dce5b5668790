// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl boot`: an unmodified Linux at VTL0, its console on this terminal.
//!
//! The machine is the crate `vtlvmm`; here are the command line, the terminal, and the report.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vtl::{Mshv, Vtl};
use vtlvmm::board::End;
use vtlvmm::error::Fault;
use vtlvmm::image::Image;
use vtlvmm::linux::Linux;
use vtlvmm::machine::{Disk, Machine, Parts, Remote, Report};
use vtlvmm::platform::power::Power;
use vtlvmm::secure::{Secrets, SecureKernel};

use crate::cmd::boot::guest::Current;
use crate::cmd::boot::handled::Handled;
use crate::cmd::boot::monitor::Monitor;
use crate::cmd::boot::secrets::Source;
use crate::cmd::boot::terminal::Terminal;
use crate::{ExitStatus, Failure, options};

mod guest;
mod handled;
pub(crate) mod monitor;
mod secrets;
mod terminal;

#[derive(clap::Args)]
#[command(after_help = KEYS)]
pub(crate) struct Arguments {
    /// Kernel: a bzImage for x86-64, or one with a Multiboot header
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT", default_value = "console=ttyS0")]
    cmdline: String,
    /// Give the guest only memory below this address [default: all of VTL0's]
    #[arg(long, value_name = "SIZE", value_parser = options::number)]
    memory: Option<u64>,
    /// Virtual processors, on CPUs 0 and up
    #[arg(long, value_name = "N", default_value_t = 1)]
    vps: u32,
    /// Disk image or block device, as a virtio disk
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Secure kernel for VTL1: an image, such as build/vtl1
    #[arg(long, value_name = "FILE")]
    vtl1: Option<PathBuf>,
    /// 32 bytes from which VTL1's keys are derived [default: random ones, as long as this command
    /// runs]
    #[arg(long, value_name = "FILE", requires = "vtl1")]
    vtl1_seed: Option<PathBuf>,
    /// File that counts the starts of VTL1, so that its counter never goes back; made if it is missing
    /// [default: counted as long as this command runs]
    #[arg(long, value_name = "FILE", requires = "vtl1")]
    vtl1_starts: Option<PathBuf>,
    #[command(flatten)]
    monitor: monitor::Arguments,
    /// End when the guest reboots
    #[arg(long)]
    no_reboot: bool,
    /// Stop the guest after this many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Don't print a summary of the run
    #[arg(long, short)]
    quiet: bool,
}

const KEYS: &str = "On a terminal, Ctrl-A X stops the guest, Ctrl-A Ctrl-A is one Ctrl-A for it.

Example:
  vtlctl boot --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0 quiet' --vps 2";

/// An error of the machine, with the exit status that it has.
fn failed(error: vtlvmm::Error) -> Failure {
    let status = match error.fault() {
        Fault::Usage => ExitStatus::Usage,
        Fault::File => ExitStatus::File,
        Fault::System => ExitStatus::Failure,
    };
    Failure::new(status, error)
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let begun = Instant::now();
    let mut source = Source::new(
        arguments.vtl1_seed.as_deref(),
        arguments.vtl1_starts.clone(),
    )?;
    let mut monitor = Monitor::new(&arguments.monitor, &arguments.kernel, arguments.quiet)?;
    let mut machine = build(arguments, &mut source, monitor.as_mut())?;
    let vtl = Vtl::open()?;
    let before = Handled::of(&vtl, arguments.vps)?;
    let guest = Arc::new(Current::new());
    let terminal = Terminal::start(Arc::clone(&guest));
    if let Some(seconds) = arguments.timeout {
        limit(seconds, begun, Arc::clone(&guest));
    }
    loop {
        guest.attach(machine.remote());
        let report = machine.run().map_err(failed)?;
        if report.end == End::Power(Power::Reset) && !arguments.no_reboot {
            machine = build(arguments, &mut source, monitor.as_mut())?;
            continue;
        }
        drop(terminal);
        let after = Handled::of(&vtl, arguments.vps)?;
        if !arguments.quiet {
            let (table, end) = (after.since(&before), text(&report.end));
            let seconds = begun.elapsed().as_secs_f64();
            // The guest can fill a disk that it goes to.
            let _ = writeln!(std::io::stdout(), "\n{table}\n\n{end} ({seconds:.2} s)");
        }
        return Ok(status(&report));
    }
}

/// Everything that can be wrong is found before the terminal changes.
fn build(
    arguments: &Arguments,
    source: &mut Source,
    monitor: Option<&mut Monitor>,
) -> Result<Machine, Failure> {
    let linux = Linux {
        kernel: arguments.kernel.clone(),
        initrd: arguments.initrd.clone(),
        command_line: arguments.cmdline.clone(),
    };
    let parts = Parts {
        image: Image::open(&linux).map_err(failed)?,
        disk: arguments
            .disk
            .as_deref()
            .map(Disk::open)
            .transpose()
            .map_err(failed)?,
        memory: options::lower_memory()?,
        limit: arguments.memory,
        processors: arguments.vps,
        vtl1: secure_kernel(arguments.vtl1.as_deref(), source)?,
        output: Box::new(std::io::stdout()),
        monitor: monitor.map(Monitor::settings).transpose()?,
    };
    Machine::build(&Mshv::open()?, parts).map_err(failed)
}

/// The counter's file is only touched if the image is one.
fn secure_kernel(
    path: Option<&Path>,
    source: &mut Source,
) -> Result<Option<(SecureKernel, Secrets)>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let kernel = SecureKernel::open(path).map_err(failed)?;
    Ok(Some((kernel, source.next()?)))
}

/// A thread that stops the guest when its time is over, how often it may have been reset.
fn limit(seconds: u64, begun: Instant, guest: Arc<Current<Remote>>) {
    let left = Duration::from_secs(seconds).saturating_sub(begun.elapsed());
    // Not joined: it ends with the process, and a machine that has ended can't be stopped.
    std::thread::spawn(move || {
        std::thread::sleep(left);
        guest.stop(format!("stopped after {seconds} s (--timeout)"));
    });
}

fn status(report: &Report) -> ExitStatus {
    match &report.end {
        End::Power(Power::Off | Power::Reset | Power::Exit(0)) | End::Halted => ExitStatus::Success,
        End::Power(Power::Exit(_)) | End::Failed(_) => ExitStatus::GuestFailed,
        End::Stopped(_) => ExitStatus::Limit,
        End::Violated(_) => ExitStatus::Violated,
    }
}

fn text(end: &End) -> String {
    match end {
        End::Power(Power::Off) => "the guest powered itself off".to_owned(),
        End::Power(Power::Reset) => "the guest wanted a reset".to_owned(),
        End::Power(Power::Exit(code)) => format!("the guest ended with {code}"),
        End::Halted => "the guest halted".to_owned(),
        End::Failed(why) | End::Stopped(why) => why.clone(),
        End::Violated(what) => format!("stopped by the monitor (--monitor-stop): {what}"),
    }
}
