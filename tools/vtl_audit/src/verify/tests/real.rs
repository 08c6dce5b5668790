// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The same attacks on logs that the kernel module made in a trust domain, with the TDREPORT and the
//! quote that `vtlctl audit attest` added: what [`crate::testing`] makes could be wrong where the verifier
//! is.
//!
//! A guest ran on each of two CPUs, the log was saved and attested by a report (`early`), the guests ran
//! again, and the log went on and was attested by a quote (`LOG`). The module was loaded again and
//! attested by a report (`second`); then the register was extended through sysfs, and a checkpoint
//! asked for (`FOREIGN`). `OTHER` is of another trust domain, with a report. The frames with the event
//! log of the boot, most of which is padding, were cut out.

use super::*;
use crate::Contents;

const LOG: &[u8] = include_bytes!("real/log.bin");
const FOREIGN: &[u8] = include_bytes!("real/foreign.bin");
const OTHER: &[u8] = include_bytes!("real/other.bin");

const FIRST_NONCE: Hash = [0x11; 32];
const SECOND_NONCE: Hash = [0x22; 32];

fn contents(file: &[u8]) -> Contents<'_> {
    Contents::read(file).unwrap()
}

/// The newest report in a file.
fn report(file: &[u8]) -> Evidence {
    Evidence::from_report(contents(file).reports.last().unwrap()).unwrap()
}

fn quote() -> Evidence {
    Evidence::from_quote(contents(LOG).quotes.last().unwrap()).unwrap()
}

fn asked(nonce: Hash) -> Policy {
    Policy {
        nonce: Some(nonce),
        ..Policy::DEFAULT
    }
}

/// Head and frames of a file.
fn parts(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 24 + word(16).next_multiple_of(8);
    let head = file[..at].to_vec();
    let mut frames = Vec::new();
    while at < file.len() {
        let end = at + 8 + word(at + 4).next_multiple_of(8);
        frames.push(file[at..end].to_vec());
        at = end;
    }
    (head, frames)
}

/// A file as it was when its first report was added.
fn until_report(file: &[u8]) -> Vec<u8> {
    let (head, mut frames) = parts(file);
    let is_report = |frame: &Vec<u8>| frame[0] == Frame::Report as u8;
    frames.truncate(1 + frames.iter().position(is_report).unwrap());
    [head, frames.concat()].concat()
}

fn early() -> Vec<u8> {
    until_report(LOG)
}

fn second() -> Vec<u8> {
    until_report(FOREIGN)
}

