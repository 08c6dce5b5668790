// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The real-time clock, as far as a guest reads the time from it: the host's time in UTC, as
//! decimal digits and 24 hours. It can't be set and raises no interrupt.

use std::time::SystemTime;

/// The registers, by the index that was written last.
#[derive(Debug, Default)]
pub struct Clock {
    index: u8,
}

/// A moment, as the registers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    year: u64,
    month: u8,
    day: u8,
    weekday: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Clock {
    /// Writes the index port.
    pub fn select(&mut self, index: u8) {
        const NMI_OFF: u8 = 0x80;
        self.index = index & !NMI_OFF;
    }

    /// Reads the data port.
    pub fn read(&self, now: SystemTime) -> u8 {
        const DIVIDER: u8 = 0x26;
        const HOURS_24: u8 = 1 << 1;
        const VALID: u8 = 1 << 7;
        const CENTURY: u8 = 0x32;
        // A clock before 1970 shows 1970.
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
        let date = Date::of(since_epoch.map_or(0, |duration| duration.as_secs()));
        // CAST: below 100.
        match self.index {
            0 => decimal(date.second),
            2 => decimal(date.minute),
            4 => decimal(date.hour),
            6 => decimal(date.weekday),
            7 => decimal(date.day),
            8 => decimal(date.month),
            9 => decimal((date.year % 100) as u8),
            CENTURY => decimal((date.year / 100 % 100) as u8),
            10 => DIVIDER,
            11 => HOURS_24,
            13 => VALID,
            _ => 0,
        }
    }
}

/// Two decimal digits.
const fn decimal(value: u8) -> u8 {
    ((value / 10) << 4) | (value % 10)
}

impl Date {
    /// From seconds since 1970, by the Gregorian calendar.
    fn of(seconds: u64) -> Self {
        const DAY: u64 = 86_400;
        let days = seconds / DAY;
        let rest = seconds % DAY;
        let (mut year, mut day) = (1970, days);
        while day >= days_of_year(year) {
            day -= days_of_year(year);
            year += 1;
        }
        let mut month = 1;
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        // CAST: all are below 100.
        Self {
            year,
            month: month as u8,
            day: day as u8 + 1,
            // 1970 began with a Thursday; Sunday is 1.
            weekday: ((days + 4) % 7) as u8 + 1,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }
}

const fn is_leap(year: u64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shown(seconds: u64) -> [u8; 8] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| {
            let mut clock = Clock::default();
            clock.select(index | 0x80);
            clock.read(now)
        })
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Tuesday 29 February 2000, 12:34:56.
        assert_eq!(
            shown(951_827_696),
            [0x20, 0x00, 0x02, 0x29, 0x03, 0x12, 0x34, 0x56]
        );
        // Wednesday 31 December 2025, 23:59:59, and a second after it.
        assert_eq!(
            shown(1_767_225_599),
            [0x20, 0x25, 0x12, 0x31, 0x04, 0x23, 0x59, 0x59]
        );
        assert_eq!(
            shown(1_767_225_600),
            [0x20, 0x26, 0x01, 0x01, 0x05, 0, 0, 0]
        );
    }
}
