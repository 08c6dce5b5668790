// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The edge to QEMU: its plugin interface, of which only what is needed
//! is declared here. Argument: `out=FILE`.

// UNSAFETY: FFI. QEMU calls into this file and is called from it.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Mutex;

use crate::classify::{Kind, classify};
use crate::marker::Marker;
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

/// `QEMU_PLUGIN_CB_NO_REGS`: the callbacks look at no register.
const NO_REGS: c_int = 0;

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
}

static TALLY: Mutex<Tally> = Mutex::new(Tally::new());
static OUT: Mutex<String> = Mutex::new(String::new());

/// Marks a callback word as a marker; the low bits are then path and kind.
const MARKER: usize = 1 << 16;
const MARKER_END: usize = 1 << 8;

fn pack(bytes: &[u8]) -> usize {
    match Marker::decode(bytes) {
        Some(Marker::Begin(path)) => MARKER | usize::from(path),
        Some(Marker::End(path)) => MARKER | MARKER_END | usize::from(path),
        None => classify(bytes).to_bits(),
    }
}

extern "C" fn on_instruction(vcpu: c_uint, word: *mut c_void) {
    let word = word.addr();
    let Ok(mut tally) = TALLY.lock() else { return };
    if word & MARKER == 0 {
        tally.count(vcpu, Kind::from_bits(word));
        return;
    }
    let path = (word & 0xff) as u8; // CAST: masked to a byte
    let marker = if word & MARKER_END != 0 {
        Marker::End(path)
    } else {
        Marker::Begin(path)
    };
    tally.mark(vcpu, marker);
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
        // SAFETY: `insn` came from this block just now.
        if !crate::is_l1(unsafe { qemu_plugin_insn_vaddr(insn) }) {
            continue;
        }
        let mut bytes = [0u8; 16];
        // SAFETY: `insn` as above; the buffer is as long as is said.
        let len = unsafe { qemu_plugin_insn_data(insn, bytes.as_mut_ptr().cast(), bytes.len()) };
        let word = pack(&bytes[..len.min(bytes.len())]);
        let data = std::ptr::without_provenance_mut(word);
        // SAFETY: `insn` as above; the callback treats its word as a number.
        unsafe { qemu_plugin_register_vcpu_insn_exec_cb(insn, on_instruction, NO_REGS, data) };
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
            _ => {
                eprintln!("insn_count: unknown argument '{argument}', known: out=FILE");
                return -1;
            }
        }
    }
    let (Some(path), Ok(mut out)) = (path, OUT.lock()) else {
        eprintln!("insn_count: out=FILE is missing");
        return -1;
    };
    *out = path;
    // SAFETY: `id` is this plugin's; the callback lives as long as the process.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation) };
    // SAFETY: as above; the callback ignores its pointer.
    unsafe { qemu_plugin_register_atexit_cb(id, on_exit, std::ptr::null_mut()) };
    0
}
