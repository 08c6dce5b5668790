// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The registers of a local x2APIC that the processor does not virtualize: what the guest sets up
//! once, the timer, and interrupt commands that the kernel leaves to userspace.
//!
//! TPR, EOI, SELF_IPI and what is requested or in service are the virtual-APIC page's.

use crate::platform::ioapic::Destination;

/// The registers of one processor.
#[derive(Clone, Debug)]
pub struct LocalApic {
    id: u32,
    is_boot_processor: bool,
    spurious: u32,
    command: u64,
    /// CMCI, timer, thermal, performance counter, LINT0, LINT1, error.
    local: [u32; 7],
    divide: u32,
    initial_count: u32,
    timer: Timer,
    tsc_per_tick: u64,
}

/// What the timer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Timer {
    /// TSC value at which it expires; 0 for never.
    deadline: u64,
    /// TSC ticks until the next time, of a periodic one.
    period: u64,
}

/// An interrupt command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// What is sent.
    pub what: Sent,
    /// To whom.
    pub to: Recipients,
}

/// What one processor sends others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// An interrupt of this vector.
    Interrupt(u8),
    /// NMI.
    Nmi,
    /// INIT.
    Init,
    /// Start-up, at this page.
    StartUp(u8),
}

/// Recipients of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Those named.
    Named(Destination),
    /// The sender.
    Own,
    /// All processors.
    All,
    /// All processors but the sender.
    Others,
}

impl Recipients {
    /// Returns true if `id` is one of them, if `sender` sends.
    pub const fn include(self, id: u32, sender: u32) -> bool {
        match self {
            Self::Named(destination) => destination.includes(id),
            Self::Own => id == sender,
            Self::All => true,
            Self::Others => id != sender,
        }
    }
}

/// What a write brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing outside of the registers.
    None,
    /// #GP.
    Fault,
    /// The timer waits for something else, or tells it in another way: [`LocalApic::deadline`],
    /// [`LocalApic::served_vector`].
    Timer,
    /// An interrupt command.
    Send(Command),
}

const ID: u8 = 0x02;
const VERSION: u8 = 0x03;
const LOGICAL_ID: u8 = 0x0d;
const SPURIOUS: u8 = 0x0f;
const ERROR_STATUS: u8 = 0x28;
const CMCI: u8 = 0x2f;
const COMMAND: u8 = 0x30;
const FIRST_LOCAL: u8 = 0x32;
const LAST_LOCAL: u8 = 0x37;
const INITIAL_COUNT: u8 = 0x38;
const CURRENT_COUNT: u8 = 0x39;
const DIVIDE: u8 = 0x3e;

const MASKED: u32 = 1 << 16;
const TIMER: usize = 1;
const PERIODIC: u32 = 1;
const TSC_DEADLINE: u32 = 2;
const FIRST_VECTOR: u8 = 16;

impl LocalApic {
    /// The registers after a reset.
    ///
    /// `tsc_per_tick` are the TSC ticks of a tick of the timer's clock.
    pub const fn new(id: u32, is_boot_processor: bool, tsc_per_tick: u64) -> Self {
        Self {
            id,
            is_boot_processor,
            spurious: 0xff,
            command: 0,
            local: [MASKED; 7],
            divide: 0,
            initial_count: 0,
            timer: Timer {
                deadline: 0,
                period: 0,
            },
            tsc_per_tick,
        }
    }

    /// IA32_APIC_BASE: x2APIC mode, which the guest can't leave.
    pub const fn base(&self) -> u64 {
        const ADDRESS: u64 = 0xfee0_0000;
        const X2APIC_ENABLED: u64 = (1 << 11) | (1 << 10);
        const BOOT_PROCESSOR: u64 = 1 << 8;
        let boot = if self.is_boot_processor {
            BOOT_PROCESSOR
        } else {
            0
        };
        ADDRESS | X2APIC_ENABLED | boot
    }

    /// Reads a register by its offset from MSR 0x800; `None` is #GP.
    pub fn read(&self, register: u8, now: u64) -> Option<u64> {
        /// Version 0x14, entries up to CMCI.
        const VERSION_VALUE: u64 = 0x0006_0014;
        Some(match register {
            ID => u64::from(self.id),
            VERSION => VERSION_VALUE,
            LOGICAL_ID => (u64::from(self.id >> 4) << 16) | (1 << (self.id & 15)),
            SPURIOUS => u64::from(self.spurious),
            ERROR_STATUS => 0,
            COMMAND => self.command,
            CMCI | FIRST_LOCAL..=LAST_LOCAL => u64::from(self.local[local_index(register)]),
            INITIAL_COUNT => u64::from(self.initial_count),
            CURRENT_COUNT => self.current_count(now),
            DIVIDE => u64::from(self.divide),
            _ => return None,
        })
    }

