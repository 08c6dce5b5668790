// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The four synthetic timers of a processor. [TLFS "Timers"]
//!
//! They interrupt directly, by a vector of the local APIC. Those that send a message to a SINT are
//! not offered: enabling one is refused. One that would do neither is disabled.

use super::msr;

/// Timers of a processor.
pub const TIMERS: usize = 4;

/// Bits of the configuration.
mod config {
    pub(super) const ENABLED: u64 = 1;
    pub(super) const PERIODIC: u64 = 1 << 1;
    pub(super) const AUTO_ENABLE: u64 = 1 << 3;
    pub(super) const VECTOR_SHIFT: u32 = 4;
    pub(super) const DIRECT: u64 = 1 << 12;
    pub(super) const SINT: u64 = 0xf << 16;
    /// 15:13 and 63:20.
    pub(super) const RESERVED: u64 = (7 << 13) | (u64::MAX << 20);
}

/// One timer. Times are those of the reference counter, in units of 100 ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timer {
    config: u64,
    count: u64,
    due: Option<u64>,
}

impl Timer {
    const RESET: Self = Self {
        config: 0,
        count: 0,
        due: None,
    };

    fn vector(&self) -> u8 {
        (self.config >> config::VECTOR_SHIFT) as u8 // CAST: the field has eight bits
    }

    fn configure(&mut self, value: u64) -> Option<()> {
        // Without direct mode, SINT 0 means that the timer notifies nobody.
        let value = match value & (config::DIRECT | config::SINT) {
            0 => value & !config::ENABLED,
            _ => value,
        };
        let new = Self {
            config: value,
            ..*self
        };
        let is_enabled = value & config::ENABLED != 0;
        let is_possible = value & config::DIRECT != 0 && new.vector() >= 16;
        if value & config::RESERVED != 0 || (is_enabled && !is_possible) {
            return None;
        }
        *self = new;
        Some(())
    }

    fn set_count(&mut self, value: u64) {
        self.count = value;
        if value == 0 {
            self.config &= !config::ENABLED;
        } else if self.config & config::AUTO_ENABLE != 0 {
            self.config |= config::ENABLED;
        }
    }

    fn start(&mut self, now: u64) {
        let is_running = self.config & config::ENABLED != 0 && self.count != 0;
        let is_periodic = self.config & config::PERIODIC != 0;
        self.due = match is_running {
            true if is_periodic => Some(now.saturating_add(self.count)),
            true => Some(self.count),
            false => None,
        };
    }

    /// Returns the vector if it has expired. Periods that nobody could see are left out.
    fn expire(&mut self, now: u64) -> Option<u8> {
        let due = self.due.filter(|due| *due <= now)?;
        if self.config & config::PERIODIC == 0 {
            self.config &= !config::ENABLED;
            self.due = None;
        } else {
            // It only runs with a count that is not 0.
            self.due = Some(now + self.count - (now - due) % self.count);
        }
        Some(self.vector())
    }
}

/// The timers of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers([Timer; TIMERS]);

impl Timers {
    /// All are off.
    pub const RESET: Self = Self([Timer::RESET; TIMERS]);

    /// RDMSR. `None` if it is not one of their registers.
    pub fn read(&self, register: u32) -> Option<u64> {
        let index = register.checked_sub(msr::STIMER0_CONFIG)? as usize;
        let timer = self.0.get(index / 2)?;
        Some(match index % 2 {
            0 => timer.config,
            _ => timer.count,
        })
    }

    /// WRMSR at the time `now`. Returns `None` to refuse: no such register, reserved bits, or a
    /// timer that would be enabled without direct mode, or with a vector below 16.
    pub fn write(&mut self, register: u32, value: u64, now: u64) -> Option<()> {
        let index = register.checked_sub(msr::STIMER0_CONFIG)? as usize;
        let timer = self.0.get_mut(index / 2)?;
        let mut new = *timer;
        match index % 2 {
            0 => new.configure(value)?,
            _ => {
                new.set_count(value);
                // It may have enabled what could not be enabled.
                new.configure(new.config)?;
            }
        }
        new.start(now);
        *timer = new;
        Some(())
    }

    /// Takes out a timer that has expired: its vector.
    pub fn expired(&mut self, now: u64) -> Option<u8> {
        self.0.iter_mut().find_map(|timer| timer.expire(now))
    }

