// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Records and leaves that an attacker has touched.

use super::*;
use crate::testing::record;

/// Every bit, of everything but the text of the head, which nothing vouches for, and of where a
/// leaf that is not needed belongs.
#[test]
fn a_flipped_bit_anywhere_is_found() {
    let mut module = Module::load(&[0, CONTROL]);
    module.run(3);
    module.checkpoint(None);
    let (good, evidence) = (module.file(), evidence(&module));
    let original = verify(&good, &evidence, &Policy::DEFAULT);
    assert_eq!(original.verdict, Verdict::Attested);
    let text = 24..24 + br#"{"host":"test"}"#.len();
    let mut first_of_leaf = Vec::new();
    let mut at = module.head().len();
    for frame in module.frames() {
        if frame[0] == LEAF {
            first_of_leaf.extend(at + 16..at + 24);
        }
        at += frame.len();
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let finding = verify(&bad, &evidence, &Policy::DEFAULT);
            if text.contains(&at) || first_of_leaf.contains(&at) {
                let is_same = finding == original;
                assert!(
                    is_same || finding.verdict == Verdict::NotAttested,
                    "byte {at}"
                );
            } else {
                assert_ne!(finding.verdict, Verdict::Attested, "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_not_whole() {
    let module = module();
    let (good, evidence) = (module.file(), evidence(&module));
    for len in (0..good.len()).step_by(7) {
        let finding = verify(&good[..len], &evidence, &Policy::DEFAULT);
        assert_eq!(finding.verdict, Verdict::NotAttested, "{len}");
    }
    // Events first: what is cut off then are records.
    let mut frames = module.frames();
    frames.reverse();
    let good = file(&module, &frames);
    for cut in [1, 8, 64, 1000] {
        let finding = verify(&good[..good.len() - cut], &evidence, &Policy::DEFAULT);
        assert_eq!(finding.verdict, Verdict::WithGaps, "{cut}");
        assert!(matches!(finding.gaps[0], Gap::Tail { .. }), "{finding:?}");
    }
}

#[test]
fn a_changed_record_is_found_with_and_without_its_leaf() {
    let module = module();
    let which = (RECORDS, 0, 64);
    let change = |frame: &mut Vec<u8>| frame[8 + 16 + 40] ^= 1;
    let frames = changed(&module, which, change);
    let (stream, first) = (0, 64);
    let refused = reason(&judge_frames(&module, &frames));
    assert_eq!(refused, Reason::Leaf { stream, first });
    let mut frames = frames;
    frames.retain(|frame| key(frame).0 != LEAF);
    let refused = reason(&judge_frames(&module, &frames));
    assert_eq!(refused, Reason::Chain { stream, number: 1 });
}

#[test]
fn a_forged_leaf_is_found_where_its_records_are_gone() {
    let module = module();
    let mut frames = changed(&module, (LEAF, 0, 64), |frame| frame[8 + 16] ^= 1);
    frames.retain(|frame| key(frame) != (RECORDS, 0, 64));
    let (stream, number) = (0, 1);
    let refused = reason(&judge_frames(&module, &frames));
    assert_eq!(refused, Reason::Chain { stream, number });
}

#[test]
fn segments_that_are_exchanged_or_renumbered_are_found() {
    let module = module();
    let frames = module.frames();
    // The records of one page under the numbers of another; their own numbers say so.
    let page = frames
        .iter()
        .find(|frame| key(frame) == (RECORDS, 0, 64))
        .unwrap();
    let mut moved = changed(&module, (RECORDS, 0, 128), |frame| {
        frame.splice(24.., page[24..].iter().copied());
    });
    let refused = reason(&judge_frames(&module, &moved));
    let (stream, number) = (0, 128);
    assert_eq!(refused, Reason::File(BadFile::Record { stream, number }));
    // Renumbered, they are other records.
    let place = moved
        .iter()
        .position(|frame| key(frame) == (RECORDS, 0, 128))
        .unwrap();
    for (record, number) in moved[place][24..].chunks_exact_mut(64).zip(128u64..) {
        record[..8].copy_from_slice(&number.to_le_bytes());
    }
    let first = 128;
    let refused = reason(&judge_frames(&module, &moved));
    assert_eq!(refused, Reason::Leaf { stream, first });
    moved.retain(|frame| key(frame).0 != LEAF);
    let refused = reason(&judge_frames(&module, &moved));
    assert_eq!(refused, Reason::Chain { stream, number: 2 });
}

#[test]
fn records_that_are_moved_to_another_cpu_are_found() {
    let mut module = Module::load(&STREAMS);
    // On each CPU the guest is somewhere else.
    module.run_with(&mut |record| record[41] = 1 + record[52], 230);
    module.checkpoint(None);
    let moved = |gives_cpu: bool| {
        let mut frames = without(&module, |key| key == (RECORDS, 1, 64));
        let page = changed(&module, (RECORDS, 0, 64), |frame| {
            frame[8] = 1;
            for record in frame[24..].chunks_exact_mut(64) {
                record[52] = u8::from(gives_cpu);
            }
        });
        // The first one: the other is the page that was left out.
        frames.extend(
            page.into_iter()
                .find(|frame| key(frame) == (RECORDS, 1, 64)),
        );
        frames.retain(|frame| key(frame).0 != LEAF);
        frames
    };
    let (stream, number) = (1, 64);
    let refused = reason(&judge_frames(&module, &moved(false)));
    assert_eq!(refused, Reason::File(BadFile::Record { stream, number }));
    let refused = reason(&judge_frames(&module, &moved(true)));
    assert_eq!(refused, Reason::Chain { stream, number: 1 });
}

#[test]
fn a_record_more_of_a_stream_that_is_none_is_found() {
    let module = module();
    let mut frames = module.frames();
    let record = record(1, 7);
    frames.extend(write::records(7, 1, &[record]));
    let refused = reason(&judge_frames(&module, &frames));
    assert_eq!(refused, Reason::NoStream { stream: 7 });
    let mut frames = module.frames();
    frames.extend(write::leaf(7, 1, 1, &[0; 32]));
    let refused = reason(&judge_frames(&module, &frames));
    assert_eq!(refused, Reason::NoStream { stream: 7 });
}

#[test]
fn a_second_copy_that_differs_is_found() {
    let module = module();
    let differs = |kind: u8, first: u64, at: usize| {
        let mut frames = module.frames();
        let which = |frame: &&Vec<u8>| match kind {
            EVENT => frame[0] == EVENT && u64::from(frame[24]) == first,
            _ => key(frame) == (kind, 0, first),
        };
        let mut copy = frames.iter().find(which).unwrap().clone();
        copy[at] ^= 1;
        frames.push(copy);
        reason(&judge_frames(&module, &frames))
    };
    let (stream, number, first) = (0, 65, 64);
    let twice = Reason::File(BadFile::TwoRecords { stream, number });
    assert_eq!(differs(RECORDS, 64, 24 + 64 + 40), twice);
    let twice = Reason::File(BadFile::TwoLeaves { stream, first });
    assert_eq!(differs(LEAF, 64, 24), twice);
    let twice = Reason::File(BadFile::TwoEvents { number: 1 });
    assert_eq!(differs(EVENT, 1, 8 + 24), twice);
}

#[test]
fn a_record_that_the_kernel_wrote_and_makes_no_sense_is_told() {
    let mut module = Module::load(&[0]);
    module.run_with(&mut |record| record[54] = 9, 1);
    module.checkpoint(None);
    let finding = verify(&module.file(), &evidence(&module), &Policy::DEFAULT);
    let why = crate::Contradiction::Vm(9);
    let (stream, number) = (0, 1);
    assert_eq!(
        reason(&finding),
        Reason::Record {
            stream,
            number,
            why
        }
    );
}

#[test]
fn a_record_of_the_control_plane_that_makes_no_sense_is_told() {
    let mut module = Module::load(&[CONTROL]);
    module.run_with(&mut |record| record[60] = 1, 1);
    module.checkpoint(None);
    let finding = verify(&module.file(), &evidence(&module), &Policy::DEFAULT);
    let why = crate::Contradiction::Reserved;
    let (stream, number) = (CONTROL, 1);
    assert_eq!(
        reason(&finding),
        Reason::Record {
            stream,
            number,
            why
        }
    );
}