    /// Writes a register.
    pub fn write(&mut self, register: u8, value: u64, now: u64) -> Effect {
        if register == COMMAND {
            return self.send(value);
        }
        let Ok(value) = u32::try_from(value) else {
            return Effect::Fault;
        };
        match register {
            SPURIOUS => self.spurious = value & 0x1ff,
            ERROR_STATUS if value == 0 => {}
            CMCI | FIRST_LOCAL..=LAST_LOCAL => return self.set_local(register, value),
            INITIAL_COUNT => return self.set_count(value, now),
            DIVIDE => self.divide = value & 0b1011,
            _ => return Effect::Fault,
        }
        Effect::None
    }

    /// IA32_TSC_DEADLINE.
    pub const fn tsc_deadline(&self) -> u64 {
        if self.mode() == TSC_DEADLINE {
            self.timer.deadline
        } else {
            0
        }
    }

    /// Writes IA32_TSC_DEADLINE, which counts in its mode only.
    pub fn set_tsc_deadline(&mut self, deadline: u64) -> Effect {
        if self.mode() != TSC_DEADLINE {
            return Effect::None;
        }
        self.timer.deadline = deadline;
        Effect::Timer
    }

    /// What the kernel has made of IA32_TSC_DEADLINE, if it serves the timer.
    pub const fn note_tsc_deadline(&mut self, deadline: u64) {
        if self.mode() == TSC_DEADLINE {
            self.timer.deadline = deadline;
        }
    }

    /// The vector of a timer that the kernel can serve: it waits for a TSC deadline, and is not masked.
    pub const fn served_vector(&self) -> Option<u8> {
        let entry = self.local[TIMER];
        // CAST: bits 7:0.
        let vector = entry as u8;
        if self.mode() == TSC_DEADLINE && entry & MASKED == 0 && vector >= FIRST_VECTOR {
            Some(vector)
        } else {
            None
        }
    }

    /// When the timer expires, by the TSC.
    pub const fn deadline(&self) -> Option<u64> {
        match self.timer.deadline {
            0 => None,
            deadline => Some(deadline),
        }
    }

    /// The timer has expired, if it has: its interrupt, unless it is masked. A periodic one waits
    /// for the next time.
    pub fn expire(&mut self, now: u64) -> Option<u8> {
        let deadline = self.deadline().filter(|deadline| *deadline <= now)?;
        self.timer.deadline = match self.timer.period {
            0 => 0,
            // Missed periods are skipped.
            period => deadline + ((now - deadline) / period + 1) * period,
        };
        let entry = self.local[TIMER];
        // CAST: bits 7:0.
        let vector = entry as u8;
        (entry & MASKED == 0 && vector >= FIRST_VECTOR).then_some(vector)
    }

    const fn mode(&self) -> u32 {
        (self.local[TIMER] >> 17) & 3
    }

    fn set_local(&mut self, register: u8, value: u32) -> Effect {
        let index = local_index(register);
        let before = self.mode();
        self.local[index] = value & 0x0007_a7ff;
        if index != TIMER {
            return Effect::None;
        }
        if self.mode() != before {
            self.timer = Timer::default();
        }
        Effect::Timer
    }

    fn set_count(&mut self, count: u32, now: u64) -> Effect {
        if self.mode() == TSC_DEADLINE {
            return Effect::None;
        }
        self.initial_count = count;
        let ticks = u64::from(count) * self.divisor() * self.tsc_per_tick;
        self.timer = Timer {
            deadline: if count == 0 {
                0
            } else {
                now.saturating_add(ticks)
            },
            period: if self.mode() == PERIODIC { ticks } else { 0 },
        };
        Effect::Timer
    }

    fn current_count(&self, now: u64) -> u64 {
        let left = match (self.mode(), self.deadline()) {
            (TSC_DEADLINE, _) | (_, None) => 0,
            (_, Some(deadline)) => deadline.saturating_sub(now),
        };
        left / (self.divisor() * self.tsc_per_tick)
    }

    /// 2, 4, 8, 16, 32, 64, 128, 1 [SDM3 11.5.4].
    const fn divisor(&self) -> u64 {
        let code = (self.divide & 3) | ((self.divide >> 1) & 4);
        if code == 7 { 1 } else { 2 << code }
    }

    fn send(&mut self, value: u64) -> Effect {
        const RESERVED: u64 = 0xfff3_2000;
        if value & RESERVED != 0 {
            return Effect::Fault;
        }
        self.command = value;
        match decode(value) {
            Some(command) => Effect::Send(command),
            None => Effect::None,
        }
    }
}

/// Where the entry of a register is.
const fn local_index(register: u8) -> usize {
    // CAST: widening.
    if register == CMCI {
        0
    } else {
        (register - FIRST_LOCAL) as usize + TIMER
    }
}