/// The log with frames changed, against its quote.
fn judge(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Finding {
    let (head, mut frames) = parts(LOG);
    change(&mut frames);
    verify(
        &[head, frames.concat()].concat(),
        &quote(),
        &Policy::DEFAULT,
    )
}

fn refused(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Reason {
    reason(&judge(change))
}

fn is_event(frame: &[u8], number: u8) -> bool {
    frame[0] == EVENT && frame[8 + 16] == number
}

fn event(frames: &mut [Vec<u8>], number: u8) -> &mut Vec<u8> {
    frames
        .iter_mut()
        .find(|frame| is_event(frame, number))
        .unwrap()
}

/// The frame of CPU 0's first records, and what its records begin with.
fn records(frames: &mut [Vec<u8>]) -> &mut Vec<u8> {
    frames
        .iter_mut()
        .find(|frame| frame[0] == RECORDS && frame[8] == 0)
        .unwrap()
}

const BODY: usize = 8 + 16;

#[test]
fn what_the_kernel_wrote_is_attested() {
    let finding = verify(LOG, &quote(), &asked(SECOND_NONCE));
    assert_eq!(finding.verdict, Verdict::Attested, "{finding:?}");
    assert_eq!(
        (finding.last_event, finding.nonce_event),
        (Some(2), Some(2))
    );
    for cpu in &finding.streams[..2] {
        assert!(cpu.last > 140, "two runs with 70 exits each");
        assert_eq!((cpu.proved, cpu.unproved), (cpu.last, 0));
    }
    // Nobody has extended the boot's registers since, and the emulator has measured into two of them.
    let boot = finding.boot_registers.unwrap();
    assert_eq!(boot, quote().rtmr[..3]);
    assert!(boot[1..].iter().all(|register| *register != [0; 48]));
    let (early, report) = (early(), report(&early()));
    let early = verify(&early, &report, &asked(FIRST_NONCE));
    assert_eq!(
        (early.verdict, early.last_event),
        (Verdict::Attested, Some(1))
    );
    // The report of before proves of the whole log what was before.
    let part = verify(LOG, &report, &Policy::DEFAULT);
    assert_eq!(
        (part.verdict, part.last_event),
        (Verdict::Attested, Some(1))
    );
    assert_eq!(part.later_events, 1);
    assert_eq!(part.streams[0].proved, early.streams[0].proved);
    assert!(part.streams[0].unproved >= 70);
}

#[test]
fn frames_in_any_order_are_attested_and_missing_records_named() {
    let verdict = judge(|frames| frames.reverse()).verdict;
    assert_eq!(verdict, Verdict::Attested);
    let finding = judge(|frames| frames.retain(|f| !(f[0] == RECORDS && f[8] == 0)));
    assert_eq!(finding.verdict, Verdict::WithGaps);
    assert!(matches!(
        finding.gaps[0],
        Gap::Records {
            stream: 0,
            first: 1,
            ..
        }
    ));
    let finding = judge(|frames| frames.retain(|f| !(matches!(f[0], RECORDS | LEAF) && f[8] == 0)));
    assert_eq!(finding.verdict, Verdict::WithGaps);
    assert!(matches!(
        finding.gaps[0],
        Gap::Unproved {
            stream: 0,
            first: 1,
            ..
        }
    ));
}

/// A bit of each eleventh byte, each time another one.
#[test]
fn a_flipped_bit_is_found() {
    let (head, frames) = parts(LOG);
    let (good, evidence) = (verify(LOG, &quote(), &Policy::DEFAULT), quote());
    let mut at = head.len();
    for frame in &frames {
        // Reports and quotes are not what is verified here; where a leaf that is not needed belongs
        // does not matter.
        let is_part = matches!(frame[0], RECORDS | LEAF | EVENT);
        for offset in (0..frame.len()).step_by(11) {
            let mut bad = LOG.to_vec();
            bad[at + offset] ^= 1 << (offset % 8);
            let finding = verify(&bad, &evidence, &Policy::DEFAULT);
            if is_part && !(frame[0] == LEAF && (16..24).contains(&offset)) {
                let place = (frame[0], offset);
                assert_ne!(finding.verdict, Verdict::Attested, "{place:?}");
            } else if finding.verdict == Verdict::Attested {
                assert_eq!(finding, good);
            }
        }
        at += frame.len();
    }
}

#[test]
fn a_cut_file_is_not_whole() {
    let evidence = quote();
    let (_, frames) = parts(LOG);
    let end = LOG.len() - frames.last().unwrap().len();
    for len in (0..end).step_by(509) {
        let finding = verify(&LOG[..len], &evidence, &Policy::DEFAULT);
        assert_eq!(finding.verdict, Verdict::NotAttested, "{len}");
    }
}

#[test]
fn changed_exchanged_renumbered_and_moved_records_are_found() {
    let changed = refused(|frames| records(frames)[BODY + 40] ^= 1);
    let (stream, first) = (0, 1);
    assert_eq!(changed, Reason::Leaf { stream, first });
    // Without the leaf the chain tells.
    let changed = refused(|frames| {
        records(frames)[BODY + 40] ^= 1;
        frames.retain(|frame| frame[0] != LEAF);
    });
    assert!(matches!(changed, Reason::Chain { stream: 0, .. }));
    let exchanged = refused(|frames| {
        let body = records(frames);
        let (one, other) = body[BODY..].split_at_mut(64);
        one.swap_with_slice(&mut other[..64]);
    });
    let number = 1;
    let why = BadFile::Record { stream, number };
    assert_eq!(exchanged, Reason::File(why));
    // With each other's number they are in their places, and others than they were.
    let renumbered = refused(|frames| {
        let body = records(frames);
        let (one, other) = body[BODY..].split_at_mut(64);
        one[8..].swap_with_slice(&mut other[8..64]);
    });
    assert!(
        matches!(renumbered, Reason::Leaf { .. } | Reason::Record { .. }),
        "{renumbered:?}"
    );
    // Records of CPU 0 in place of those of CPU 1, as far as both have some.
    let moved = |gives_cpu: bool| {
        refused(|frames| {
            let others = records(frames)[BODY..].to_vec();
            let is_it = |frame: &&mut Vec<u8>| frame[0] == RECORDS && frame[8] == 1;
            let page = frames.iter_mut().find(is_it).unwrap();
            for (record, other) in page[BODY..]
                .chunks_exact_mut(64)
                .zip(others.chunks_exact(64))
            {
                record.copy_from_slice(other);
                if gives_cpu {
                    record[52] = 1;
                }
            }
            frames.retain(|frame| frame[0] != LEAF);
        })
    };
    let stream = 1;
    let why = BadFile::Record { stream, number };
    assert_eq!(moved(false), Reason::File(why));
    assert!(matches!(moved(true), Reason::Chain { stream: 1, .. }));
}

/// A page of CPU 0 under the numbers of the page before it.
#[test]
fn a_segment_in_place_of_another_is_found() {
    let replaced = |frames: &mut Vec<Vec<u8>>| {
        let (page, next) = records(frames)[BODY..].split_at_mut(63 * 64);
        for (record, other) in page.chunks_exact_mut(64).zip(next.chunks_exact(64)) {
            record[8..].copy_from_slice(&other[8..]);
        }
    };
    let (stream, first) = (0, 1);
    assert_eq!(refused(replaced), Reason::Leaf { stream, first });
    let number = 1;
    let without_leaves = refused(|frames| {
        replaced(frames);
        frames.retain(|frame| frame[0] != LEAF);
    });
    assert_eq!(without_leaves, Reason::Chain { stream, number });
}

#[test]
fn a_forged_leaf_is_found_where_its_records_are_gone() {
    let forged = refused(|frames| {
        frames.retain(|frame| !(frame[0] == RECORDS && frame[8] == 0));
        let is_it = |frame: &&mut Vec<u8>| frame[0] == LEAF && frame[8] == 0;
        frames.iter_mut().find(is_it).unwrap()[BODY] ^= 1;
    });
    let (stream, number) = (0, 1);
    assert_eq!(forged, Reason::Chain { stream, number });
}

/// Leaves of one segment for another one; one of no segment; and what is of no stream.
#[test]
fn what_is_no_part_of_the_log_is_found() {
    let swapped = refused(|frames| {
        frames.retain(|frame| !(frame[0] == RECORDS && frame[8] == 0));
        let of_cpu = |frame: &&mut Vec<u8>| frame[0] == LEAF && frame[8] == 0;
        let mut leaves = frames.iter_mut().filter(of_cpu);
        let (one, other) = (leaves.next().unwrap(), leaves.next().unwrap());
        one[BODY..].swap_with_slice(&mut other[BODY..]);
    });
    assert!(matches!(swapped, Reason::Chain { stream: 0, .. }));
    let (stream, first) = (0, 2);
    let more = refused(|frames| frames.extend(write::leaf(stream, first, 1, &[0; 32])));
    assert!(matches!(more, Reason::Leaf { stream: 0, .. }), "{more:?}");
    let stream = 7;
    let more = refused(|frames| {
        let record = crate::testing::record(1, stream);
        frames.extend(write::records(stream, 1, &[record]));
    });
    assert_eq!(more, Reason::NoStream { stream });
}

#[test]
fn changed_dropped_and_retold_events_are_found() {
    for number in 0..3 {
        for at in [24, 40, 256 + 8, 256 + 32] {
            let finding = judge(|frames| event(frames, number)[8 + at] ^= 1);
            let verdict = finding.verdict;
            assert_eq!(verdict, Verdict::NotAttested, "event {number}, byte {at}");
        }
    }
    let cut = |number| move |frames: &mut Vec<Vec<u8>>| frames.retain(|f| !is_event(f, number));
    assert_eq!(refused(cut(1)), Reason::Missing { number: 1 });
    assert_eq!(refused(cut(2)), Reason::Register);
    assert_eq!(judge(cut(0)).verdict, Verdict::SuffixOnly);
    // Told again, with another time.
    assert_eq!(
        refused(|frames| event(frames, 2)[8 + 32] ^= 1),
        Reason::Register
    );
}

#[test]
fn an_event_that_root_makes_up_is_found() {
    let contents = contents(LOG);
    let last = contents.events.last().unwrap();
    let register = hash::extend(&last.seen, &last.digest());
    for reveal in [[0; 32], last.reveal] {
        let mut made_up = last.bytes.to_vec();
        made_up[16] = 3;
        made_up[64..112].copy_from_slice(&register);
        made_up[112..160].copy_from_slice(&register);
        made_up[160..192].copy_from_slice(&reveal);
        // Root has extended the register by it.
        let mut evidence = quote();
        evidence.rtmr[3] = hash::extend(&register, &hash::digest(&made_up));
        let file = [LOG, &write::frame(Frame::Event, &made_up).unwrap()].concat();
        let finding = verify(&file, &evidence, &Policy::DEFAULT);
        assert_eq!(reason(&finding), Reason::Reveal { number: 3 });
    }
}

#[test]
fn a_second_copy_that_differs_is_found() {
    let twice = |which: u8, at: usize| {
        refused(|frames| {
            let is_it = |frame: &&Vec<u8>| frame[0] == which;
            let mut copy = frames.iter().find(is_it).unwrap().clone();
            copy[at] ^= 1;
            frames.push(copy);
        })
    };
    assert!(matches!(
        twice(RECORDS, BODY + 40),
        Reason::File(BadFile::TwoRecords { .. })
    ));
    assert!(matches!(
        twice(LEAF, BODY),
        Reason::File(BadFile::TwoLeaves { .. })
    ));
    let number = 0;
    assert_eq!(
        twice(EVENT, 8 + 24),
        Reason::File(BadFile::TwoEvents { number })
    );
}

#[test]
fn wrong_nonces_old_logs_and_other_evidence_are_refused() {
    let policy = asked([0x33; 32]);
    assert_eq!(reason(&verify(LOG, &quote(), &policy)), Reason::Nonce);
    // The first nonce is in the log, and the quote was not made for it.
    let first = verify(LOG, &quote(), &asked(FIRST_NONCE));
    assert_eq!(reason(&first), Reason::ReportData);
    let session = contents(LOG).events[0].session;
    let known = Policy {
        at_least: Some((session, 2)),
        ..Policy::DEFAULT
    };
    let rolled_back = verify(&early(), &report(&early()), &known);
    assert_eq!(reason(&rolled_back), Reason::Older { number: 1 });
    assert_eq!(verify(LOG, &quote(), &known).verdict, Verdict::Attested);
    let other = verify(LOG, &report(&second()), &Policy::DEFAULT);
    assert_eq!(reason(&other), Reason::Register);
}

#[test]
fn what_another_trust_domain_reports_proves_nothing() {
    let own = verify(OTHER, &report(OTHER), &asked([0x44; 32]));
    assert_eq!(own.verdict, Verdict::Attested, "{own:?}");
    let finding = verify(LOG, &report(OTHER), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::Register);
    let finding = verify(OTHER, &quote(), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::Register);
    let (head, frames) = parts(OTHER);
    let both = [LOG, &frames.concat()].concat();
    for evidence in [quote(), report(OTHER)] {
        let finding = verify(&both, &evidence, &Policy::DEFAULT);
        assert!(matches!(
            reason(&finding),
            Reason::File(BadFile::TwoRecords { .. } | BadFile::TwoSessions)
        ));
    }
    // With the events of one and the records of the other.
    let events = parts(LOG).1.into_iter().filter(|frame| frame[0] == EVENT);
    let rest = frames.into_iter().filter(|frame| frame[0] != EVENT);
    let spliced = [head, events.chain(rest).flatten().collect()].concat();
    let finding = verify(&spliced, &quote(), &Policy::DEFAULT);
    reason(&finding);
}

#[test]
fn the_second_load_of_the_module_is_not_the_first() {
    let (log, evidence) = (second(), report(&second()));
    let finding = verify(&log, &evidence, &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::OpenRegister);
    let both = [LOG, &parts(&log).1.concat()].concat();
    let finding = verify(&both, &evidence, &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::File(BadFile::TwoSessions));
    // The register went on from the first log by CLOSE, which nobody could read any more.
    let (first, second) = (contents(LOG), contents(&log));
    let last = first.events.last().unwrap();
    let open_register = second.events[0].seen;
    assert_ne!(open_register, hash::extend(&last.seen, &last.digest()));
    let policy = Policy {
        open_register,
        ..asked(FIRST_NONCE)
    };
    let finding = verify(&log, &evidence, &policy);
    assert_eq!(finding.verdict, Verdict::Attested, "{finding:?}");
}

#[test]
fn an_extend_through_sysfs_ends_the_log() {
    let open_register = contents(FOREIGN).events[0].seen;
    let policy = Policy {
        open_register,
        ..Policy::DEFAULT
    };
    let finding = verify(FOREIGN, &report(FOREIGN), &policy);
    assert_eq!(reason(&finding), Reason::Foreign { number: 2 });
    // A log that does not tell of it.
    let finding = verify(&second(), &report(FOREIGN), &policy);
    assert_eq!(reason(&finding), Reason::Register);
    // What was reported before stays proved.
    let finding = verify(FOREIGN, &report(&second()), &policy);
    assert_eq!(
        (finding.verdict, finding.last_event),
        (Verdict::Attested, Some(1))
    );
}
