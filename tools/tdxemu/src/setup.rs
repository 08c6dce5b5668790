// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! From the loader's hand-over to a TD that can run: memory is divided, L1's kernel and tables are
//! in place, and the TD's page table is filled.
//!
//! The order matters: kernel and RAM disk must be moved away from where QEMU put them before the
//! emulator writes anything there.

// UNSAFETY: declares which memory is whose.
#![expect(unsafe_code)]

mod low;
mod td;

use crate::acpi::{self, Physical};
use crate::boot::{self, Handover};
use crate::config::{self, Config, HostKind};
use crate::cpu::tsc;
use crate::host::{iommu, timers};
use crate::loader::{self, BootParams, Facts, Kernel};
use crate::mem::frame::FramePool;
use crate::mem::guest::GuestMemory;
use crate::mem::layout::{self, Layout, Ram, Taken};
use crate::mem::map::{MemoryMap, Range};
use crate::mem::npt::AddressSpaces;
use crate::{log, measure, smp};
use core::fmt::Write;
use spin::{Mutex, Once};
use tdx_model::td::Td;

/// What a change of the TD's page table needs.
pub struct World {
    /// The TD as the TDX module sees it.
    pub td: Td<'static>,
    /// The nested tables that follow it.
    pub spaces: AddressSpaces,
}

/// Everything the processors share.
pub struct Platform {
    /// Options.
    pub config: Config,
    /// Frames of the emulator.
    pub pool: FramePool,
    /// Memory of the guests.
    pub memory: GuestMemory,
    /// Which addresses are of memory.
    pub ram: Ram,
    /// Rate of the time-stamp counter.
    pub tsc_khz: u64,
    /// Multiprocessor Wakeup mailbox.
    pub mailbox_pa: u64,
    /// Page tables that processors of L1 start with.
    pub start_cr3: u64,
    /// The TD. Set right after everything above.
    pub world: Once<Mutex<World>>,
}

static PLATFORM: Once<Platform> = Once::new();
static START: Once<Start> = Once::new();

impl Platform {
    /// The TD and its tables, locked.
    pub fn world(&self) -> spin::MutexGuard<'_, World> {
        self.world.wait().lock()
    }
}

/// The platform; only after [`prepare`].
pub fn platform() -> &'static Platform {
    PLATFORM.wait()
}

/// How L1 starts; waits until everything is ready for it.
pub fn start() -> &'static Start {
    START.wait()
}

/// How the first processor starts L1.
pub struct Start {
    /// Entry point.
    pub rip: u64,
    /// Zero page.
    pub rsi: u64,
}

/// Firmware's memory, read where it is. Only used before any guest runs.
struct Firmware;

impl Physical for Firmware {
    fn read(&self, address: u64, bytes: &mut [u8]) {
        // SAFETY: ACPI tables are in RAM or ROM, which is identity mapped; nothing writes there.
        unsafe {
            core::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), bytes.len());
        };
    }
}

