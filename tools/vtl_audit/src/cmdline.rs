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
    let has = |wanted: &[&str]| words(cmdline).any(|word| wanted.contains(&word));
    let is_locked = has(&["lockdown=confidentiality"]);
    let is_enforced = [
        "module.sig_enforce",
        "module.sig_enforce=1",
        "module.sig_enforce=y",
        "module.sig_enforce=Y",
    ];
    let lsm = words(cmdline)
        .filter_map(|word| word.strip_prefix("lsm="))
        .last();
    let has_lsm = lsm.is_none_or(|list| list.split(',').any(|name| name == "lockdown"));
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

/// The kernel's words: blanks between quotation marks are part of a word, and what follows
/// `--` is for the first program.
fn words(cmdline: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let split = cmdline.split(move |letter: char| {
        is_quoted ^= letter == '"';
        !is_quoted && letter.is_ascii_whitespace()
    });
    split
        .filter(|word| !word.is_empty())
        .take_while(|word| *word != "--")
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
