// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The edge to QEMU: its plugin interface, of which only what is needed
//! is declared here. Arguments: `out=FILE`, and `profile=on` if the report shall
//! have the addresses; or `boot=on`, then what a boot executes is counted instead (`boot`).

// UNSAFETY: FFI. QEMU calls into this file and is called from it.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::boot::Counts;
use crate::classify::classify;
use crate::marker::{Marker, Runner};
use crate::tally::Tally;

/// The oldest interface whose functions are as declared below (instruction
/// bytes are copied out).
#[unsafe(no_mangle)]
static qemu_plugin_version: c_int = 3;

type PluginId = u64;

/// An opaque object of QEMU's.
#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

/// A QEMU scoreboard: one value per vCPU.
type Scoreboard = *mut Opaque;

/// `qemu_plugin_u64`: position of a 64-bit value in each of a scoreboard's entries.
#[repr(C)]
#[derive(Clone, Copy)]
struct Word {
    board: Scoreboard,
    offset: usize,
}

/// `QEMU_PLUGIN_CB_NO_REGS`: the callbacks read no register.
const NO_REGS: c_int = 0;
/// `QEMU_PLUGIN_COND_NE`.
const NOT_EQUAL: c_int = 3;
/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD: c_int = 0;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: PluginId,
        callback: unsafe extern "C" fn(PluginId, *mut Opaque),
    );
    fn qemu_plugin_register_atexit_cb(
        id: PluginId,
        callback: extern "C" fn(PluginId, *mut c_void),
        data: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(block: *const Opaque) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Opaque, index: usize) -> *mut Opaque;
    fn qemu_plugin_insn_data(insn: *const Opaque, to: *mut c_void, len: usize) -> usize;
    fn qemu_plugin_insn_vaddr(insn: *const Opaque) -> u64;
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        insn: *mut Opaque,
        callback: extern "C" fn(c_uint, *mut c_void),
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_cond_cb(
        insn: *mut Opaque,
        callback: extern "C" fn(c_uint, *mut c_void),
        flags: c_int,
        condition: c_int,
        word: Word,
        immediate: u64,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        insn: *mut Opaque,
        operation: c_int,
        word: Word,
        immediate: u64,
    );
    fn qemu_plugin_scoreboard_new(element_size: usize) -> Scoreboard;
    fn qemu_plugin_u64_set(word: Word, vcpu: c_uint, value: u64);
    fn qemu_plugin_u64_sum(word: Word) -> u64;
}

/// Address of the scoreboard whose value is one while its vCPU is on a path. QEMU tests it in
/// translated code, so that code outside of paths stays fast.
static ON_PATH: AtomicUsize = AtomicUsize::new(0);

/// Address of the scoreboard with what the vCPU has executed since reset: in the upper half of the
/// linear addresses, and in the lower one.
static SINCE_RESET: AtomicUsize = AtomicUsize::new(0);
const UPPER: usize = 0;
const LOWER: usize = size_of::<u64>();

fn on_path() -> Word {
    let board = std::ptr::with_exposed_provenance_mut(ON_PATH.load(Ordering::Relaxed));
    Word { board, offset: 0 }
}

fn since_reset(offset: usize) -> Word {
    let board = std::ptr::with_exposed_provenance_mut(SINCE_RESET.load(Ordering::Relaxed));
    Word { board, offset }
}

fn new_board(element_size: usize) -> usize {
    // SAFETY: any size is valid; scoreboards are never freed.
    let board = unsafe { qemu_plugin_scoreboard_new(element_size) };
    board.expose_provenance()
}

static TALLY: Mutex<Tally> = Mutex::new(Tally::new());
static OUT: Mutex<String> = Mutex::new(String::new());

/// In a marker's callback word, above its index: what it marks.
const ENDS: usize = 1 << 8;
const SETS: usize = 1 << 9;