    /// When the next one expires.
    pub fn next(&self) -> Option<u64> {
        self.0.iter().filter_map(|timer| timer.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: u32 = msr::STIMER0_CONFIG;
    const COUNT: u32 = CONFIG + 1;
    const DIRECT: u64 = (1 << 12) | (0xed << 4);
    /// As Linux uses them.
    const ONE_SHOT: u64 = DIRECT | (1 << 3) | 1;

    fn one_shot() -> Timers {
        let mut timers = Timers::RESET;
        timers.write(CONFIG, ONE_SHOT, 0).unwrap();
        timers
    }

    #[test]
    fn one_shot_expires_once_and_a_new_count_enables_it_again() {
        let mut timers = one_shot();
        assert_eq!(timers.next(), None);
        for count in [100, 250] {
            timers.write(COUNT, count, 90).unwrap();
            assert_eq!(timers.next(), Some(count));
            assert_eq!(timers.expired(count - 1), None);
            assert_eq!(timers.expired(count), Some(0xed));
            assert_eq!(timers.expired(u64::MAX), None);
            assert_eq!(timers.read(CONFIG), Some(ONE_SHOT & !1));
            assert_eq!(timers.read(COUNT), Some(count));
        }
    }

    #[test]
    fn one_shot_in_the_past_expires_at_once() {
        let mut timers = one_shot();
        timers.write(COUNT, 5, 90).unwrap();
        assert_eq!(timers.expired(90), Some(0xed));
    }

    #[test]
    fn periodic_one_keeps_its_phase_and_leaves_out_what_is_over() {
        let mut timers = Timers::RESET;
        timers.write(COUNT, 100, 0).unwrap();
        timers.write(CONFIG, DIRECT | 3, 7).unwrap();
        assert_eq!(timers.expired(106), None);
        assert_eq!(timers.expired(107), Some(0xed));
        assert_eq!(timers.next(), Some(207));
        assert_eq!(timers.expired(450), Some(0xed));
        assert_eq!((timers.expired(450), timers.next()), (None, Some(507)));
    }

    #[test]
    fn count_of_zero_and_a_cleared_configuration_stop_it() {
        for (register, value) in [(COUNT, 0), (CONFIG, 0)] {
            let mut timers = one_shot();
            timers.write(COUNT, 100, 0).unwrap();
            timers.write(register, value, 0).unwrap();
            assert_eq!((timers.next(), timers.expired(100)), (None, None));
            assert_eq!(timers.read(CONFIG).unwrap() & 1, 0);
        }
    }

    #[test]
    fn what_is_not_offered_is_refused_and_changes_nothing() {
        let mut timers = one_shot();
        timers.write(COUNT, 100, 0).unwrap();
        let before = timers;
        // A message to SINT 2, a vector of an exception, reserved bits, no such register.
        let bad = [
            (CONFIG, (2 << 16) | 1),
            (CONFIG, (1 << 12) | (15 << 4) | 1),
            (CONFIG, DIRECT | (1 << 13)),
            (CONFIG, DIRECT | (1 << 20)),
            (CONFIG - 1, 0),
            (msr::STIMER3_COUNT + 1, 0),
        ];
        for (register, value) in bad {
            assert_eq!(timers.write(register, value, 0), None, "{value:#x}");
        }
        assert_eq!(timers, before);
        assert_eq!(timers.read(CONFIG - 1), None);
        assert_eq!(timers.read(msr::STIMER3_COUNT + 1), None);
        // One that is off may be prepared, but a count does not turn it on.
        timers.write(CONFIG + 2, (2 << 16) | (1 << 3), 0).unwrap();
        assert_eq!(timers.write(COUNT + 2, 100, 0), None);
    }

    #[test]
    fn one_that_would_notify_nobody_is_disabled() {
        const AUTO_ENABLE: u64 = 1 << 3;
        let mut timers = one_shot();
        timers.write(COUNT, 100, 0).unwrap();
        timers.write(CONFIG, AUTO_ENABLE | 1, 0).unwrap();
        assert_eq!(timers.read(CONFIG), Some(AUTO_ENABLE));
        assert_eq!((timers.next(), timers.expired(100)), (None, None));
        // Nor does a count enable it.
        timers.write(COUNT, 100, 0).unwrap();
        assert_eq!(timers.read(CONFIG), Some(AUTO_ENABLE));
        assert_eq!((timers.next(), timers.read(COUNT)), (None, Some(100)));
        // A vector alone does not say who is meant.
        timers.write(CONFIG, (0xed << 4) | 1, 0).unwrap();
        assert_eq!(timers.read(CONFIG), Some(0xed << 4));
    }

    #[test]
    fn every_processor_has_four_of_them() {
        let mut timers = Timers::RESET;
        for timer in 0..4 {
            let vector = 0x40 + u64::from(timer);
            let config = (1 << 12) | (vector << 4) | (1 << 3);
            timers.write(CONFIG + 2 * timer, config, 0).unwrap();
            timers.write(COUNT + 2 * timer, 10 - vector % 8, 0).unwrap();
        }
        assert_eq!(timers.next(), Some(7));
        let mut vectors: Vec<u8> = core::iter::from_fn(|| timers.expired(10)).collect();
        vectors.sort_unstable();
        assert_eq!(vectors, [0x40, 0x41, 0x42, 0x43]);
    }
}
