// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Builds a machine and runs it: memory is accepted and VTL0 gets its rights, the kernel is
//! loaded, each virtual processor gets a thread that is bound to its CPU.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use vm_memory::GuestMemory as _;
use vtl::{GpaRange, Info, Mshv, Vtl};
use vtl1_host::Prepared;

use crate::acpi::Tables;
use crate::board::{Board, End, Tally};
use crate::error::{Error, Result};
use crate::image::{Image, Start};
use crate::memory::{self, Lent, LowerRam, OfTd, Piece, Protected, Range, place};
use crate::monitor::{self, Watch};
use crate::parking::Mutex;
use crate::platform::Gsi;
use crate::platform::interrupts::{Deliver, Interrupts};
use crate::platform::ports::PortDevices;
use crate::platform::serial::{Output, SerialPort};
use crate::processors::Processors;
use crate::secure::{self, Secrets, SecureKernel};
use crate::vcpu::Vcpu;
use crate::virtio::Slot;
use crate::virtio::block::{Block, SECTOR};
use crate::virtio::mmio::{Device, Transport};
use crate::virtio::rng::Random;

/// What a machine is made of.
pub struct Parts {
    /// The kernel and what belongs to it.
    pub image: Image,
    /// Memory that the module has for lower VTLs.
    pub memory: Vec<GpaRange>,
    /// Only memory below this address is given to the guest.
    pub limit: Option<u64>,
    /// As many virtual processors, on CPUs 0 and up.
    pub processors: u32,
    /// The disk.
    pub disk: Option<Disk>,
    /// What runs at VTL1.
    pub vtl1: Option<(SecureKernel, Secrets)>,
    /// Where the guest's characters go.
    pub output: Output,
    /// Checks the guest from outside.
    pub monitor: Option<monitor::Settings>,
}

/// A file that is a disk.
#[derive(Debug)]
pub struct Disk {
    file: File,
    len_bytes: u64,
    is_read_only: bool,
}

impl Disk {
    /// Opens a file or block device; for reading only, if it can't be written.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Content`] for a file without a whole sector.
    pub fn open(path: &Path) -> Result<Self> {
        const WHAT: &str = "disk";
        let wrong = |error| Error::File {
            what: WHAT,
            path: path.to_path_buf(),
            error,
        };
        let for_writing = OpenOptions::new().read(true).write(true).open(path);
        let (mut file, is_read_only) = match for_writing {
            Ok(file) => (file, false),
            Err(_) => (File::open(path).map_err(wrong)?, true),
        };
        let problem = |problem: &str| Error::Content {
            what: WHAT,
            path: path.to_path_buf(),
            problem: problem.to_owned(),
        };
        if file.metadata().map_err(wrong)?.is_dir() {
            return Err(problem(
                "is a folder (expected a disk image or a block device)",
            ));
        }
        // The end of a block device is where seeking finds it.
        let len_bytes = std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(wrong)?;
        if len_bytes < SECTOR {
            return Err(problem("has no whole sector of 512 bytes"));
        }
        Ok(Self {
            file,
            len_bytes,
            is_read_only,
        })
    }
}

/// A machine that has not begun.
pub struct Machine {
    board: Arc<Board<LowerRam>>,
    secure: Option<Prepared>,
    lent: Lent<OfTd>,
    start: Start,
    info: Info,
    monitor: Option<monitor::Settings>,
}

/// How a run was.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// The exits that userspace answered, of all processors.
    pub tally: Tally,
}

/// From outside: what is typed, and the end. It does not keep anything of the machine.
#[derive(Clone, Debug)]
pub struct Remote(Weak<Board<LowerRam>>);

impl Remote {
    /// Gives the guest what was typed; how much of it there was room for. What is typed for a machine
    /// that is no more is lost.
    pub fn type_in(&self, bytes: &[u8]) -> usize {
        match self.0.upgrade() {
            Some(board) => board.ports.serial.type_in(bytes),
            None => bytes.len(),
        }
    }

    /// Stops the machine.
    pub fn stop(&self, why: String) {
        if let Some(board) = self.0.upgrade() {
            board.end(End::Stopped(why));
        }
    }
}

