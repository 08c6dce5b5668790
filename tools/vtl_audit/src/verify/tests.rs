// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What an attacker can do to a log, and what becomes of it.

mod events;
mod real;
mod records;

use alloc::vec::Vec;

use super::*;
use crate::event::CONTROL;
use crate::file::{BadFile, Frame, write};
use crate::finding::Verdict;
use crate::hash;
use crate::testing::Module;

const STREAMS: [u32; 3] = [0, 1, CONTROL];
const NONCE: Hash = [0x55; 32];

/// A module that has run, with three events.
fn module() -> Module {
    let mut module = Module::load(&STREAMS);
    module.run(100);
    module.checkpoint(None);
    module.run(130);
    module.checkpoint(None);
    module
}

fn evidence(module: &Module) -> Evidence {
    Evidence::from_report(&module.report(&[0; 64])).unwrap()
}

/// A file of these frames.
fn file(module: &Module, frames: &[Vec<u8>]) -> Vec<u8> {
    [module.head(), frames.concat()].concat()
}

fn judge_frames(module: &Module, frames: &[Vec<u8>]) -> Finding {
    verify(&file(module, frames), &evidence(module), &Policy::DEFAULT)
}

fn reason(finding: &Finding) -> Reason {
    assert_eq!(finding.verdict, Verdict::NotAttested, "{finding:?}");
    finding.reasons[0]
}

/// Type of a frame, and stream and first record if it is about records.
fn key(frame: &[u8]) -> (u8, u32, u64) {
    let word = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
    (frame[0], word(8), u64::from(word(16)))
}

const RECORDS: u8 = Frame::Records as u8;
const LEAF: u8 = Frame::Leaf as u8;
const EVENT: u8 = Frame::Event as u8;

fn without(module: &Module, gone: impl Fn((u8, u32, u64)) -> bool) -> Vec<Vec<u8>> {
    let mut frames = module.frames();
    frames.retain(|frame| !gone(key(frame)));
    frames
}

/// With one frame changed.
fn changed(module: &Module, which: (u8, u32, u64), change: impl Fn(&mut Vec<u8>)) -> Vec<Vec<u8>> {
    let mut frames = module.frames();
    let frame = frames.iter_mut().find(|frame| key(frame) == which);
    change(frame.unwrap());
    frames
}

#[test]
fn a_file_as_it_was_saved_is_attested() {
    let module = module();
    let finding = verify(&module.file(), &evidence(&module), &Policy::DEFAULT);
    assert_eq!(finding.verdict, Verdict::Attested, "{finding:?}");
    assert_eq!((finding.first_event, finding.last_event), (0, Some(2)));
    assert_eq!((finding.is_closed, finding.later_events), (false, 0));
    let proved: Vec<_> = finding
        .streams
        .iter()
        .map(|stream| (stream.id, stream.last, stream.proved, stream.unproved))
        .collect();
    let all = STREAMS.map(|id| (id, 230, 230, 0));
    assert_eq!(proved, all);
    let quote = Evidence::from_quote(&module.quote(5, &[0; 64])).unwrap();
    let quoted = verify(&module.file(), &quote, &Policy::DEFAULT);
    assert_eq!(quoted, finding);
}

#[test]
fn frames_may_come_in_any_order_and_twice() {
    let module = module();
    let mut frames = module.frames();
    frames.reverse();
    frames.rotate_left(7);
    frames.extend(module.frames());
    assert_eq!(judge_frames(&module, &frames).verdict, Verdict::Attested);
    // The leaves are not needed where the records are.
    let frames = without(&module, |(kind, _, _)| kind == LEAF);
    assert_eq!(judge_frames(&module, &frames).verdict, Verdict::Attested);
}

#[test]
fn a_session_that_was_closed_says_so_and_a_crash_does_not() {
    let mut module = module();
    module.run(5);
    let crashed = verify(&module.file(), &evidence(&module), &Policy::DEFAULT);
    assert_eq!(
        (crashed.verdict, crashed.is_closed),
        (Verdict::Attested, false)
    );
    // Records after the last event are in the file, and not proved.
    assert_eq!(
        (crashed.streams[0].last, crashed.streams[0].unproved),
        (230, 5)
    );
    module.close();
    let closed = verify(&module.file(), &evidence(&module), &Policy::DEFAULT);
    assert_eq!(
        (closed.verdict, closed.is_closed),
        (Verdict::Attested, true)
    );
    assert_eq!(closed.streams[0].proved, 235);
}

#[test]
fn an_earlier_report_proves_what_was_before_it() {
    let mut module = module();
    let earlier = evidence(&module);
    module.run(70);
    module.checkpoint(None);
    let finding = verify(&module.file(), &earlier, &Policy::DEFAULT);
    assert_eq!(finding.verdict, Verdict::Attested);
    assert_eq!((finding.last_event, finding.later_events), (Some(2), 1));
    assert_eq!(
        (finding.streams[0].proved, finding.streams[0].unproved),
        (230, 70)
    );
}

