// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a kernel's command line says about whom its root user is.
//!
//! A log proves something against root of VTL2 only while root cannot become the kernel. Linux has
//! two switches for that, which cannot be turned back once it runs.

/// Why root may be able to become the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Kernel memory can be read and written: `lockdown=confidentiality` is missing.
    Lockdown,
    /// The module that locks it down is left out of `lsm=`.
    Lsm,
    /// Modules need no signature: `module.sig_enforce=1` is missing.
    Signatures,
}

impl core::fmt::Display for Opening {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Lockdown => "it is not locked down (lockdown=confidentiality)",
            Self::Lsm => "lsm= leaves lockdown out",
            Self::Signatures => "it loads modules without a signature (no module.sig_enforce=1)",
        })
    }
}

/// What the command line leaves open to root. Nothing else that matters is in it: who may sign
/// modules, which kernel it is, and whether the trust domain can be debugged is said elsewhere.
pub fn openings(cmdline: &str) -> impl Iterator<Item = Opening> {
    let has = |wanted: &[Word<'_>]| words(cmdline).any(|word| wanted.contains(&word));
    let is_locked = has(&[(b"lockdown", Some(b"confidentiality"))]);
    let enforce = b"module.sig_enforce".as_slice();
    let is_enforced = [None, Some(b"1".as_slice()), Some(b"y"), Some(b"Y")];
    let is_enforced = is_enforced.map(|value| (enforce, value));
    let lsm = words(cmdline).filter(|(name, _)| *name == b"lsm");
    let lsm = lsm.filter_map(|(_, value)| value).last();
    let has_lsm = lsm.is_none_or(|list| list.split(|b| *b == b',').any(|name| name == b"lockdown"));
    let found = [
        (Opening::Lockdown, is_locked),
        (Opening::Lsm, has_lsm),
        (Opening::Signatures, has(&is_enforced)),
    ];
    found
        .into_iter()
        .filter(|(_, holds)| !holds)
        .map(|(opening, _)| opening)
}

/// Name, and value if there is one.
type Word<'a> = (&'a [u8], Option<&'a [u8]>);

/// As many bytes of a command line Linux looks at on x86.
const CMDLINE_MAX: usize = 2047;

/// The words as Linux takes them apart, up to `--`: what follows that is for the first program.
fn words(cmdline: &str) -> impl Iterator<Item = Word<'_>> {
    let bytes = cmdline.as_bytes();
    let bytes = bytes.get(..CMDLINE_MAX).unwrap_or(bytes);
    let mut rest = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let words = core::iter::from_fn(move || {
        let (word, next) = next_word(rest)?;
        rest = next;
        Some(word)
    });
    words.take_while(|word| *word != (b"--", None))
}

/// The first word, and what comes after it. Blanks between quotation marks are part of a word; the
/// marks around a whole word or a whole value are not.
fn next_word(line: &[u8]) -> Option<(Word<'_>, &[u8])> {
    let start = line.iter().position(|byte| !is_blank(*byte))?;
    let line = line.get(start..)?;
    let (is_quoted, line) = match line.strip_prefix(b"\"") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let mut is_inside = is_quoted;
    let len = line.iter().position(|byte| {
        let is_end = is_blank(*byte) && !is_inside;
        is_inside ^= *byte == b'"';
        is_end
    });
    let (word, rest) = line.split_at_checked(len.unwrap_or(line.len()))?;
    // A word that begins with the sign has no value.
    let equals = word.iter().skip(1).position(|byte| *byte == b'=');
    let bare = |part| match is_quoted {
        true => without_mark(part),
        false => part,
    };
    let word = match equals.and_then(|at| word.split_at_checked(at + 1)) {
        None => (bare(word), None),
        Some((name, value)) => {
            let value = value.get(1..)?;
            let value = match value.strip_prefix(b"\"") {
                Some(value) => without_mark(value),
                None => bare(value),
            };
            (name, Some(value))
        }
    };
    Some((word, rest))
}

fn without_mark(part: &[u8]) -> &[u8] {
    part.strip_suffix(b"\"").unwrap_or(part)
}

/// What Linux takes for a blank, a no-break space of Latin 1 among them.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cmdline: &str) -> Vec<Opening> {
        openings(cmdline).collect()
    }

    #[test]
    fn a_kernel_that_is_shut_has_no_opening() {
        let line = "quiet lockdown=confidentiality module.sig_enforce=1 console=ttyS0";
        assert_eq!(of(line), []);
        assert_eq!(
            of("lsm=lockdown,yama module.sig_enforce lockdown=confidentiality"),
            []
        );
    }

    #[test]
    fn whatever_is_open_is_said() {
        assert_eq!(of(""), [Opening::Lockdown, Opening::Signatures]);
        let line = "lockdown=integrity module.sig_enforce=0";
        assert_eq!(of(line), [Opening::Lockdown, Opening::Signatures]);
        let line = "lsm=yama,apparmor lockdown=confidentiality module.sig_enforce=1";
        assert_eq!(of(line), [Opening::Lsm]);
    }

    /// What the kernel takes for its words, whoever else does not.
    #[test]
    fn a_line_is_taken_apart_as_the_kernel_does() {
        let shut = "lockdown=confidentiality module.sig_enforce=1";
        let both = [Opening::Lockdown, Opening::Signatures];
        for end in ["--", "\"--\"", "x\u{a0}--", "x\x0b--\x0b", "x\0"] {
            assert_eq!(of(&format!("quiet {end} {shut}")), both, "{end}");
        }
        for lsm in ["lsm=yama", "\"lsm=yama\"", "lsm=\"yama\"", "\"lsm=yama"] {
            let found = of(&format!("{shut} lsm=lockdown {lsm}"));
            assert_eq!(found, [Opening::Lsm], "{lsm}");
        }
        // What is beyond the end of the kernel's copy.
        let fill = "x".repeat(2047 - shut.len());
        assert_eq!(of(&format!("{} {shut}", &fill[1..])), []);
        assert_eq!(of(&format!("{fill} {shut}")), [Opening::Signatures]);
        assert_eq!(
            of(&format!("lockdown=\"confidentiality\" \"{shut}")),
            [Opening::Signatures]
        );
        assert_eq!(
            of("lockdown=\"confidentiality\" \"module.sig_enforce=1\""),
            []
        );
    }

    #[test]
    fn no_line_makes_it_panic() {
        for line in [
            "\"",
            "=",
            "\"=\"",
            "a=\"",
            "\"\"",
            " \" ",
            "=\"\"",
            "\"a=\"b\"",
        ] {
            assert_eq!(of(line).len(), 2, "{line}");
        }
    }

    /// What looks like the words and is none of them for the kernel.
    #[test]
    fn words_in_quotes_and_after_the_end_do_not_count() {
        for line in [
            "x=\"a lockdown=confidentiality module.sig_enforce=1 b\"",
            "quiet -- lockdown=confidentiality module.sig_enforce=1",
            "xlockdown=confidentiality module.sig_enforce=12",
            "lockdown=confidentialityx module.sig_enforced=1",
        ] {
            assert_eq!(of(line), [Opening::Lockdown, Opening::Signatures], "{line}");
        }
    }
}
