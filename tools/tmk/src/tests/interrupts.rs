// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The virtual APIC of the L2, its deadline, and interrupts of L1 that meet it.

use super::Memory;
use crate::cpu::{self, guest, rdtsc, take_interrupts, taken_vector};
use crate::host;
use crate::tdx::{self, status, vmcs};
use crate::vm::{Outcome, RFLAGS_IF, Vm, equal, reason, reg};

/// x2APIC register that ends an interrupt.
pub const EOI: u32 = 0x80b;
/// Processor priority, in the virtual-APIC page.
pub const PPR: u64 = 0xa0;
/// Vectors in service.
pub const ISR: u64 = 0x100;
/// Vectors requested.
pub const IRR: u64 = 0x200;

/// An L2 that ends its interrupts by itself.
pub fn start(vm: &mut Vm) -> Outcome {
    vm.start()?;
    vm.pass_msr(EOI, true, true)
}

/// Sets IF of the L2.
pub fn enable_interrupts(vm: &Vm) {
    vm.set(reg::RFLAGS, vm.get(reg::RFLAGS) | RFLAGS_IF);
}

pub fn delivered_when_enabled(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    vm.request(0x41);
    vm.set_interrupt_status(0x41);
    vm.call(guest::l2_nop());
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0x41);
    vm.call(guest::l2_sti());
    vm.expect_interrupt(0x41)?;
    equal!(vm.interrupt_status(), 0x4100);
    equal!(vm.apic(ISR + 0x20), 2);
    equal!(vm.apic(IRR + 0x20), 0);
    equal!(vm.apic(PPR), 0x40);
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0);
    equal!(vm.apic(ISR + 0x20), 0);
    Ok(())
}

pub fn higher_class_first_and_eoi_exit(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    vm.write(vmcs::EOI_EXIT_BITMAP_0 + 2, 1 << (0x61 - 64))?;
    vm.request(0x61);
    vm.request(0x41);
    vm.set_interrupt_status(0x61);
    vm.call(guest::l2_sti());
    vm.expect_interrupt(0x61)?;
    equal!(vm.interrupt_status(), 0x6141);
    equal!(vm.apic(PPR), 0x60);
    vm.expect(reason::VIRTUALIZED_EOI)?;
    equal!(vm.exit[1], 0x61);
    vm.expect_interrupt(0x41)?;
    vm.call_returns()
}

pub fn task_priority_holds_back(vm: &mut Vm, _: &Memory) -> Outcome {
    start(vm)?;
    vm.set(reg::RSI, 5);
    vm.call(guest::l2_write_cr8());
    vm.call_returns()?;
    vm.request(0x41);
    vm.set_interrupt_status(0x41);
    vm.call(guest::l2_sti());
    vm.call_returns()?;
    equal!(vm.interrupt_status(), 0x41);
    enable_interrupts(vm);
    vm.set(reg::RSI, 0);
    vm.call(guest::l2_write_cr8());
    vm.expect_interrupt(0x41)?;
    vm.call_returns()
}

pub fn self_ipi(vm: &mut Vm, _: &Memory) -> Outcome {
    const SELF_IPI: u32 = 0x83f;
    start(vm)?;
    vm.pass_msr(SELF_IPI, true, true)?;
    enable_interrupts(vm);
    vm.set(reg::RSI, u64::from(SELF_IPI));
    vm.set(reg::R12, 0x51);
    vm.set(reg::R13, 0);
    vm.call(guest::l2_wrmsr());
    vm.expect_interrupt(0x51)?;
    vm.call_returns()
}

pub fn tpr_threshold(vm: &mut Vm, _: &Memory) -> Outcome {
    const VIRTUAL_INTERRUPT_DELIVERY: u64 = 1 << 9;
    start(vm)?;
    vm.set(reg::RSI, 8);
    vm.call(guest::l2_write_cr8());
    vm.call_returns()?;
    vm.write_bits(vmcs::SECONDARY_CONTROLS, 0, VIRTUAL_INTERRUPT_DELIVERY)?;
    vm.write(vmcs::TPR_THRESHOLD, 5)?;
    vm.set(reg::RSI, 6);
    vm.call(guest::l2_write_cr8());
    vm.call_returns()?;
    vm.set(reg::RSI, 3);
    vm.call(guest::l2_write_cr8());
    // Trap-like: RIP is after the move.
    vm.expect(reason::TPR_BELOW_THRESHOLD)?;
    equal!(vm.get(reg::RIP), guest::l2_write_cr8() + 4);
    vm.write(vmcs::TPR_THRESHOLD, 0)?;
    vm.call_returns()
}

/// Programs L1's timer: one shot after about `ticks`.
fn arm_timer(vector: u64, ticks: u64) {
    host::wrmsr(0x80f, 0x1ff); // spurious vector, APIC on
    host::wrmsr(0x83e, 0xb); // divide by 1
    host::wrmsr(0x832, vector); // one shot
    host::wrmsr(0x838, ticks);
}

