// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl audit show` of an attested log: its events, and the records of each stream.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use vtl::audit::{RECORD_WORDS, Record};
use vtl_audit::event::{CONTROL, Kind};
use vtl_audit::{Contents, Event};

use super::{identity, print};
use crate::cmd::boot::monitor::note::Note;
use crate::json::word;
use crate::options::digits;
use crate::{ExitStatus, Failure};

pub(super) fn main(
    path: &Path,
    bytes: &[u8],
    cpu: Option<u16>,
    is_json: bool,
) -> Result<ExitStatus, Failure> {
    let contents = Contents::read(bytes).map_err(|why| {
        let error = anyhow::anyhow!("cannot read {}: {why}", path.display());
        Failure::new(ExitStatus::File, error)
    })?;
    let mut out = std::io::stdout().lock();
    let wanted = |stream: u32| cpu.is_none_or(|cpu| u32::from(cpu) == stream);
    let head = std::iter::once(head(&contents, is_json));
    let events = contents.events.iter().map(|event| of_event(event, is_json));
    let streams = streams(&contents)
        .into_iter()
        .filter(|stream| wanted(*stream));
    let records = streams.flat_map(|stream| {
        let records = contents.records_of(stream);
        records.map(move |record| of_record(stream, record, is_json))
    });
    for line in head.chain(events).chain(records) {
        // A reader that went away ends this, as with any filter.
        if out.write_all(line.as_bytes()).is_err() {
            return Ok(ExitStatus::Success);
        }
    }
    if contents.odd_bytes != 0 {
        eprintln!(
            "vtlctl: the file ends with {} odd bytes",
            contents.odd_bytes
        );
        return Ok(ExitStatus::Incomplete);
    }
    Ok(ExitStatus::Success)
}

fn head(contents: &Contents<'_>, is_json: bool) -> String {
    let identity: Value = serde_json::from_slice(contents.identity).unwrap_or_default();
    match is_json {
        true => format!("{}\n", json!({ "file": identity })),
        false => identity::lines(&identity),
    }
}

/// Ids of the streams that there are records of, each once.
fn streams(contents: &Contents<'_>) -> Vec<u32> {
    let mut streams: Vec<u32> = contents.streams().collect();
    streams.sort_unstable();
    streams.dedup();
    streams
}

fn of_event(event: &Event<'_>, is_json: bool) -> String {
    let kind = match event.kind {
        Kind::Open => "OPEN",
        Kind::Checkpoint => "CHECKPOINT",
        Kind::Close => "CLOSE",
    };
    let nonce = event.nonce.as_ref().map(|nonce| digits(nonce));
    if is_json {
        let event = json!({
            "event": event.number,
            "kind": kind,
            "session": digits(&event.session),
            "boot_ns": word(event.boot_ns),
            "tsc": word(event.tsc),
            "nonce": nonce,
            "last": event.is_last,
            "digest": digits(&event.digest()),
        });
        return format!("{event}\n");
    }
    let nonce = nonce.map_or_else(String::new, |nonce| format!(" nonce {nonce}"));
    let (number, tsc) = (event.number, event.tsc);
    format!(
        "event {number} {kind} tsc {tsc}{nonce} digest {}\n",
        digits(&event.digest())
    )
}

fn of_record(stream: u32, record: &[u8], is_json: bool) -> String {
    let words = words(record);
    match stream {
        CONTROL => control(words, is_json),
        _ => print::line(&Record::from_words(words), is_json) + "\n",
    }
}

fn words(record: &[u8]) -> [u64; RECORD_WORDS] {
    let mut words = [0; RECORD_WORDS];
    for (word, bytes) in words.iter_mut().zip(record.chunks_exact(8)) {
        *word = bytes
            .iter()
            .rev()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte));
    }
    words
}

/// A record of the control plane.
fn control(words: [u64; RECORD_WORDS], is_json: bool) -> String {
    let [number, tsc, result, first, second, third, who, user] = words;
    // CAST: parts of a word.
    let (process, op, user) = (who as u32, (who >> 32) as u16, user as u32);
    let name = match op {
        1 => "load",
        2 => "create_vtl",
        3 => "page_attr_wr",
        4 => "tdcall_refused",
        5 => "hvcall_refused",
        6 => "note",
        _ => "unknown",
    };
    let note = (name == "note").then_some([first, second, third]);
    let note = note.and_then(Note::read);
    if is_json {
        let mut record = json!({
            "sequence": number,
            "tsc": word(tsc),
            "op": name,
            "result": word(result),
            "operands": [word(first), word(second), word(third)],
            "process": process,
            "user": user,
        });
        if let Some(Note {
            kind,
            processor,
            line,
        }) = note
        {
            record["finding"] = json!({ "kind": kind, "vp": processor, "line": digits(&line) });
        }
        return format!("{record}\n");
    }
    let what = match note {
        Some(Note {
            kind,
            processor,
            line,
        }) => {
            let of = processor.map_or_else(String::new, |processor| format!(" VP {processor}"));
            // Whoever has the descriptor can say so.
            format!("claims monitor {kind}{of} line {}", digits(&line))
        }
        None => format!("{first:#x} {second:#x} {third:#x} result {result:#x}"),
    };
    format!("ctrl {number:>10} {name} {what} process {process} user {user}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtl_audit::testing::{Module, control_record};

    #[test]
    fn events_and_records_of_all_streams_are_shown() -> anyhow::Result<()> {
        let mut module = Module::load(&[0, CONTROL]);
        module.run(2);
        module.checkpoint(Some([0xab; 32]));
        let file = module.file();
        let contents = Contents::read(&file).map_err(|why| anyhow::anyhow!("{why}"))?;
        assert_eq!(streams(&contents), [0, CONTROL]);
        let event = contents.events.last().map(|event| of_event(event, false));
        let event = event.unwrap_or_default();
        assert!(
            event.starts_with("event 1 CHECKPOINT") && event.contains(&"ab".repeat(32)),
            "{event}"
        );
        assert!(head(&contents, false).contains("# host: test"));
        Ok(())
    }

    #[test]
    fn records_of_the_control_plane_say_what_happened() -> anyhow::Result<()> {
        let line = of_record(CONTROL, &control_record(7), false);
        assert!(
            line.contains("7 create_vtl") && line.contains("process 77"),
            "{line}"
        );
        let json: Value = serde_json::from_str(&of_record(CONTROL, &control_record(7), true))?;
        assert_eq!(
            (&json["sequence"], &json["op"]),
            (&7.into(), &"create_vtl".into())
        );
        Ok(())
    }

    #[test]
    fn a_note_of_the_monitor_is_shown_as_the_finding_that_it_is_about() -> anyhow::Result<()> {
        let words = [
            9,
            1,
            0,
            0x4d4f_4e49_0001_0002,
            0xab,
            0xcd,
            (6 << 32) | 77,
            0,
        ];
        let line = control(words, false);
        let hash = "ab00000000000000cd00000000000000";
        assert!(
            line.contains(&format!(
                "9 note claims monitor gate VP 1 line {hash} process 77"
            )),
            "{line}"
        );
        let json: Value = serde_json::from_str(&control(words, true))?;
        assert_eq!(
            json["finding"],
            json!({ "kind": "gate", "vp": 1, "line": hash })
        );
        // That of somebody else.
        let words = [9, 1, 0, 1, 2, 3, (6 << 32) | 77, 0];
        assert!(control(words, false).contains("note 0x1 0x2 0x3 result"));
        Ok(())
    }
}
