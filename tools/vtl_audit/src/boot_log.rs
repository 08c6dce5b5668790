// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The event log of a boot, as ACPI's table CCEL names it and Linux shows it in
//! `/sys/firmware/acpi/tables/data/CCEL`. [GHCI CCEL]
//!
//! Nothing vouches for the log itself: what it says counts if its digests make the registers
//! what evidence says they are.

use core::fmt;

use sha2::{Digest as _, Sha384};

use crate::bytes::{array, is_zero, length, word16, word32};
use crate::hash::{Digest, extend};

const SHA384: u16 = 0x0c;
const IPL: u32 = 0xd;
const NO_ACTION: u32 = 3;
/// What GRUB and others write before the command line.
const CMDLINE: &[u8] = b"kernel_cmdline: ";
/// Data of EV_SEPARATOR. Whoever relabels the entry can't change its digest.
const SEPARATOR: [u8; 4] = [0; 4];
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
    /// The boot has ended for these registers: what comes then is somebody else's.
    has_ended: [bool; 4],
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
            has_ended: [false, false, false, true],
        };
        // The area is longer than the log: what is left holds no register, or zeros.
        while word32(log, at).is_some_and(|register| register != u32::MAX) && !is_rest(log, at) {
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
        let is_end = entry.digest == Digest::from(Sha384::digest(SEPARATOR));
        let has_ended = self.has_ended.get_mut(index);
        let is_after = has_ended.is_none_or(|ended| core::mem::replace(ended, *ended || is_end));
        let Some(text) = entry
            .data
            .strip_prefix(CMDLINE)
            .filter(|_| entry.kind == IPL && !is_after)
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

/// Returns true if the log ends here, in an area that was zero.
fn is_rest(log: &[u8], at: usize) -> bool {
    const LEAST: usize = 16;
    let rest = log.get(at..).unwrap_or(&[]);
    is_zero(rest.get(..LEAST).unwrap_or(rest))
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

    /// Bytes of an entry with one digest.
    fn entry_of(register: u8, kind: u8, digest: &Digest, data: &[u8]) -> Vec<u8> {
        let mut entry = vec![register, 0, 0, 0, kind, 0, 0, 0, 1, 0, 0, 0, 0x0c, 0];
        entry.extend(digest);
        entry.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        entry.extend(data);
        entry
    }

    fn line_of(register: u8, line: &str) -> Vec<u8> {
        let data = [CMDLINE, line.as_bytes()].concat();
        entry_of(register, 0xd, &Sha384::digest(line).into(), &data)
    }

    /// A log with these entries after those of a boot, in an area that is filled with `fill`.
    fn log_with(entries: &[Vec<u8>], fill: u8) -> Vec<u8> {
        let mut log = boot_log(LINE);
        log.truncate(log.len() - 64);
        log.extend(entries.concat());
        log.extend([fill; 64]);
        log
    }

    /// Root extends a register by another line before the module is loaded, and adds that to the log: the
    /// registers are as the log says, and the line is none of the boot's.
    #[test]
    fn a_command_line_after_the_boot_has_ended_is_none() {
        let separator: Digest = Sha384::digest(SEPARATOR).into();
        // Whoever changes the type of the entry that ends the boot does not change its digest.
        for kind in [4, 0xd] {
            let end = entry_of(3, kind, &separator, &SEPARATOR);
            let log = log_with(&[end, line_of(3, "other")], 0xff);
            let log = BootLog::parse(&log).unwrap();
            assert_eq!(log.proved_cmdline(&log.rtmr), Some(LINE), "kind {kind}");
        }
        // One that is not the boot's register never has it.
        let log = log_with(&[line_of(4, "other")], 0xff);
        let log = BootLog::parse(&log).unwrap();
        assert_eq!(log.proved_cmdline(&log.rtmr), Some(LINE));
        // Before its end the last one counts: what was tried first did not start.
        let log = log_with(&[line_of(3, "other")], 0xff);
        assert_eq!(BootLog::parse(&log).unwrap().cmdline, Some("other"));
    }

    #[test]
    fn an_area_that_is_filled_with_zeros_ends_as_one_with_ones() {
        let (ones, zeros) = (log_with(&[], 0xff), log_with(&[], 0));
        assert_eq!(BootLog::parse(&zeros), BootLog::parse(&ones));
        assert!(BootLog::parse(&zeros).is_ok());
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
