// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Entry points of the processors, and the data of the loader (PVH start info).
//!
//! `boot/header.S` calls `emu_main` in `main.rs`; `boot/ap.S` calls `emu_ap_main` in `smp.rs`.

// UNSAFETY: assembly entry points, linker symbols, and structures the loader left in memory.
#![expect(unsafe_code)]

use crate::cpu::{cr, msr};
use crate::mem::map::{Kind, MemoryMap, Range};
use core::arch::global_asm;
use core::ptr::addr_of;

/// Bytes of each processor's stack. Below it are the image's data or another processor's stack. Where
/// the first processor also runs L1, more than 64 KiB are in use.
pub const STACK_BYTES: usize = 128 << 10;
/// What the lowest word of each stack holds as long as the stack has not overflowed. There is no page
/// that faults instead: after a #VMEXIT the task register is the guest's, so the handler of the fault
/// could have no stack of its own.
const STACK_MARK: i32 = 0x5741_4c4c;

/// Where the other processors start; inside L1's memory, which is not in use yet.
const TRAMPOLINE: u64 = 0x8000;

const HVM_START_MAGIC: u32 = 0x336e_c578;

global_asm!(
    include_str!("boot/header.S"),
    CR0 = const cr::HOST_CR0,
    CR4 = const cr::HOST_CR4,
    EFER = const cr::HOST_EFER,
    MSR_EFER = const msr::EFER,
    STACK = const STACK_BYTES,
    STACK_MARK = const STACK_MARK,
    options(att_syntax)
);
global_asm!(
    include_str!("boot/ap.S"),
    CR0 = const cr::HOST_CR0,
    CR4 = const cr::HOST_CR4,
    EFER = const cr::HOST_EFER,
    MSR_EFER = const msr::EFER,
    STACK = const STACK_BYTES,
    STACK_MARK = const STACK_MARK,
    TRAMPOLINE = const TRAMPOLINE,
    options(att_syntax)
);

unsafe extern "C" {
    static emu_boot_stack: u8;
    static emu_image_start: u8;
    static emu_image_end: u8;
    static emu_ap_trampoline: u8;
    static emu_ap_trampoline_end: u8;
}

/// Layout of `hvm_start_info`, version 1.
#[repr(C)]
#[derive(Clone, Copy)]
struct HvmStartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    nr_modules: u32,
    modlist_paddr: u64,
    cmdline_paddr: u64,
    rsdp_paddr: u64,
    memmap_paddr: u64,
    memmap_entries: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ModlistEntry {
    paddr: u64,
    size: u64,
    cmdline_paddr: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MemmapEntry {
    addr: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Data that the loader passed.
pub struct Handover {
    /// Command line, not yet split.
    pub cmdline: &'static str,
    /// The initial RAM disk, empty if none was given.
    pub initrd: Range,
    /// Firmware's memory map.
    pub map: MemoryMap,
    /// ACPI root pointer.
    pub rsdp_pa: u64,
}

/// Reads the start info.
///
/// # Safety
///
/// `start_info_pa` is what the loader passed in EBX, and nothing has been written to memory
/// outside the image since.
pub unsafe fn read_handover(start_info_pa: u64) -> Result<Handover, &'static str> {
    // SAFETY: the loader placed the structure there, line 1 of `# Safety`.
    let info = unsafe { (start_info_pa as *const HvmStartInfo).read_unaligned() };
    if info.magic != HVM_START_MAGIC || info.version < 1 {
        return Err("not started by a PVH loader that gives a memory map");
    }
    let mut map = MemoryMap::new();
    for index in 0..u64::from(info.memmap_entries) {
        let entry_pa = info.memmap_paddr + index * size_of::<MemmapEntry>() as u64;
        // SAFETY: the start info has that many entries, by the PVH protocol.
        let entry = unsafe { (entry_pa as *const MemmapEntry).read_unaligned() };
        map.add(
            Range::new(entry.addr, entry.addr + entry.size),
            Kind::from_e820(entry.kind),
        );
    }
    let mut initrd = Range::new(0, 0);
    if info.nr_modules > 0 {
        // SAFETY: the start info has at least one module, by the PVH protocol.
        let module = unsafe { (info.modlist_paddr as *const ModlistEntry).read_unaligned() };
        initrd = Range::new(module.paddr, module.paddr + module.size);
    }
    let cmdline = if info.cmdline_paddr == 0 {
        c""
    } else {
        // SAFETY: the loader ends the string with a zero byte, and no one writes to it before
        // `main.rs` has copied what it needs.
        unsafe { core::ffi::CStr::from_ptr(info.cmdline_paddr as *const core::ffi::c_char) }
    };
    let cmdline = cmdline
        .to_str()
        .map_err(|_| "the command line is not text")?;
    Ok(Handover {
        cmdline,
        initrd,
        map,
        rsdp_pa: info.rsdp_paddr,
    })
}

/// The stack of a processor.
#[derive(Clone, Copy)]
pub struct Stack {
    bottom: *const u64,
}

impl Stack {
    /// That of this processor. The others' begin at `others`.
    pub fn current(others: u64) -> Self {
        let rsp: u64;
        // SAFETY: no effect.
        unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) };
        let first = addr_of!(emu_boot_stack) as u64;
        let stack_bytes = STACK_BYTES as u64;
        let bottom = if (first..=first + stack_bytes).contains(&rsp) {
            first
        } else {
            others + (rsp - others) / stack_bytes * stack_bytes
        };
        Self {
            bottom: bottom as *const u64,
        }
    }

    /// Returns true if the lowest word was not overwritten.
    pub fn is_whole(self) -> bool {
        // SAFETY: the stack of a processor that runs; the assembly at its start has written the word.
        unsafe { self.bottom.read_volatile() == STACK_MARK as u64 } // CAST: positive
    }
}

/// The memory of this program.
pub fn image() -> Range {
    Range::new(
        addr_of!(emu_image_start) as u64,
        addr_of!(emu_image_end) as u64,
    )
}

/// Copies the real-mode code to its page and returns the start-up vector for it.
///
/// # Safety
///
/// The trampoline page holds nothing that is still needed.
pub unsafe fn install_trampoline() -> u8 {
    let start = addr_of!(emu_ap_trampoline);
    let len_bytes = addr_of!(emu_ap_trampoline_end) as usize - start as usize;
    // SAFETY: the source is that many bytes of this image; the destination is free by `# Safety`.
    unsafe { core::ptr::copy_nonoverlapping(start, TRAMPOLINE as *mut u8, len_bytes) };
    (TRAMPOLINE >> 12) as u8 // CAST: a page below 1 MiB
}
