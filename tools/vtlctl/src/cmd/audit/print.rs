// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A record for people, or for programs.

use serde_json::{Value, json};
use vtl::audit::{EntryReason, Record};

use crate::json::word;

pub(super) fn line(record: &Record, is_json: bool) -> String {
    if is_json {
        return object(record).to_string();
    }
    let why = match record.entry_reason {
        EntryReason::Userspace => "USERSPACE".to_owned(),
        EntryReason::After(kind) => kind.to_string(),
    };
    format!(
        "{:>4} {:>10} vm {} {why:<16} -> {:<24} rip {:016x} qualification {:#x} ticks {} thread {}",
        record.vp,
        record.sequence,
        record.vm,
        record.exit_kind,
        record.rip,
        record.qualification,
        record.cycles,
        record.thread
    )
}

fn object(record: &Record) -> Value {
    let after = match record.entry_reason {
        EntryReason::Userspace => Value::Null,
        EntryReason::After(kind) => kind.to_string().into(),
    };
    json!({
        "vp": record.vp,
        "sequence": record.sequence,
        "vm": record.vm,
        "entered_after": after,
        "exit": record.exit_kind.to_string(),
        "status": word(record.status.raw()),
        "qualification": word(record.qualification),
        "rip": word(record.rip),
        "entry_tsc": word(record.entry_tsc),
        "cycles": word(record.cycles),
        "thread": record.thread,
        "flags": record.flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_times_keep_all_their_bits() -> anyhow::Result<()> {
        let words = [
            7,
            u64::MAX,
            3,
            10,
            1 << 63,
            0xffff_8000_0000_0001,
            1 << 48,
            10,
        ];
        let record = Record::from_words(words);
        let json: Value = serde_json::from_str(&line(&record, true))?;
        assert_eq!(json["rip"], "0xffff800000000001");
        assert_eq!(json["qualification"], "0x8000000000000000");
        assert_eq!(json["entry_tsc"], "0xffffffffffffffff");
        assert_eq!(
            (&json["sequence"], &json["exit"]),
            (&7.into(), &"CPUID".into())
        );
        assert_eq!(json["entered_after"], Value::Null);
        assert!(
            line(&record, false).contains("vm 1 USERSPACE"),
            "{}",
            line(&record, false)
        );
        Ok(())
    }
}