/// What a command is; `None` for one without effect.
fn decode(value: u64) -> Option<Command> {
    const ASSERT: u64 = 1 << 14;
    const LEVEL: u64 = 1 << 15;
    const LOGICAL: u64 = 1 << 11;
    // CAST: bits 7:0, 63:32.
    let (vector, id) = (value as u8, (value >> 32) as u32);
    let what = match (value >> 8) & 7 {
        // Fixed, and lowest priority, which is treated as fixed.
        0 | 1 if vector >= FIRST_VECTOR => Sent::Interrupt(vector),
        4 => Sent::Nmi,
        // An INIT level de-assert has had no effect since the Pentium 4.
        5 if value & (ASSERT | LEVEL) == LEVEL => return None,
        5 => Sent::Init,
        6 => Sent::StartUp(vector),
        _ => return None,
    };
    let to = match (value >> 18) & 3 {
        0 if value & LOGICAL != 0 => Recipients::Named(Destination::Logical(id)),
        0 => Recipients::Named(Destination::Physical(id)),
        1 => Recipients::Own,
        2 => Recipients::All,
        _ => Recipients::Others,
    };
    Some(Command { what, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apic() -> LocalApic {
        LocalApic::new(3, false, 10)
    }

    #[test]
    fn a_deadline_counts_in_its_mode_only() {
        let mut apic = apic();
        assert_eq!(apic.set_tsc_deadline(100), Effect::None);
        assert_eq!(apic.write(0x32, 0x4_0041, 0), Effect::Timer);
        assert_eq!(apic.set_tsc_deadline(100), Effect::Timer);
        assert_eq!((apic.tsc_deadline(), apic.expire(99)), (100, None));
        assert_eq!(apic.expire(100), Some(0x41));
        assert_eq!((apic.deadline(), apic.expire(200)), (None, None));
        // Changing the mode disarms it.
        apic.set_tsc_deadline(300);
        assert_eq!(apic.write(0x32, 0x0_0041, 0), Effect::Timer);
        assert_eq!(apic.deadline(), None);
    }

    #[test]
    fn counts_expire_once_or_again_and_again() {
        let mut apic = apic();
        apic.write(0x3e, 0b1011, 0);
        apic.write(0x32, 0x41, 0);
        apic.write(0x38, 5, 1000);
        assert_eq!(
            (apic.deadline(), apic.read(0x39, 1020)),
            (Some(1050), Some(3))
        );
        assert_eq!(apic.expire(1050), Some(0x41));
        assert_eq!(apic.deadline(), None);
        apic.write(0x32, 0x2_0042, 0);
        apic.write(0x38, 5, 2000);
        // Late by two periods: they are lost, the third one is not.
        assert_eq!(apic.expire(2151), Some(0x42));
        assert_eq!(apic.deadline(), Some(2200));
        apic.write(0x38, 0, 2151);
        assert_eq!(apic.deadline(), None);
    }

    #[test]
    fn the_kernel_serves_a_tsc_deadline_that_is_not_masked() {
        for (entry, expected) in [
            (0x4_0041, Some(0x41)),
            (0x4_00ff, Some(0xff)),
            (0x5_0041, None),
            (0x4_000f, None),
            (0x0_0041, None),
            (0x2_0041, None),
        ] {
            let mut apic = apic();
            assert_eq!(apic.served_vector(), None);
            assert_eq!(apic.write(0x32, entry, 0), Effect::Timer);
            assert_eq!(apic.served_vector(), expected, "{entry:#x}");
        }
    }

    #[test]
    fn what_the_kernel_made_of_the_deadline_survives_a_mask() {
        let mut apic = apic();
        apic.note_tsc_deadline(77);
        assert_eq!(apic.deadline(), None, "another mode");
        apic.write(0x32, 0x4_0041, 0);
        apic.note_tsc_deadline(100);
        assert_eq!(apic.write(0x32, 0x5_0041, 0), Effect::Timer);
        assert_eq!((apic.tsc_deadline(), apic.deadline()), (100, Some(100)));
        assert_eq!((apic.expire(100), apic.deadline()), (None, None));
    }

    #[test]
    fn a_masked_timer_expires_silently() {
        let mut apic = apic();
        apic.write(0x32, 0x5_0041, 0);
        apic.set_tsc_deadline(1);
        assert_eq!((apic.expire(1), apic.deadline()), (None, None));
    }

    #[test]
    fn commands_say_what_and_to_whom() {
        let sent = |value| apic().write(0x30, value, 0);
        let named = |id| Recipients::Named(Destination::Physical(id));
        let expect = |what, to| Effect::Send(Command { what, to });
        assert_eq!(sent((1 << 32) | 0x4500), expect(Sent::Init, named(1)));
        assert_eq!(sent((1 << 32) | 0x8500), Effect::None);
        assert_eq!(sent((1 << 32) | 0x4608), expect(Sent::StartUp(8), named(1)));
        assert_eq!(
            sent(0xc_0041),
            expect(Sent::Interrupt(0x41), Recipients::Others)
        );
        assert_eq!(sent(0x8_0400), expect(Sent::Nmi, Recipients::All));
        assert_eq!(sent(0x4_0002), Effect::None);
        assert_eq!(sent(1 << 20), Effect::Fault);
        assert!(Recipients::Others.include(1, 0) && !Recipients::Others.include(0, 0));
    }

    #[test]
    fn no_value_and_no_register_can_panic() {
        let mut apic = apic();
        for register in 0..=u8::MAX {
            for value in [0, 1, u64::from(u32::MAX), u64::MAX, 1 << 63] {
                apic.write(register, value, u64::MAX);
                let _ = apic.read(register, 0);
                let _ = apic.expire(u64::MAX);
            }
        }
    }
}