pub fn deadline_ends_a_spin(vm: &mut Vm, _: &Memory) -> Outcome {
    const DISTANCE: u64 = 20_000_000;
    const MOST_EARLY: u64 = 1 << 5;
    vm.start()?;
    // The emulator checks the deadline whenever the L2 exits; a timer tick makes it exit.
    arm_timer(0x60, 50_000_000);
    let deadline = rdtsc() + DISTANCE;
    equal!(
        tdx::write(tdx::tsc_deadline_id(vm.number), deadline, u64::MAX),
        0
    );
    vm.call(guest::l2_spin());
    loop {
        let status = vm.enter();
        if status == status::SUCCESS {
            break;
        }
        equal!(status & !0x22, status::HOST_ROUTED_ASYNC & !0x22);
        take_interrupts();
        if taken_vector() == 0x60 {
            arm_timer(0x60, 50_000_000);
        }
    }
    equal!(vm.exit[0] & 0xffff_ffff, reason::PREEMPTION_TIMER);
    // The timer that the module uses rounds down.
    equal!(u64::from(rdtsc() + MOST_EARLY >= deadline), 1);
    arm_timer(0x60, 0);
    take_interrupts();
    taken_vector();
    Ok(())
}

pub fn deadline_in_the_past_ends_at_once(vm: &mut Vm, _: &Memory) -> Outcome {
    vm.start()?;
    equal!(tdx::write(tdx::tsc_deadline_id(vm.number), 0, u64::MAX), 0);
    let rip = vm.get(reg::RIP);
    vm.expect(reason::PREEMPTION_TIMER)?;
    // The module does not clear it.
    vm.expect(reason::PREEMPTION_TIMER)?;
    equal!(vm.get(reg::RIP), rip);
    equal!(
        tdx::write(tdx::tsc_deadline_id(vm.number), u64::MAX, u64::MAX),
        0
    );
    vm.call(guest::l2_nop());
    vm.call_returns()
}

pub fn pending_interrupt_refuses_entry(vm: &mut Vm, _: &Memory) -> Outcome {
    const SELF_IPI: u32 = 0x83f;
    vm.start()?;
    host::wrmsr(0x80f, 0x1ff);
    cpu::wrmsr(SELF_IPI, 0x70);
    vm.call(guest::l2_nop());
    equal!(vm.enter(), status::PENDING_INTERRUPT);
    equal!(vm.exit[0] & 0xffff_ffff, 0);
    equal!(vm.enter(), status::PENDING_INTERRUPT);
    take_interrupts();
    equal!(taken_vector(), 0x70);
    vm.call_returns()
}

pub fn interrupt_while_in_l2(vm: &mut Vm, _: &Memory) -> Outcome {
    const MOST_TICKS: u64 = 5_000_000_000;
    vm.start()?;
    vm.call(guest::l2_spin());
    // A busy machine may not get into the L2 before a short time is over.
    let mut ticks = 5_000_000;
    arm_timer(0x60, ticks);
    let mut outcome = vm.enter();
    while outcome == status::PENDING_INTERRUPT && ticks < MOST_TICKS {
        take_interrupts();
        equal!(taken_vector(), 0x60);
        ticks *= 10;
        arm_timer(0x60, ticks);
        outcome = vm.enter();
    }
    equal!(outcome, status::L2_EXIT_PENDING_INTERRUPT);
    equal!(vm.exit[0] & 0xffff_ffff, 1);
    equal!(vm.get(reg::RIP), guest::l2_spin());
    take_interrupts();
    equal!(taken_vector(), 0x60);
    Ok(())
}

/// Every entry with a virtual interrupt that the L2 blocks opens an interrupt window. QEMU is not
/// careful there with an interrupt that another of its threads raises at the same moment.
pub fn one_that_meets_an_interrupt_window_is_not_lost(vm: &mut Vm, _: &Memory) -> Outcome {
    const INTERRUPTS: u64 = 30_000;
    const TICKS: u64 = 20_000;
    start(vm)?;
    vm.request(0x41);
    vm.set_interrupt_status(0x41);
    vm.call(guest::l2_nop());
    for _ in 0..INTERRUPTS {
        arm_timer(0x60, TICKS);
        loop {
            match vm.enter() {
                status::SUCCESS => {
                    equal!(vm.exit[0] & 0xffff_ffff, reason::VMCALL);
                    vm.skip();
                }
                status::PENDING_INTERRUPT | status::L2_EXIT_PENDING_INTERRUPT => break,
                other => equal!(other, status::SUCCESS),
            }
        }
        take_interrupts();
        equal!(taken_vector(), 0x60);
    }
    equal!(vm.interrupt_status(), 0x41);
    Ok(())
}