extern "C" fn on_instruction(vcpu: c_uint, word: *mut c_void) {
    if let Ok(mut tally) = TALLY.lock() {
        tally.count(vcpu, word.addr());
    }
}

extern "C" fn on_marker(vcpu: c_uint, word: *mut c_void) {
    let index = (word.addr() & 0xff) as u8; // CAST: masked to a byte
    let marker = if word.addr() & ENDS != 0 {
        Marker::End(index)
    } else if word.addr() & SETS != 0 {
        Marker::Setting(index)
    } else {
        Marker::Begin(index)
    };
    let begins = matches!(marker, Marker::Begin(_));
    if let Ok(mut tally) = TALLY.lock() {
        tally.mark(vcpu, marker);
    }
    // SAFETY: the scoreboard was made in `qemu_plugin_install` and is never freed.
    unsafe { qemu_plugin_u64_set(on_path(), vcpu, u64::from(begins)) };
}

/// Has QEMU call this file whenever `insn` at `address` is executed, if it is a marker, in whatever
/// program, or one of L1's kernel.
///
/// # Safety
///
/// `insn` must be an instruction of the block that is being translated.
unsafe fn observe(insn: *mut Opaque, bytes: &[u8], address: u64) {
    let marker = match Marker::decode(bytes) {
        Some(Marker::Begin(path)) => Some(usize::from(path)),
        Some(Marker::End(path)) => Some(ENDS | usize::from(path)),
        Some(Marker::Setting(setting)) => Some(SETS | usize::from(setting)),
        Some(Marker::Init | Marker::Runs(_)) | None => None,
    };
    if let Some(word) = marker {
        let data = std::ptr::without_provenance_mut(word);
        // SAFETY: `insn` by this function's contract; the word is a number.
        unsafe { qemu_plugin_register_vcpu_insn_exec_cb(insn, on_marker, NO_REGS, data) };
        return;
    }
    if !crate::is_kernel(address) {
        return;
    }
    let Ok(mut tally) = TALLY.lock() else {
        return;
    };
    let data = std::ptr::without_provenance_mut(tally.site(address, classify(bytes)));
    drop(tally);
    // SAFETY: as above; the scoreboard lives as long as the process.
    unsafe {
        qemu_plugin_register_vcpu_insn_exec_cond_cb(
            insn,
            on_instruction,
            NO_REGS,
            NOT_EQUAL,
            on_path(),
            0,
            data,
        );
    }
}

/// Has QEMU count each execution of `insn`, and call this file where somebody else begins to run.
///
/// # Safety
///
/// As for [`observe`].
unsafe fn observe_boot(insn: *mut Opaque, bytes: &[u8], address: u64) {
    let runner = match Marker::decode(bytes) {
        Some(Marker::Init) => Some(INIT),
        Some(Marker::Runs(runner)) => Some(runner as usize),
        _ => None,
    };
    if let Some(word) = runner {
        let data = std::ptr::without_provenance_mut(word);
        // SAFETY: `insn` by this function's contract; the word is a number.
        unsafe { qemu_plugin_register_vcpu_insn_exec_cb(insn, on_runner, NO_REGS, data) };
        return;
    }
    let offset = if crate::is_kernel(address) {
        UPPER
    } else {
        LOWER
    };
    let word = since_reset(offset);
    // SAFETY: as above; the scoreboard lives as long as the process.
    unsafe { qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, ADD, word, 1) };
}

/// In a marker's callback word: no number of a runner, but the first process of the one who runs.
const INIT: usize = 1 << 8;

extern "C" fn on_runner(_vcpu: c_uint, word: *mut c_void) {
    // SAFETY: the scoreboard was made in `qemu_plugin_install` and is never freed.
    let upper = unsafe { qemu_plugin_u64_sum(since_reset(UPPER)) };
    // SAFETY: as above.
    let lower = unsafe { qemu_plugin_u64_sum(since_reset(LOWER)) };
    let Ok(mut tally) = TALLY.lock() else {
        return;
    };
    let now = Counts { upper, lower };
    match word.addr() {
        INIT => tally.boot.has_init(now),
        word if word == Runner::L1 as usize => tally.boot.runs(Runner::L1, now),
        word if word == Runner::L2 as usize => tally.boot.runs(Runner::L2, now),
        _ => tally.boot.runs(Runner::Emulator, now),
    }
}

