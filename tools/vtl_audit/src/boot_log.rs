// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The event log of a boot, as ACPI's table CCEL names it and Linux shows it in
//! `/sys/firmware/acpi/tables/data/CCEL`. [GHCI CCEL]
//!
//! Nothing vouches for the log itself: what it says counts if its digests make the registers
//! what evidence says they are.

use core::fmt;

use sha2::{Digest as _, Sha384};

use crate::bytes::{array, length, word16, word32};
use crate::hash::{Digest, extend};

const SHA384: u16 = 0x0c;
const IPL: u32 = 0xd;
const NO_ACTION: u32 = 3;
/// What GRUB and others write before the command line.
const CMDLINE: &[u8] = b"kernel_cmdline: ";
/// Registers: MRTD, then the RTMRs.
const REGISTERS: u32 = 5;
/// A log with more algorithms is none.
const ALGORITHMS: u32 = 8;

/// Why something is no event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadBootLog {
    /// It does not begin with the entry that says of which form it is.
    Start,
    /// An entry is not whole, or of no register; where it begins.
    Entry(usize),
    /// An entry has no SHA-384.
    Algorithm(usize),
}

impl fmt::Display for BadBootLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("this is no event log of a boot"),
            Self::Entry(at) => write!(f, "byte {at}: the entry is not whole, or of no register"),
            Self::Algorithm(at) => write!(f, "byte {at}: the entry has no SHA-384"),
        }
    }
}

/// An event log, replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootLog<'a> {
    /// What its events make of RTMR0 to 3.
    pub rtmr: [Digest; 4],
    /// The kernel's command line, if the log has one whose digest is right.
    pub cmdline: Option<&'a str>,
    /// Register of the command line.
    cmdline_rtmr: usize,
}

/// An entry.
struct Entry<'a> {
    /// 0 is MRTD.
    register: u32,
    kind: u32,
    digest: Digest,
    data: &'a [u8],
    next: usize,
}

impl<'a> BootLog<'a> {
    /// Reads a log. What follows it in its area is not looked at.
    ///
    /// # Errors
    ///
    /// What makes it none.
    pub fn parse(log: &'a [u8]) -> Result<Self, BadBootLog> {
        let mut at = start(log).ok_or(BadBootLog::Start)?;
        let mut replayed = Self {
            rtmr: [[0; 48]; 4],
            cmdline: None,
            cmdline_rtmr: 0,
        };
        // The area is longer than the log: what is left holds no register.
        while word32(log, at).is_some_and(|register| register != u32::MAX) {
            let entry = entry(log, at)?;
            if entry.kind == NO_ACTION && entry.register == 0 && entry.data.is_empty() {
                break;
            }
            replayed.add(&entry);
            at = entry.next;
        }
        Ok(replayed)
    }

    fn add(&mut self, entry: &Entry<'a>) {
        // Nothing is extended for an event of this kind, nor for MRTD.
        let Some(index) = length(entry.register).checked_sub(1) else {
            return;
        };
        let Some(register) = self.rtmr.get_mut(index).filter(|_| entry.kind != NO_ACTION) else {
            return;
        };
        *register = extend(register, &entry.digest);
        let Some(text) = entry
            .data
            .strip_prefix(CMDLINE)
            .filter(|_| entry.kind == IPL)
        else {
            return;
        };
        // Some end it by a zero that is not measured.
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        let is_measured = Digest::from(Sha384::digest(text)) == entry.digest;
        if let Some(text) = core::str::from_utf8(text).ok().filter(|_| is_measured) {
            self.cmdline = Some(text);
            self.cmdline_rtmr = index;
        }
    }

    /// Returns true if the first `count` registers are as this log makes them.
    #[must_use]
    pub fn is_of(&self, rtmr: &[Digest; 4], count: usize) -> bool {
        self.rtmr
            .iter()
            .zip(rtmr)
            .take(count)
            .all(|(log, seen)| log == seen)
    }

    /// The command line, if the register that it was measured into vouches for it.
    ///
    /// `rtmr` are registers from RTMR0 on, as they were when nobody but who measures the boot could have
    /// extended them: those of [`crate::Finding::boot_registers`], not those of later evidence. Root can
    /// extend registers, too, by what looks like a command line.
    #[must_use]
    pub fn proved_cmdline(&self, rtmr: &[Digest]) -> Option<&'a str> {
        let same = |index| rtmr.get(index).is_some() && self.rtmr.get(index) == rtmr.get(index);
        self.cmdline.filter(|_| same(self.cmdline_rtmr))
    }
}