/// Prepares everything and starts the TD's processors.
///
/// # Errors
///
/// In words for the user, when the machine or the command line cannot be used.
pub fn prepare(handover: Handover) -> Result<(), &'static str> {
    let (config, l1_cmdline) = match config::parse(handover.cmdline) {
        Ok(parsed) => parsed,
        Err(config::Refused(word)) => {
            log!(Error, "unknown option or value: {word}");
            return Err(config::KNOWN);
        }
    };
    log::set_level(config.log);
    let tables = acpi::find(&Firmware, handover.rsdp_pa)?;
    smp::declare(acpi::processors(&Firmware, &tables))?;

    let mut first_page: BootParams = [0; 4096];
    Firmware.read(loader::FILE_PA, &mut first_page);
    let kernel = loader::inspect(&first_page)?;
    let taken = Taken {
        image: boot::image(),
        initrd: handover.initrd,
        cpus: smp::count() as u64,
    };
    let layout = layout::plan(&handover.map, &taken, &config.vtl0, &kernel)?;
    let map = layout.l1_map(&handover.map);
    // While they are where QEMU put them.
    let digests = [
        Range::new(loader::FILE_PA, loader::FILE_PA + kernel.image_bytes()),
        handover.initrd,
    ]
    .map(|range| {
        measure::digest(range.len_bytes(), |at, piece| {
            Firmware.read(range.start + at, piece)
        })
    });
    // SAFETY: this is RAM (and the ROM below 1 MiB) without image and pool, where all of the
    // emulator's references point.
    let memory = unsafe { GuestMemory::new(&layout.guests()) };
    place_kernel(&memory, &kernel, layout.kernel, handover.initrd)?;
    if !memory.relocate(handover.initrd, layout.initrd.start) {
        return Err("the initial RAM disk does not fit");
    }
    let cmdline = write_cmdline(&memory, &kernel, l1_cmdline, &layout.vtl0)?;

    // SAFETY: `layout` gives the pool RAM that no one else has, L1's map says reserved, and the
    // page table of the TD never maps.
    let pool = unsafe { FramePool::new(layout.pool) };
    let nvs = layout.nvs().start;
    let start_cr3 = write_start_tables(&memory, nvs + 4096)?;
    let rsdp_pa = write_acpi(&memory, &tables, &layout)?;
    let facts = Facts {
        initrd_pa: layout.initrd.start,
        initrd_bytes: layout.initrd.len_bytes(),
        rsdp_pa,
        map: &map,
    };
    let page = loader::boot_params(&first_page, &facts);
    if !memory.write(loader::BOOT_PARAMS_PA, &page) {
        return Err("no memory for the zero page");
    }
    if layout.is_vtl0_low() {
        low::clear(&memory)?;
    }

    let tsc_khz = (tsc::measure_khz() + 500) / 1000 * 1000;
    let platform = PLATFORM.call_once(|| Platform {
        config,
        pool,
        memory,
        ram: layout.ram,
        tsc_khz,
        mailbox_pa: nvs,
        start_cr3,
        world: Once::new(),
    });
    let mut world = td::build(platform, &layout)?;
    if let Some(unit_pa) = tables.dma_unit_pa {
        let shared = world.spaces.shared_table_pa();
        let shared = shared.ok_or("L1 has no table of shared pages")?;
        iommu::start(unit_pa, shared, &platform.pool)?;
    }
    measure_boot(
        &memory,
        &mut world.td,
        digests,
        cmdline.bytes(),
        layout.log(),
    )?;
    platform.world.call_once(|| Mutex::new(world));
    log!(
        Info,
        "TD with {} vCPUs, {} L2 VMs, TSC {} MHz, VTL0 memory{}, {} frames left",
        smp::count(),
        config.l2_vms,
        tsc_khz / 1000,
        Pieces(&layout.vtl0),
        platform.pool.frames_left()
    );
    let has_timers = config.host == HostKind::HyperV && !config.is_time_hidden;
    if has_timers && smp::current_index().is_none() {
        timers::declare_keeper();
    }
    // SAFETY: the trampoline page is ordinary low memory that L1 does not use yet; the platform
    // and the TD are complete.
    unsafe { smp::start_others(&platform.pool)? };
    START.call_once(|| Start {
        rip: layout.kernel.start + kernel.entry,
        rsi: loader::BOOT_PARAMS_PA,
    });
    Ok(())
}

fn place_kernel(
    memory: &GuestMemory,
    kernel: &Kernel,
    target: Range,
    initrd: Range,
) -> Result<(), &'static str> {
    const TOO_BIG: &str = "the kernel does not fit into memory";
    let file = Range::new(loader::FILE_PA, loader::FILE_PA + kernel.image_bytes());
    if file.overlaps(&initrd) {
        return Err("kernel and initial RAM disk overlap in memory: give QEMU more with -m");
    }
    let pieces = || kernel.pieces.iter().filter(|p| p.memory_bytes != 0);
    if pieces().count() > 1 && file.overlaps(&target) {
        return Err("the ELF file is linked for where QEMU puts it, at 0x30000000");
    }
    for piece in pieces() {
        let start = loader::FILE_PA + piece.offset;
        let source = Range::new(start, start + piece.file_bytes);
        let to = target.start + piece.at;
        let zeros = piece.memory_bytes - piece.file_bytes;
        let is_placed = piece.at + piece.memory_bytes <= target.len_bytes()
            && memory.relocate(source, to)
            && memory.zero(to + piece.file_bytes, zeros);
        if !is_placed {
            return Err(TOO_BIG);
        }
    }
    Ok(())
}

