// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a check has found: one line for a person, or the parts of it for a log.

use core::fmt;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Kind {
    /// A register has another value.
    Register = 1,
    /// An interrupt gate has changed, or leads out of the kernel's text.
    Gate,
    /// The kernel's text is not what was booted.
    Text,
    /// The kernel's constants have changed.
    Constants,
    /// A page is writable and executable.
    WritableExecutable,
    /// A page of the kernel's text or constants is writable at some address.
    WritableText,
    /// The addresses of the kernel's text or constants lead to other memory.
    TextMoved,
    /// The supervisor could execute a page in the half of the addresses that is userspace's.
    LowExecutable,
    /// A check can't be carried out.
    Unchecked,
    /// There is something to execute where Linux has its image, beside the image.
    OtherImage,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Register,
        Self::Gate,
        Self::Text,
        Self::Constants,
        Self::WritableExecutable,
        Self::WritableText,
        Self::TextMoved,
        Self::LowExecutable,
        Self::Unchecked,
        Self::OtherImage,
    ];

    /// Its number, from 1, for records.
    pub const fn number(self) -> u16 {
        self as u16 // CAST: its representation
    }

    /// Its name, for a log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Gate => "gate",
            Self::Text => "text",
            Self::Constants => "constants",
            Self::WritableExecutable => "writable-executable",
            Self::WritableText => "writable-text",
            Self::TextMoved => "text-moved",
            Self::LowExecutable => "low-executable",
            Self::Unchecked => "unchecked",
            Self::OtherImage => "other-image",
        }
    }
}

/// What tells a finding from another one: it is reported once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What is wrong.
    pub kind: Kind,
    /// Where, without what may differ from check to check.
    pub place: u64,
    /// The processor, if it is about one.
    pub processor: Option<usize>,
    /// The register or the like.
    pub name: &'static str,
    /// The memory that it leads to, if it is another finding when it leads elsewhere.
    pub gpa: Option<u64>,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which one.
    pub key: Key,
    /// Where, for a person.
    pub place: String,
    /// What ought to be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key.kind.name())?;
        if let Some(processor) = self.key.processor {
            write!(f, "VP {processor}: ")?;
        }
        let Self {
            place,
            expected,
            found,
            ..
        } = self;
        write!(f, "{place}: expected {expected}, found {found}")
    }
}

/// Bytes in hexadecimal, as a disassembler shows them.
pub(super) fn hex(bytes: &[u8]) -> String {
    let all: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    all.join(" ")
}
