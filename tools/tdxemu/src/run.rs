// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The loop: run a guest, find out why it stopped, let the model and the host decide, continue.

use crate::console::{self, End};
use crate::cpu::apic;
use crate::host::hlt;
use crate::setup::{self, Platform, platform};
use crate::vp::{Vp, flat_long_mode};
use crate::{acpi, bench, l1, l2, log, smp, stats};

/// Starts L1 on its first processor.
pub fn first_processor() -> ! {
    let start = setup::start();
    let mut vp = new_vp(0, platform());
    if vp.platform.config.is_bench {
        match bench::bare_exit(&vp) {
            Some(ticks) => log!(Info, "bench: bare exit {ticks} ticks"),
            None => log!(Error, "bench: no frames left for a guest"),
        }
    }
    start_l1(&mut vp, start.rip);
    vp.l1.gprs.rsi = start.rsi;
    log!(Info, "L1 starts at {:#x}", start.rip);
    run(vp)
}

/// Waits in the wake-up mailbox, then runs L1 on another processor.
pub fn other_processor(index: usize) -> ! {
    let platform = platform();
    apic::start_timer();
    let rip = loop {
        smp::doze();
        if let Some(rip) = read_mailbox(platform, index) {
            break rip;
        }
    };
    apic::stop_timer();
    let mut vp = new_vp(index, platform);
    vp.shared.start();
    start_l1(&mut vp, rip);
    hlt::count_started();
    log!(Info, "vCPU {index} wakes up at {rip:#x}");
    run(vp)
}

/// Checks if L1 starts this processor through the mailbox, and acknowledges.
fn read_mailbox(platform: &Platform, index: usize) -> Option<u64> {
    use acpi::mailbox::{APIC_ID, COMMAND, VECTOR, WAKE};
    let page = platform.mailbox_pa;
    // CAST: the fields have 16 and 32 bits.
    let command = platform.memory.read_u64(page + COMMAND)? as u16;
    let wanted = platform.memory.read_u64(page + APIC_ID)? as u32;
    if command != WAKE || wanted as usize != index {
        return None;
    }
    let rip = platform.memory.read_u64(page + VECTOR)?;
    platform
        .memory
        .write(page + COMMAND, &[0; 2])
        .then_some(rip)
}

fn new_vp(index: usize, platform: &'static Platform) -> Vp {
    Vp::new(index, platform).unwrap_or_else(|reason| {
        log!(Error, "{reason}");
        console::end(End::Setup)
    })
}

fn start_l1(vp: &mut Vp, rip: u64) {
    let start_cr3 = vp.platform.start_cr3;
    let save = &mut vp.l1.vmcb.save;
    flat_long_mode(save, rip);
    save.cr3 = start_cr3;
    vp.load_l1();
}

fn run(mut vp: Vp) -> ! {
    let stack = smp::stack();
    loop {
        assert!(stack.is_whole(), "the emulator's stack has overflowed");
        match vp.model.current_vm {
            None => l1::step(&mut vp),
            Some(vm) => l2::step(&mut vp, vm),
        }
    }
}

/// Stops the machine because of L1.
pub fn end_by_l1(reason: End, what: core::fmt::Arguments<'_>) -> ! {
    log!(Error, "{what}");
    stats::report_summary();
    console::end(reason)
}

/// Stops the machine because QEMU lost the state of a guest at #VMEXIT, or an NMI. What is known to
/// do so is kept away from the TD (`smp`); a fault of this kind must still not pass for one of L1's.
pub fn end_by_machine(when: core::fmt::Arguments<'_>) -> ! {
    console::line(format_args!(
        "error: QEMU lost what no processor loses: {when}"
    ));
    stats::report_summary();
    console::end(End::Machine)
}

/// Stops the machine at something the emulator does not model, and shows the processor's state.
pub fn not_modelled(vp: &Vp, what: core::fmt::Arguments<'_>) -> ! {
    let guest = match vp.model.current_vm {
        None => &vp.l1,
        Some(vm) => &vp.l2[usize::from(vm.number() - 1)].guest,
    };
    let (control, save) = (&guest.vmcb.control, &guest.vmcb.save);
    console::line(format_args!("vCPU {} {:?}", vp.index, vp.model.current_vm));
    console::line(format_args!(
        "exit {:#x} info {:#x} {:#x} event {:x?} rip {:#x} rflags {:#x} cpl {}",
        control.exit_code,
        control.exit_info_1,
        control.exit_info_2,
        control.exit_int_info,
        save.rip,
        save.rflags,
        save.cpl
    ));
    console::line(format_args!(
        "cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x} cs {:x?}",
        save.cr0, save.cr2, save.cr3, save.cr4, save.efer, save.cs
    ));
    console::line(format_args!("{:x?}", guest.gprs));
    panic!("not modelled: {what}")
}
