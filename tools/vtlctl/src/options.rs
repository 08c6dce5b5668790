// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Numbers and memory ranges, from the command line of this command and of
//! the kernel.

use anyhow::{Context as _, bail};
use vtl::GpaRange;

/// Key of the kernel command line that names VTL0's memory.
const CMDLINE_KEY: &str = "vtl0_mem=";

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

/// Parses `BASE,SIZE`.
pub(crate) fn range(text: &str) -> anyhow::Result<GpaRange> {
    let Some((base, size)) = text.split_once(',') else {
        bail!("'{text}' is no memory range (expected BASE,SIZE)");
    };
    Ok(GpaRange::new(number(base)?, number(size)?)?)
}

/// VTL0's memory: `given`, or what the kernel command line names.
pub(crate) fn vtl0_memory(given: Option<GpaRange>) -> anyhow::Result<GpaRange> {
    if let Some(range) = given {
        return Ok(range);
    }
    let cmdline = std::fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    from_cmdline(&cmdline)
}

fn from_cmdline(cmdline: &str) -> anyhow::Result<GpaRange> {
    let Some(text) = cmdline
        .split_whitespace()
        .find_map(|word| word.strip_prefix(CMDLINE_KEY))
    else {
        bail!(
            "the kernel command line does not name VTL0's memory \
             (expected {CMDLINE_KEY}BASE,SIZE); give it with --memory"
        );
    };
    range(text).with_context(|| format!("on the kernel command line, {CMDLINE_KEY}{text}"))
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
    fn memory_is_found_on_the_kernel_command_line() -> anyhow::Result<()> {
        let found = from_cmdline("console=ttyS0 vtl0_mem=0x3c000000,0x4000000 quiet\n")?;
        assert_eq!((found.base(), found.len()), (0x3c00_0000, 0x400_0000));
        Ok(())
    }

    #[test]
    fn a_command_line_without_memory_says_what_to_do() {
        for (cmdline, expected) in [
            ("quiet", "--memory"),
            ("vtl0_mem=0x1000", "BASE,SIZE"),
            ("vtl0_mem=0x1001,0x1000", "whole private pages"),
        ] {
            match from_cmdline(cmdline) {
                Err(error) => {
                    let text = format!("{error:#}");
                    assert!(text.contains(expected), "{text}");
                }
                Ok(range) => panic!("{cmdline} gave {range}"),
            }
        }
    }
}
