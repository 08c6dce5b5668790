// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Numbers and memory ranges: from the command line, and from the list of lower-VTL memory that the
//! kernel module has claimed.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use vtl::GpaRange;

use crate::{ExitStatus, Failure};

/// Where the kernel module shows the list of lower-VTL memory.
const LIST: &str = "/sys/module/mshv_vtl_tdx/parameters/vtl0_mem";

/// Parses `123`, `0x7b`, and with a suffix K, M or G.
pub(crate) fn number(text: &str) -> anyhow::Result<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let value = parsed
        .with_context(|| format!("'{text}' is no number (expected 4096, 0x1000, 4K, 1M or 1G)"))?;
    match value.checked_mul(1 << shift) {
        Some(scaled) => Ok(scaled),
        None => bail!("'{text}' does not fit 64 bits"),
    }
}

/// Parses `N` bytes as hexadecimal digits.
pub(crate) fn hex<const N: usize>(text: &str) -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let is_long_enough = text.len() == 2 * N && text.is_ascii();
    let pairs = bytes.iter_mut().zip((0..).step_by(2));
    for (byte, at) in pairs.filter(|_| is_long_enough) {
        let pair = text.get(at..at + 2).filter(|pair| !pair.starts_with('+'));
        *byte = u8::from_str_radix(pair.unwrap_or("-"), 16)
            .with_context(|| format!("'{text}' has other letters than hexadecimal digits"))?;
    }
    match is_long_enough {
        true => Ok(bytes),
        false => bail!("'{text}' has not {} hexadecimal digits", 2 * N),
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// A text of somebody else's for a terminal: no line of it can look like one of ours.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

/// An event of an audit log: session and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventName(pub(crate) [u8; 16], pub(crate) u64);

/// Parses `SESSION:NUMBER`.
pub(crate) fn event_name(text: &str) -> anyhow::Result<EventName> {
    let Some((session, number)) = text.split_once(':') else {
        bail!("'{text}' names no event (expected SESSION:NUMBER)");
    };
    let number = number
        .parse()
        .with_context(|| format!("'{number}' is no number of an event"))?;
    Ok(EventName(hex(session)?, number))
}

/// Parses `BASE,SIZE`.
pub(crate) fn range(text: &str) -> anyhow::Result<GpaRange> {
    let Some((base, size)) = text.split_once(',') else {
        bail!("'{text}' is no memory range (expected BASE,SIZE)");
    };
    Ok(GpaRange::new(number(base)?, number(size)?)?)
}

/// The memory of the lower VTLs: none, if none was named to the module.
pub(crate) fn lower_memory() -> anyhow::Result<Vec<GpaRange>> {
    let text = std::fs::read_to_string(LIST)
        .with_context(|| format!("cannot read {LIST}: the module is not loaded"))?;
    list(&text).with_context(|| format!("in {LIST}"))
}

fn list(text: &str) -> anyhow::Result<Vec<GpaRange>> {
    let words: Vec<&str> = text.trim().split(',').collect();
    if words == [""] {
        return Ok(Vec::new());
    }
    words.chunks(2).map(|pair| range(&pair.join(","))).collect()
}

/// VTL0's memory: `given`, or 64 MiB of the largest range of the list. Only what was given can make the
/// command line wrong: without the module, or without memory, something is missing.
pub(crate) fn vtl0_memory(given: Option<GpaRange>) -> Result<GpaRange, Failure> {
    let list = lower_memory()?;
    match given {
        Some(range) => within(&list, range).map_err(|error| Failure::new(ExitStatus::Usage, error)),
        None => Ok(largest(&list)?),
    }
}

/// The range, if it is completely in one of the list: the kernel would refuse its pages one by one.
fn within(list: &[GpaRange], range: GpaRange) -> anyhow::Result<GpaRange> {
    if list
        .iter()
        .any(|own| own.base() <= range.base() && range.end() <= own.end())
    {
        return Ok(range);
    }
    let all: Vec<String> = list.iter().map(ToString::to_string).collect();
    anyhow::bail!(
        "{range} is not memory of the lower VTLs, which vtl0_mem= names: {}",
        all.join(", ")
    )
}

/// Of the largest range as much as a small guest needs, in large pages: accepting memory takes time.
fn largest(list: &[GpaRange]) -> anyhow::Result<GpaRange> {
    const ENOUGH: u64 = 64 << 20;
    const LARGE_PAGE: u64 = 2 << 20;
    let largest = list.iter().max_by_key(|range| range.len()).context(
        "no memory is a lower VTL's: give vtl0_mem=START,LENGTH to the module or to the kernel",
    )?;
    let aligned = largest.base().next_multiple_of(LARGE_PAGE);
    let base = if aligned < largest.end() {
        aligned
    } else {
        largest.base()
    };
    Ok(GpaRange::new(base, ENOUGH.min(largest.end() - base))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bases_and_suffixes() -> anyhow::Result<()> {
        for (text, value) in [
            ("4096", 4096),
            ("0x1000", 4096),
            ("4K", 4096),
            ("0x2M", 2 << 20),
        ] {
            assert_eq!(number(text)?, value);
        }
        for text in ["", "K", "0x", "12x", "-1", "0xffffffffffG"] {
            assert!(number(text).is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn memory_of_others_is_refused_with_the_list() -> anyhow::Result<()> {
        let list = list("0x200000,0x400000,0x10000000,0x1000")?;
        let inside = GpaRange::new(0x40_0000, 0x20_0000)?;
        assert_eq!(within(&list, inside)?, inside);
        for (base, len) in [(0x40_0000, 0x20_1000), (0x800_0000, 0x1000), (0, 0x1000)] {
            let said = within(&list, GpaRange::new(base, len)?).map_err(|error| error.to_string());
            assert!(
                said.is_err_and(|said| said.contains("0x200000..0x600000, 0x10000000..0x10001000")),
                "{base:#x}"
            );
        }
        Ok(())
    }

    #[test]
    fn bytes_and_names_of_events_are_hexadecimal_digits() -> anyhow::Result<()> {
        assert_eq!(hex::<2>("0aF0")?, [0x0a, 0xf0]);
        assert_eq!(digits(&[0x0a, 0xf0]), "0af0");
        for text in ["", "0a", "0a0b0c", "0a0g", "+a+b", "0aß"] {
            assert!(hex::<2>(text).is_err(), "{text}");
        }
        let session = "0f".repeat(16);
        assert_eq!(
            event_name(&format!("{session}:7"))?,
            EventName([0x0f; 16], 7)
        );
        for text in [session.as_str(), "0f:7", &format!("{session}:x")] {
            assert!(event_name(text).is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn the_largest_range_of_the_list_is_vtl0s() -> anyhow::Result<()> {
        let found = list("0x3c000000,0x400000,0x50000000,0x8000000,0x60000000,0x1000\n")?;
        assert_eq!(found.len(), 3);
        let largest = largest(&found)?;
        assert_eq!((largest.base(), largest.len()), (0x5000_0000, 0x400_0000));
        Ok(())
    }

    #[test]
    fn what_is_taken_of_it_begins_with_a_large_page_if_it_has_one() -> anyhow::Result<()> {
        for (text, base, len) in [
            ("0x100000,0x1ff00000,0x0,0x70000", 0x20_0000, 0x400_0000),
            ("0x100000,0x300000", 0x20_0000, 0x20_0000),
            ("0x100000,0x100000", 0x10_0000, 0x10_0000),
            ("0x0,0x70000", 0, 0x7_0000),
        ] {
            let found = largest(&list(text)?)?;
            assert_eq!((found.base(), found.len()), (base, len), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_list_without_memory_says_what_to_do() -> anyhow::Result<()> {
        assert_eq!(list("\n")?, []);
        match largest(&[]) {
            Err(error) => assert!(format!("{error:#}").contains("vtl0_mem=START,LENGTH")),
            Ok(range) => panic!("nothing gave {range}"),
        }
        Ok(())
    }

    #[test]
    fn a_list_that_is_none_is_an_error() {
        for (text, expected) in [
            ("0x1000", "BASE,SIZE"),
            ("0x1000,0x1000,", "BASE,SIZE"),
            ("0x1001,0x1000", "whole private pages"),
        ] {
            match list(text) {
                Err(error) => {
                    let text = format!("{error:#}");
                    assert!(text.contains(expected), "{text}");
                }
                Ok(ranges) => panic!("{text} gave {ranges:?}"),
            }
        }
    }
}
