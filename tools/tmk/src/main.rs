// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Guest test microkernel: an L1 without an operating system.
//!
//! The emulator boots it in place of a kernel. It runs L2 VMs from its own pages (`guest.S`) and
//! tests what only execution can show; each test starts its L2 from reset. It reports by KTAP on
//! COM1. It has its own reading of the specification (`tdx.rs`), and shares no constant with the
//! model or the kernel module.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(
    unreachable_pub,
    reason = "a program: pub means visible to the other modules"
)]

#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod ends;
#[cfg(target_os = "none")]
mod host;
#[cfg(target_os = "none")]
mod pci;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod tdx;
#[cfg(target_os = "none")]
mod tests;
#[cfg(target_os = "none")]
mod time;
#[cfg(target_os = "none")]
mod vm;

#[cfg(target_os = "none")]
#[expect(unsafe_code)] // UNSAFETY: the entry point that assembly calls
#[unsafe(no_mangle)]
extern "C" fn tmk_main(boot_params: u64) -> ! {
    cpu::load_idt();
    tests::prepare();
    let memory = tests::Memory::find(boot_params);
    let is_asked = |word: &[u8]| tests::find_word(boot_params, word).is_some();
    let only = tests::find_word(boot_params, b"tmk.only=");
    let mut vm = vm::Vm::new(1);
    if is_asked(b"tmk.do=bench") {
        report(bench::run(&mut vm));
    } else if is_asked(b"tmk.do=time") {
        report(time::run(&mut vm, &memory));
    } else if let Some(end) = ends::find(boot_params) {
        report(end(&mut vm, &memory));
    } else if is_asked(b"tmk.do=smp") {
        smp::start_others(boot_params);
        run_tests(tests::SMP, &memory, only);
    } else if is_asked(b"tmk.do=second") {
        run_tests(tests::SECOND, &memory, only);
    } else {
        run_tests(tests::ALL, &memory, only);
    }
    host::power_off()
}

#[cfg(target_os = "none")]
fn report(outcome: vm::Outcome) {
    if let Err(fail) = outcome {
        host::say!("{fail:x?}");
    }
}

/// Runs tests and prints KTAP; all, or those whose names begin with the word at `only`.
#[cfg(target_os = "none")]
fn run_tests(tests: &[(&str, tests::Test)], memory: &tests::Memory, only: Option<u64>) {
    use host::say;
    let is_chosen = |name: &str| only.is_none_or(|word| tests::begins_with(name, word));
    let chosen = || tests.iter().filter(|(name, _)| is_chosen(name));
    say!("KTAP version 1");
    say!("1..{}", chosen().count());
    let (mut passed, mut failed) = (0, 0);
    for (index, (name, test)) in chosen().enumerate() {
        let number = index + 1;
        let mut vm = vm::Vm::new(1);
        match test(&mut vm, memory) {
            Ok(()) => {
                passed += 1;
                say!("ok {number} {name}");
            }
            Err(fail) => {
                failed += 1;
                let vm::Fail {
                    line,
                    file,
                    what,
                    got,
                    want,
                } = fail;
                say!("# {file}:{line}: {what}: {got:#x}, expected {want:#x}");
                say!("# exit {:x?}", vm.exit);
                say!(
                    "# L2 rip {:#x} rax {:#x} r8 {:#x} r9 {:#x} r10 {:#x}",
                    vm.get(17),
                    vm.get(0),
                    vm.get(8),
                    vm.get(9),
                    vm.get(10)
                );
                say!("not ok {number} {name}");
            }
        }
    }
    say!("# totals: pass:{passed} fail:{failed} skip:0");
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    host::say!("Bail out! {info}");
    host::power_off()
}

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("tmk is a bare-metal program that the emulator boots: make test-tmk");
    std::process::ExitCode::from(2)
}