/// Called by QEMU for each block of code it translates.
///
/// # Safety
///
/// `block` must be the block that QEMU hands to a translation callback.
unsafe extern "C" fn on_translation(_id: PluginId, block: *mut Opaque) {
    // SAFETY: QEMU passes a block that is valid during this call.
    let count = unsafe { qemu_plugin_tb_n_insns(block) };
    for index in 0..count {
        // SAFETY: as above, and `index` is below the block's own count.
        let insn = unsafe { qemu_plugin_tb_get_insn(block, index) };
        // SAFETY: `insn` was returned by this block just now.
        let address = unsafe { qemu_plugin_insn_vaddr(insn) };
        let mut bytes = [0u8; 16];
        // SAFETY: `insn` as above; the buffer has the length that is passed.
        let len = unsafe { qemu_plugin_insn_data(insn, bytes.as_mut_ptr().cast(), bytes.len()) };
        let bytes = &bytes[..len.min(bytes.len())];
        if SINCE_RESET.load(Ordering::Relaxed) != 0 {
            // SAFETY: `insn` belongs to the block that is being translated.
            unsafe { observe_boot(insn, bytes, address) };
        } else {
            // SAFETY: as above.
            unsafe { observe(insn, bytes, address) };
        }
    }
}

extern "C" fn on_exit(_id: PluginId, _data: *mut c_void) {
    let (Ok(tally), Ok(out)) = (TALLY.lock(), OUT.lock()) else {
        return;
    };
    if let Err(error) = std::fs::write(&*out, tally.to_json()) {
        eprintln!("insn_count: cannot write {out}: {error}");
    }
}

const ARGUMENTS: &str = "out=FILE profile=on boot=on";

/// Entry point that QEMU looks up by name.
///
/// # Safety
///
/// QEMU's contract: `argv` holds `argc` strings.
#[unsafe(no_mangle)]
unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    _info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let mut path = None;
    let mut has_profiles = false;
    let mut counts_boot = false;
    for index in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: `index` is below `argc`, which is the array's length.
        let slot = unsafe { argv.add(index) };
        // SAFETY: `slot` is an element of the array.
        let pointer = unsafe { *slot };
        // SAFETY: each element is a string that ends with a zero byte.
        let argument = unsafe { CStr::from_ptr(pointer) }
            .to_string_lossy()
            .into_owned();
        match argument.split_once('=') {
            Some(("out", file)) => path = Some(file.to_owned()),
            Some(("profile", "on")) => has_profiles = true,
            Some(("boot", "on")) => counts_boot = true,
            _ => {
                eprintln!("insn_count: unknown argument '{argument}', known: {ARGUMENTS}");
                return -1;
            }
        }
    }
    let (Some(path), Ok(mut out)) = (path, OUT.lock()) else {
        eprintln!("insn_count: out=FILE is missing");
        return -1;
    };
    *out = path;
    if let (true, Ok(mut tally)) = (has_profiles, TALLY.lock()) {
        tally.keep_profiles();
    }
    ON_PATH.store(new_board(size_of::<u64>()), Ordering::Relaxed);
    if counts_boot {
        SINCE_RESET.store(new_board(2 * size_of::<u64>()), Ordering::Relaxed);
    }
    // SAFETY: `id` is this plugin's; the callback lives as long as the process.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation) };
    // SAFETY: as above; the callback ignores its pointer.
    unsafe { qemu_plugin_register_atexit_cb(id, on_exit, std::ptr::null_mut()) };
    0
}