impl Machine {
    /// Builds it.
    ///
    /// # Errors
    /// Whatever is wrong with the parts; nothing of the guest has run then.
    pub fn build(mshv: &Mshv, parts: Parts) -> Result<Self> {
        let info = mshv.info()?;
        let mut ram = guest_memory(&parts.memory, parts.limit)?;
        let (vtl1, secure) = match parts.vtl1 {
            Some(_) if info.num_l2_vms < 2 => {
                return Err(Error::NoVtl1 {
                    vms: info.num_l2_vms,
                });
            }
            Some((kernel, secrets)) => {
                let own = secure::take_memory(&mut ram)?;
                (Some(own), Some(kernel.prepare(&secrets, own, &ram)?))
            }
            None => (None, None),
        };
        let vtl = mshv.create_vtl()?;
        let processors = Arc::new(processors(&vtl, parts.processors)?);
        let protected = Arc::new(Protected::default());
        let (memory, lent) = give_memory(&vtl, info.num_l2_vms, &parts.memory, &ram)?;
        let for_devices = memory.iter().map(|piece| piece.for_devices(&protected));
        let device_memory = whole(for_devices.collect())?;
        if let Some(own) = vtl1 {
            vtl.accept(&GpaRange::new(own.start, own.len())?)?;
        }
        let interrupts = Interrupts::new(Arc::clone(&processors) as Arc<dyn Deliver>);
        let virtio = virtio_devices(&interrupts, parts.disk)?;
        let apic_ids: Vec<u32> = processors.list().iter().map(|it| it.apic_id).collect();
        let slots: Vec<Slot> = virtio.iter().map(|(slot, _)| *slot).collect();
        let tables = Tables {
            apic_ids: &apic_ids,
            virtio: &slots,
            vtl1,
        };
        let start = parts
            .image
            .load(&memory, &ram, &tables.at(place::ACPI.start))?;
        let watch = parts.monitor.as_ref();
        let watch = watch.map(|_| Arc::new(Watch::new(processors.list().len())));
        let serial = SerialPort::new(interrupts.line(Gsi::SERIAL), parts.output);
        Ok(Self {
            board: Arc::new(Board {
                memory,
                device_memory,
                protected,
                ports: PortDevices::new(serial),
                interrupts,
                virtio,
                processors,
                watch,
                end: Mutex::new(None),
            }),
            secure,
            lent,
            start,
            info,
            monitor: parts.monitor,
        })
    }

