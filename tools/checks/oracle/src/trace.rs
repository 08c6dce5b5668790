// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The lines of a trace, as `Documentation/emulator.rst` describes them. `replay.rs` executes them.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A number: a JSON number, or a string with a hexadecimal one (`"0x2a"`).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Number")]
pub(crate) struct Word(pub(crate) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl TryFrom<Number> for Word {
    type Error = String;

    fn try_from(number: Number) -> Result<Self, String> {
        match number {
            Number::Plain(value) => Ok(Self(value)),
            Number::Text(text) => text
                .strip_prefix("0x")
                .and_then(|digits| u64::from_str_radix(&digits.replace('_', ""), 16).ok())
                .map(Self)
                .ok_or_else(|| format!("{text:?} is no number")),
        }
    }
}

/// Registers by name.
pub(crate) type Registers = BTreeMap<String, Word>;

/// One line.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Line {
    /// A new TD, all of it at its beginning.
    Td(TdLine),
    /// What the host does to pages.
    Host {
        action: Action,
        gpa: Word,
        #[serde(default)]
        level: Word,
    },
    /// Words of memory, to write or to find.
    Memory {
        gpa: Word,
        #[serde(default)]
        write: Vec<Word>,
        #[serde(default)]
        expect: Vec<Word>,
        source: Option<String>,
    },
    /// What the model asks the machine for.
    Machine {
        tsc: Option<Word>,
        interrupt_for_l1: Option<bool>,
        interrupted: Option<bool>,
        busy_page: Option<Word>,
    },
    /// TDCALL.
    Call(Box<CallLine>),
    /// An exit of the L2 that TDG.VP.ENTER has entered.
    Exit(Box<ExitLine>),
    /// CPUID of L1.
    Cpuid {
        leaf: Word,
        #[serde(default)]
        subleaf: Word,
        #[serde(default)]
        cpl: u8,
        end: End,
        source: Option<String>,
    },
    /// RDMSR, or WRMSR if there is a value, of L1.
    Msr {
        index: Word,
        write: Option<Word>,
        #[serde(default)]
        efer: Word,
        end: End,
        value: Option<Word>,
        source: Option<String>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TdLine {
    #[serde(default)]
    pub(crate) attributes: Word,
    #[serde(default)]
    pub(crate) xfam: Word,
    #[serde(default)]
    pub(crate) config_flags: Word,
    #[serde(default)]
    pub(crate) feature_level: Word,
    #[serde(default)]
    pub(crate) vcpu_index: Word,
    pub(crate) num_vcpus: Word,
    pub(crate) max_vcpus: Word,
    pub(crate) num_l2_vms: Word,
    #[serde(default)]
    pub(crate) cr4_fixed1: Word,
    #[serde(default)]
    pub(crate) l2_tables: Tables,
    /// Bytes from address 0 that are accepted.
    pub(crate) accepted: Word,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tables {
    #[default]
    Given,
    OnDemand,
    Withheld,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// TDH.MEM.PAGE.AUG.
    Add,
    /// TDH.MEM.PAGE.REMOVE, and what comes before it.
    Remove,
    /// TDH.MEM.PAGE.DEMOTE.
    Demote,
    /// Maps it shared.
    Share,
}

/// How a call, an exit or an instruction ends.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    Complete,
    Gp,
    Ve,
    Df,
    TdExit,
    Vmcall,
    Interrupted,
    EnterL2,
    ToL1,
    Resume,
    Value,
    Native,
    Fatal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallLine {
    /// The name of the leaf, for a reader: it has to be that of RAX.
    pub(crate) leaf: Option<String>,
    #[serde(rename = "in")]
    pub(crate) input: Registers,
    #[serde(default)]
    pub(crate) cpl: u8,
    #[serde(default = "yes")]
    pub(crate) long_mode: bool,
    #[serde(default = "complete")]
    pub(crate) end: End,
    #[serde(default)]
    pub(crate) out: Registers,
    /// If registers that `out` does not have are to be as before.
    #[serde(default)]
    pub(crate) others_kept: bool,
    pub(crate) source: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExitLine {
    pub(crate) reason: Word,
    #[serde(default)]
    pub(crate) qualification: Word,
    #[serde(default)]
    pub(crate) gla: Word,
    #[serde(default)]
    pub(crate) gpa: Word,
    #[serde(default)]
    pub(crate) interruption_info: Word,
    #[serde(default)]
    pub(crate) idt_vectoring_info: Word,
    #[serde(default)]
    pub(crate) instruction_length: Word,
    #[serde(default)]
    pub(crate) cpl: u8,
    /// The L2's registers when it exits.
    #[serde(default)]
    pub(crate) l2: Registers,
    pub(crate) end: End,
    #[serde(default)]
    pub(crate) out: Registers,
    pub(crate) source: Option<String>,
}

const fn yes() -> bool {
    true
}

const fn complete() -> End {
    End::Complete
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_or_hexadecimal_and_nothing_else() {
        let word = |text| serde_json::from_str::<Word>(text).ok();
        assert_eq!(word("42"), Some(Word(42)));
        assert_eq!(word("\"0xc000_0100\""), Some(Word(0xc000_0100)));
        assert_eq!(word("\"0xffffffffffffffff\""), Some(Word(u64::MAX)));
        for bad in [
            "\"42\"",
            "\"0x\"",
            "-1",
            "1.5",
            "\"0x1_0000_0000_0000_0000\"",
            "null",
        ] {
            assert_eq!(word(bad), None, "{bad}");
        }
    }

    #[test]
    fn unknown_keys_and_lines_are_refused() {
        let line = |text| serde_json::from_str::<Line>(text).is_ok();
        assert!(line(
            r#"{"do":"call","in":{"rax":1},"out":{"rax":0},"source":"x"}"#
        ));
        assert!(!line(r#"{"do":"call","in":{"rax":1},"outt":{"rax":0}}"#));
        assert!(!line(r#"{"do":"cal","in":{"rax":1}}"#));
        assert!(!line(r#"{"do":"host","action":"burn","gpa":0}"#));
    }
}
