// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The emulator: a TDX module and an untrusted host for one TD, as a bare-metal program.
//!
//! QEMU starts it like a kernel; L1's kernel and initial RAM disk are in memory beside it. Phases:
//! `boot` (first instruction to `emu_main`) → `setup` (memory layout, L1's kernel and tables, the
//! TD) → `smp` (the TD's processors) → `run` (one endless loop per processor). In the loop an exit
//! goes `svm::Vcpu` → `run` → `l1` or `l2` → `tdx_model` for what the TDX module would do → `host`
//! for what the untrusted host would do → back.
//!
//! Built for `x86_64-unknown-none`. The parts that need no hardware also compile for the host,
//! where they are tested; the program itself then only prints how to build it.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only tests use it on a host")
)]
#![allow(
    unreachable_pub,
    reason = "a program: pub means visible to the other modules"
)]

mod acpi;
mod chipset;
mod config;
mod dma;
mod extra_msrs;
mod hostile;
mod hyperv;
mod l1_apic;
mod loader;
mod log;
mod measure;
mod mem;
mod quote;

#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod fetch;
#[cfg(target_os = "none")]
mod host;
#[cfg(target_os = "none")]
mod inject;
#[cfg(target_os = "none")]
mod l1;
#[cfg(target_os = "none")]
mod l2;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod setup;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod stats;
#[cfg(target_os = "none")]
mod vp;
#[cfg(target_os = "none")]
mod xfd;

#[cfg(target_os = "none")]
#[expect(unsafe_code)] // UNSAFETY: the entry point that assembly calls
#[unsafe(no_mangle)]
extern "C" fn emu_main(start_info_pa: u64) -> ! {
    cpu::idt::load();
    cpu::apic::enable();
    cpu::pic::silence();
    // SAFETY: header.S passes EBX as the loader set it, and nothing has written to memory since.
    let handover = unsafe { boot::read_handover(start_info_pa) };
    if let Err(reason) = handover.and_then(setup::prepare) {
        log!(Error, "{reason}");
        console::end(console::End::Setup)
    }
    match smp::current_index() {
        Some(_) => run::first_processor(),
        None => smp::retire(),
    }
}

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "tdxemu is a bare-metal program. Build it with `make emulator`, or with\n\
         cargo build -p tdxemu --release --target x86_64-unknown-none\n\
         and give it to QEMU with -kernel."
    );
    std::process::ExitCode::from(2)
}