    /// A handle for another thread.
    pub fn remote(&self) -> Remote {
        Remote(Arc::downgrade(&self.board))
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// The first error of a processor. All processors have stopped then.
    pub fn run(mut self) -> Result<Report> {
        let count = self.board.processors.list().len();
        let threads: Vec<_> = (0..count).map(|number| self.spawn(number)).collect();
        let monitor = self.spawn_monitor();
        let mut tally = Tally::new();
        let mut failure = None;
        for thread in threads {
            match thread.join() {
                Ok(Ok(own)) => {
                    own.into_iter()
                        .for_each(|(name, count)| *tally.entry(name).or_default() += count);
                }
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        if let (Some(thread), Some(watch)) = (monitor, &self.board.watch) {
            watch.end();
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.board.processors.clear_cancellations();
        // The next guest, of whatever VTL, finds VTL0 without rights in this one's memory.
        let taken_back = self.lent.take_back();
        if let Some(error) = failure {
            return Err(error.into());
        }
        taken_back?;
        let end = self.board.end.lock().clone();
        Ok(Report {
            end: end.unwrap_or(End::Halted),
            tally,
        })
    }

    fn spawn_monitor(&mut self) -> Option<thread::JoinHandle<()>> {
        let (board, settings) = (Arc::clone(&self.board), self.monitor.take()?);
        let watch = Arc::clone(board.watch.as_ref()?);
        Some(thread::spawn(move || watch.run(&board, settings)))
    }

    fn spawn(&mut self, number: usize) -> thread::JoinHandle<vtl::Result<Tally>> {
        let board = Arc::clone(&self.board);
        // VTL1 is on the boot processor only.
        let begin = (number == 0).then(|| (self.start, self.secure.take()));
        let (tsc_khz, num_l2_vms) = (self.info.tsc_khz, self.info.num_l2_vms);
        thread::spawn(move || {
            // Whatever becomes of this thread, the others must not wait for it.
            let _stop = StopOnDrop(Arc::clone(&board));
            Vcpu::new(board, number, tsc_khz).run(begin, num_l2_vms)
        })
    }
}

struct StopOnDrop(Arc<Board<LowerRam>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.processors.stop();
    }
}

/// The guest's RAM, out of what the module has.
fn guest_memory(list: &[GpaRange], limit: Option<u64>) -> Result<Vec<Range>> {
    let limit = limit.unwrap_or(u64::MAX).min(place::DEVICES);
    let ram = memory::joined(&ranges(list), limit);
    if ram.iter().any(|piece| piece.contains(place::LOW)) {
        return Ok(ram);
    }
    Err(Error::Memory(format!(
        "VTL0 has no memory at 0..{:#x}, where a PC has some; give the machine some, in the \
         emulator with emu.vtl0=512M, and do not cut it off with --memory",
        place::LOW.end
    )))
}

fn ranges(list: &[GpaRange]) -> Vec<Range> {
    let ranges = list.iter().map(|it| Range::new(it.base(), it.end()));
    ranges.collect()
}

/// Accepts memory, which is zero then, maps it, gives VTL0 its rights. To the rest of `all` neither VTL
/// has any then.
fn give_memory(
    vtl: &Vtl,
    num_l2_vms: u32,
    all: &[GpaRange],
    ram: &[Range],
) -> Result<(LowerRam, Lent<OfTd>)> {
    let mut lent = Lent::new(OfTd {
        vtl: vtl.clone(),
        num_l2_vms,
    });
    let given = |piece: &Range| GpaRange::new(piece.start, piece.len());
    let rest = memory::without(&ranges(all), ram);
    let rest: vtl::Result<Vec<_>> = rest.iter().map(given).collect();
    lent.revoke_left(&rest?)?;
    let pieces = ram.iter().map(|piece| {
        let range = given(piece)?;
        let memory = vtl.accept_zeroed(range)?;
        lent.lend(range)?;
        Ok(memory.into())
    });
    let pieces = pieces.collect::<Result<Vec<_>>>()?;
    Ok((whole(pieces)?, lent))
}

fn whole(pieces: Vec<Piece>) -> Result<LowerRam> {
    LowerRam::from_regions(pieces).map_err(|error| Error::Memory(error.to_string()))
}

/// Processors on the first CPUs. Their x2APIC IDs are the CPUs' own, which the kernel uses, too.
fn processors(vtl: &Vtl, count: u32) -> Result<Processors> {
    // CAST: widening.
    let (wanted, there) = (
        count as usize,
        thread::available_parallelism().map_or(1, usize::from),
    );
    if wanted == 0 || wanted > there {
        return Err(Error::Processors { wanted, there });
    }
    let ids: Vec<_> = (0..count)
        .map(|cpu| Ok((cpu, apic_id_of(cpu)?)))
        .collect::<Result<_>>()?;
    Ok(Processors::new(vtl.clone(), &ids)?)
}

/// The x2APIC ID of a CPU: CPUID reports that of the CPU which executes it. In a TD leaf 0xb may be a
/// #VE, for which the kernel answers zeros; then the ID of leaf 1 is all there is.
fn apic_id_of(cpu: u32) -> Result<u32> {
    const FEATURES: u32 = 1;
    const TOPOLOGY: u32 = 0xb;
    let bind = |errno: rustix::io::Errno| vtl::Error::Bind {
        cpu,
        errno: errno.into(),
    };
    let before = sched_getaffinity(None).map_err(bind)?;
    let mut only_this = CpuSet::new();
    // CAST: widening.
    only_this.set(cpu as usize);
    sched_setaffinity(None, &only_this).map_err(bind)?;
    let topology = raw_cpuid::cpuid!(TOPOLOGY);
    let id = match topology.ebx {
        0 => raw_cpuid::cpuid!(FEATURES).ebx >> 24,
        _ => topology.edx,
    };
    sched_setaffinity(None, &before).map_err(bind)?;
    Ok(id)
}

/// The virtio devices: random numbers, and the disk if there is one.
fn virtio_devices(
    interrupts: &Arc<Interrupts>,
    disk: Option<Disk>,
) -> Result<Vec<(Slot, Mutex<Transport>)>> {
    let source = File::open(Random::SOURCE).map_err(|error| Error::File {
        what: "source of random numbers",
        path: PathBuf::from(Random::SOURCE),
        error,
    })?;
    let mut devices = vec![Device::Random(Random::new(source))];
    if let Some(disk) = disk {
        devices.push(Device::Block(Block::new(
            disk.file,
            disk.len_bytes,
            disk.is_read_only,
        )));
    }
    let placed = devices
        .into_iter()
        .zip(0..Slot::COUNT)
        .map(|(device, number)| {
            let slot = Slot::nth(number);
            let transport = Transport::new(device, interrupts.line(slot.gsi()));
            (slot, Mutex::new(transport))
        });
    Ok(placed.collect())
}
