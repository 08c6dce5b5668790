// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of `verify.rs`.

use super::super::file::{bytes, head};
use super::*;
use vtl::Status;

fn record(sequence: u64) -> Record {
    Record {
        sequence,
        entry_tsc: sequence * 100,
        cycles: 50,
        status: Status::from_raw(10),
        qualification: 0,
        rip: 0x1000,
        thread: 7,
        vp: 0,
        vm: 1,
        entry_reason: EntryReason::Userspace,
        exit_kind: ExitKind(10),
        flags: 1,
    }
}

fn file(records: &[Record]) -> anyhow::Result<Vec<u8>> {
    let mut file = head(&json!({}))?;
    records.iter().for_each(|record| file.extend(bytes(record)));
    Ok(file)
}

fn report(file: &[u8]) -> anyhow::Result<Report> {
    Ok(verify(&Saved::new(file)?))
}

#[test]
fn a_file_without_gaps_is_good() -> anyhow::Result<()> {
    let other = Record { vp: 3, ..record(9) };
    let report = report(&file(&[record(5), other, record(6), record(7)])?)?;
    assert_eq!(report.verdict(), Verdict::Good, "{report}");
    let text = report.to_string();
    assert!(
        text.contains("vp 0: 3 records, switches 5 to 7, 0 missing"),
        "{text}"
    );
    assert!(text.contains("vp 3: 1 records"), "{text}");
    let json = report.to_json();
    assert_eq!(
        (&json["verdict"], &json["vps"][0]["last"]),
        (&"good".into(), &7.into())
    );
    Ok(())
}

#[test]
fn a_removed_record_makes_it_incomplete() -> anyhow::Result<()> {
    let report = report(&file(&[record(5), record(8)])?)?;
    assert_eq!(report.verdict(), Verdict::Incomplete);
    let text = report.to_string();
    assert!(text.contains("2 switches are missing before it"), "{text}");
    assert!(
        text.contains("2 missing") && text.contains("NOT complete"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_cut_file_and_an_empty_one_are_incomplete() -> anyhow::Result<()> {
    let whole = file(&[record(5), record(6)])?;
    let cut = report(&whole[..whole.len() - 1])?;
    assert_eq!(cut.verdict(), Verdict::Incomplete);
    assert!(cut.to_string().contains("63 odd bytes"), "{cut}");
    let nothing = report(&file(&[])?)?;
    assert_eq!(
        nothing.verdict(),
        Verdict::Incomplete,
        "nothing is no evidence"
    );
    Ok(())
}

#[test]
fn records_out_of_order_were_tampered_with() -> anyhow::Result<()> {
    for records in [[record(5), record(4)], [record(5), record(5)]] {
        let report = report(&file(&records)?)?;
        assert_eq!(report.verdict(), Verdict::Tampered);
        assert!(
            report.to_string().contains("comes after switch 5"),
            "{report}"
        );
    }
    Ok(())
}

#[test]
fn contradictions_were_tampered_with_even_where_something_is_missing() -> anyhow::Result<()> {
    let early = Record {
        entry_tsc: 520,
        ..record(6)
    };
    let wrong_reason = Record {
        entry_reason: EntryReason::After(ExitKind(97)),
        ..record(6)
    };
    let wrong_kind = Record {
        exit_kind: ExitKind(12),
        ..record(6)
    };
    let no_vm = Record { vm: 0, ..record(6) };
    for (second, expected) in [
        (early, "began before"),
        (
            wrong_reason,
            "entered after INTERRUPTED, but that was CPUID",
        ),
        (wrong_kind, "kind 12"),
        (no_vm, "no VM 0"),
    ] {
        let report = report(&file(&[record(5), second, record(9)])?)?;
        assert_eq!(report.verdict(), Verdict::Tampered);
        assert!(report.to_string().contains(expected), "{report}");
    }
    Ok(())
}

#[test]
fn any_flipped_byte_of_the_reserved_ones_is_seen() -> anyhow::Result<()> {
    let good = file(&[record(5)])?;
    for byte in good.len() - 6..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 0x40;
        assert_eq!(report(&bad)?.verdict(), Verdict::Tampered, "byte {byte}");
    }
    Ok(())
}