#[test]
fn a_missing_page_is_named_and_its_hash_stays_attested() {
    let module = module();
    let frames = without(&module, |key| key == (RECORDS, 1, 128));
    let finding = judge_frames(&module, &frames);
    assert_eq!(finding.verdict, Verdict::WithGaps, "{finding:?}");
    let (stream, first, last) = (1, 128, 191);
    assert_eq!(
        finding.gaps,
        [Gap::Records {
            stream,
            first,
            last
        }]
    );
    assert_eq!(
        (finding.streams[1].proved, finding.streams[1].unproved),
        (166, 0)
    );
}

#[test]
fn a_missing_page_without_its_leaf_leaves_its_interval_unproved_and_no_other() {
    let module = module();
    let gone = |(_, stream, first)| (stream, first) == (1, 128);
    let finding = judge_frames(&module, &without(&module, gone));
    assert_eq!(finding.verdict, Verdict::WithGaps, "{finding:?}");
    let (stream, first, last) = (1, 101, 230);
    assert_eq!(
        finding.gaps,
        [Gap::Unproved {
            stream,
            first,
            last
        }]
    );
    // What is there of the interval does not count as proved.
    assert_eq!(
        (finding.streams[1].proved, finding.streams[1].unproved),
        (100, 66)
    );
}

/// The evidence for an event that was asked for.
fn asked(module: &Module, nonce: &Hash, number: usize) -> Evidence {
    let digest = hash::digest(&module.events()[number]);
    let data = report_data(nonce, &digest);
    Evidence::from_report(&module.report(&data)).unwrap()
}

#[test]
fn a_nonce_has_to_be_in_an_event_and_in_the_report() {
    let mut module = module();
    let policy = Policy {
        nonce: Some(NONCE),
        ..Policy::DEFAULT
    };
    let finding = verify(&module.file(), &evidence(&module), &policy);
    assert_eq!(reason(&finding), Reason::Nonce);
    module.checkpoint(Some(NONCE));
    let good = asked(&module, &NONCE, 3);
    let finding = verify(&module.file(), &good, &policy);
    assert_eq!(
        (finding.verdict, finding.nonce_event),
        (Verdict::Attested, Some(3))
    );
    // A report that was made without it, for another nonce, or for another event.
    for wrong in [
        evidence(&module),
        asked(&module, &[1; 32], 3),
        asked(&module, &NONCE, 2),
    ] {
        let finding = verify(&module.file(), &wrong, &policy);
        assert_eq!(reason(&finding), Reason::ReportData);
    }
    let other = Policy {
        nonce: Some([1; 32]),
        ..Policy::DEFAULT
    };
    assert_eq!(
        reason(&verify(&module.file(), &good, &other)),
        Reason::Nonce
    );
    // One that comes between the event and the report is no harm.
    module.checkpoint(None);
    let later = asked(&module, &NONCE, 3);
    let finding = verify(&module.file(), &later, &policy);
    assert_eq!(
        (finding.verdict, finding.last_event),
        (Verdict::Attested, Some(4))
    );
    // Nor is one that carries the same nonce.
    module.checkpoint(Some(NONCE));
    for number in [3, 5] {
        let evidence = asked(&module, &NONCE, number);
        let finding = verify(&module.file(), &evidence, &policy);
        assert_eq!(
            (finding.verdict, finding.nonce_event),
            (Verdict::Attested, Some(number as u64))
        );
    }
}

#[test]
fn a_log_that_was_rolled_back_is_refused_by_who_knows_more() {
    let mut module = module();
    let (old, old_evidence) = (module.file(), evidence(&module));
    module.checkpoint(None);
    let known = |session: u8, number| Policy {
        at_least: Some(([session; 16], number)),
        ..Policy::DEFAULT
    };
    let new = verify(&module.file(), &evidence(&module), &known(1, 3));
    assert_eq!(new.verdict, Verdict::Attested);
    let finding = verify(&old, &old_evidence, &known(1, 3));
    assert_eq!(reason(&finding), Reason::Older { number: 2 });
    let finding = verify(&old, &old_evidence, &known(2, 0));
    assert_eq!(reason(&finding), Reason::OtherSession);
}

#[test]
fn files_without_events_prove_nothing() {
    let module = module();
    let evidence = evidence(&module);
    let of = |file: &[u8]| reason(&verify(file, &evidence, &Policy::DEFAULT));
    assert_eq!(of(b""), Reason::File(BadFile::Magic));
    assert_eq!(of(&module.head()), Reason::NoEvents);
    for version in [1, 2, 4] {
        let mut file = module.file();
        file[8] = version;
        let why = BadFile::Version(version.into());
        assert_eq!(of(&file), Reason::File(why));
    }
}