/// For the log.
struct Pieces<'m>(&'m MemoryMap);

impl core::fmt::Display for Pieces<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0
            .iter()
            .try_for_each(|(range, _)| write!(f, " {:#x}..{:#x}", range.start, range.end))
    }
}

/// A string that stops growing at its end.
struct Line {
    bytes: [u8; loader::CMDLINE_BYTES],
    len: usize,
}

impl Line {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // One byte stays for the terminating zero.
        let room = self.bytes.len() - 1;
        let target = self.bytes.get_mut(self.len..self.len + text.len());
        match target {
            Some(target) if self.len + text.len() <= room => {
                target.copy_from_slice(text.as_bytes());
                self.len += text.len();
                Ok(())
            }
            _ => Err(core::fmt::Error),
        }
    }
}

fn write_cmdline(
    memory: &GuestMemory,
    kernel: &Kernel,
    given: &str,
    vtl0: &MemoryMap,
) -> Result<Line, &'static str> {
    const TOO_LONG: &str = "the kernel command line is too long";
    let mut line = Line {
        bytes: [0; loader::CMDLINE_BYTES],
        len: 0,
    };
    write!(line, "{given} vtl0_mem").map_err(|_| TOO_LONG)?;
    let mut separator = '=';
    for (range, _) in vtl0.iter() {
        let (start, len_bytes) = (range.start, range.len_bytes());
        write!(line, "{separator}{start:#x},{len_bytes:#x}").map_err(|_| TOO_LONG)?;
        separator = ',';
    }
    if line.len as u64 > kernel.cmdline_bytes || !memory.write(loader::CMDLINE_PA, &line.bytes) {
        return Err(TOO_LONG);
    }
    Ok(line)
}

/// Extends the registers as a firmware does, and leaves the log of it.
fn measure_boot(
    memory: &GuestMemory,
    td: &mut Td<'_>,
    [kernel, initrd]: [measure::Digest; 2],
    cmdline: &[u8],
    place: Range,
) -> Result<(), &'static str> {
    let mut log = [0; 4096 * layout::FIRMWARE_LOG_PAGES as usize];
    let boot = measure::Boot {
        kernel,
        initrd,
        cmdline,
    };
    measure::measure(
        &boot,
        |rtmr, digest| td.measurements.extend(rtmr, digest),
        &mut log,
    )?;
    match memory.write(place.start, &log) {
        true => Ok(()),
        false => Err("no memory for the event log of the boot"),
    }
}

/// Writes an identity map of 512 GiB into two pages and returns the value for CR3.
fn write_start_tables(memory: &GuestMemory, start: u64) -> Result<u64, &'static str> {
    const TABLE: u64 = 0x63;
    const LARGE_PAGE: u64 = 0xe3;
    let pdpt = start + 4096;
    let mut ok = memory.zero(start, 4096) && memory.write(start, &(pdpt | TABLE).to_le_bytes());
    for gib in 0..512u64 {
        ok &= memory.write(pdpt + 8 * gib, &((gib << 30) | LARGE_PAGE).to_le_bytes());
    }
    if ok {
        Ok(start)
    } else {
        Err("no memory for L1's first page tables")
    }
}

fn write_acpi(
    memory: &GuestMemory,
    tables: &acpi::Tables,
    layout: &Layout,
) -> Result<u64, &'static str> {
    let mut area = [0; 4096 * layout::FIRMWARE_TABLE_PAGES as usize];
    let number = |apic_id| smp::index_of(apic_id).and_then(|index| u8::try_from(index).ok());
    let (start, mailbox_pa) = (layout.tables().start, layout.nvs().start);
    let places = acpi::Places {
        mailbox_pa,
        log: layout.log(),
    };
    let rsdp_pa = acpi::build(&Firmware, tables, number, &places, &mut area, start)?;
    if !memory.write(start, &area) || !memory.zero(mailbox_pa, 4096) {
        return Err("no memory for the ACPI tables");
    }
    Ok(rsdp_pa)
}