/// Where the second entry begins. The first has the form of logs before TPM 2.0.
fn start(log: &[u8]) -> Option<usize> {
    const SHA1_ENTRY: usize = 32;
    let is_first = word32(log, 4)? == NO_ACTION;
    let len = length(word32(log, SHA1_ENTRY - 4)?);
    let end = SHA1_ENTRY.checked_add(len)?;
    let signature: [u8; 16] = array(log, SHA1_ENTRY)?;
    (is_first && &signature == b"Spec ID Event03\0" && end <= log.len()).then_some(end)
}

fn entry(log: &[u8], at: usize) -> Result<Entry<'_>, BadBootLog> {
    let bad = BadBootLog::Entry(at);
    let field = |at| word32(log, at).ok_or(bad);
    let (register, kind, count) = (field(at)?, field(at + 4)?, field(at + 8)?);
    if register >= REGISTERS || count > ALGORITHMS {
        return Err(bad);
    }
    let (mut next, mut digest) = (at + 12, None);
    for _ in 0..count {
        let algorithm = word16(log, next).ok_or(bad)?;
        let len = match algorithm {
            4 => 20,
            0x0b | 0x12 => 32,
            SHA384 => 48,
            0x0d => 64,
            _ => return Err(bad),
        };
        if algorithm == SHA384 {
            digest = array(log, next + 2);
        }
        next += 2 + len;
    }
    let len = length(field(next)?);
    let data = next + 4;
    let next = data.checked_add(len).ok_or(bad)?;
    Ok(Entry {
        register,
        kind,
        digest: digest.ok_or(BadBootLog::Algorithm(at))?,
        data: log.get(data..next).ok_or(bad)?,
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::boot_log;

    const LINE: &str = "console=ttyS0 lockdown=confidentiality";

    #[test]
    fn registers_and_command_line_come_from_the_log() {
        let bytes = boot_log(LINE);
        let log = BootLog::parse(&bytes).unwrap();
        let kernel = extend(&[0; 48], &[0x1b; 48]);
        let line = extend(&[0; 48], &Sha384::digest(LINE).into());
        assert_eq!(log.rtmr, [[0; 48], kernel, line, [0; 48]]);
        assert_eq!(log.cmdline, Some(LINE));
    }

    #[test]
    fn registers_vouch_for_their_own_command_line_only() {
        let bytes = boot_log(LINE);
        let log = BootLog::parse(&bytes).unwrap();
        let rtmr = log.rtmr;
        assert_eq!(log.proved_cmdline(&rtmr), Some(LINE));
        assert!(log.is_of(&rtmr, 3));
        let bytes = boot_log("quiet");
        let other = BootLog::parse(&bytes).unwrap();
        assert_eq!(
            (other.cmdline, other.proved_cmdline(&rtmr)),
            (Some("quiet"), None)
        );
        assert!(other.is_of(&rtmr, 2) && !other.is_of(&rtmr, 3));
    }

    /// The text is not what was measured: it says nothing.
    #[test]
    fn a_command_line_with_another_digest_is_none() {
        let mut bytes = boot_log(LINE);
        let at = bytes
            .windows(4)
            .position(|window| window == b"ttyS")
            .unwrap();
        bytes[at] = b'x';
        let log = BootLog::parse(&bytes).unwrap();
        assert_eq!(log.cmdline, None);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_makes_it_panic_or_wrong() {
        let good = boot_log(LINE);
        let rtmr = BootLog::parse(&good).unwrap().rtmr;
        for at in 0..good.len() {
            let _ = BootLog::parse(&good[..at]);
            let mut bad = good.clone();
            bad[at] ^= 1;
            let line = BootLog::parse(&bad).map_or(None, |log| log.proved_cmdline(&rtmr));
            assert!(line.is_none_or(|line| line == LINE), "byte {at}: {line:?}");
        }
    }

    #[test]
    fn what_is_no_log_says_so() {
        assert_eq!(BootLog::parse(b""), Err(BadBootLog::Start));
        assert_eq!(BootLog::parse(&[0; 100]), Err(BadBootLog::Start));
        let mut bytes = boot_log(LINE);
        let second = 65;
        bytes[second] = 5;
        assert_eq!(BootLog::parse(&bytes), Err(BadBootLog::Entry(second)));
        bytes[second] = 2;
        bytes[second + 12] = 0x0d;
        assert!(BootLog::parse(&bytes).is_err());
    }
}
