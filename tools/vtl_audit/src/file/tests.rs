// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of `file.rs`: forms. What a whole file proves is tested in `verify/tests.rs`.

use super::*;
use crate::testing::{Module, record};
use proptest::prelude::*;

fn head() -> Vec<u8> {
    write::head(b"{}").unwrap()
}

fn bad(frames: &[u8]) -> BadFile {
    Contents::read(&[&head(), frames].concat()).unwrap_err()
}

#[test]
fn what_is_written_is_read_again() {
    let records = [record(5, 2), record(6, 2)];
    let file = [
        head(),
        write::records(2, 5, &records).unwrap(),
        write::leaf(2, 5, 2, &[9; 32]).unwrap(),
        write::frame(Frame::Report, &[1; 1024]).unwrap(),
        write::frame(Frame::Quote, b"quote").unwrap(),
        write::frame(Frame::BootLog, b"log").unwrap(),
        write::frame(Frame::Event, &Module::load(&[0]).events()[0]).unwrap(),
    ]
    .concat();
    let contents = Contents::read(&file).unwrap();
    assert_eq!((contents.identity, contents.odd_bytes), (&b"{}"[..], 0));
    let read = contents.records(2, 0, 100);
    assert_eq!(read.len(), 2);
    assert_eq!((read[1].number, read[1].bytes), (6, records[1].as_slice()));
    assert_eq!(contents.records(2, 6, 6).len(), 0);
    assert_eq!(contents.records(3, 0, 100).len(), 0);
    assert_eq!(contents.leaf(2, 5).unwrap().hash, [9; 32]);
    assert_eq!((contents.last_record(2), contents.last_leaf(2)), (6, 5));
    assert_eq!((contents.last_record(3), contents.last_leaf(3)), (0, 0));
    assert_eq!(
        (contents.quotes[0], contents.boot_logs[0]),
        (&b"quote"[..], &b"log"[..])
    );
    assert_eq!((contents.reports.len(), contents.events.len()), (1, 1));
}

#[test]
fn frames_that_are_none_are_told_with_their_place() {
    let at = head().len();
    let frame = |kind: u32, body: &[u8]| {
        let len = u32::try_from(body.len()).unwrap();
        let mut frame = [kind.to_le_bytes(), len.to_le_bytes()].concat();
        frame.extend(body);
        frame.resize(frame.len().next_multiple_of(8), 0);
        frame
    };
    for kind in [0, 7, u32::MAX] {
        let frames = [frame(kind, &[]), frame(5, b"quote")].concat();
        assert_eq!(bad(&frames), BadFile::Frame { at, kind });
    }
    let place = |stream: u32, count: u32, first: u64| {
        let mut place = [stream.to_le_bytes(), count.to_le_bytes()].concat();
        place.extend(first.to_le_bytes());
        place
    };
    let form = BadFile::Form { at };
    for body in [
        vec![],
        place(0, 0, 1),
        place(0, 1, 0),
        place(0, 1, 1),
        place(0, u32::MAX, 1),
        place(0x1_0000, 1, 1),
        [place(0, 1, u64::MAX), record(u64::MAX, 0).to_vec()].concat(),
        [place(0, 1, 1), vec![0; 63]].concat(),
    ] {
        assert_eq!(bad(&frame(1, &body)), form, "{body:x?}");
    }
    for body in [
        [place(0, 64, 1), vec![0; 32]].concat(),
        [place(0, 2, 127), vec![0; 32]].concat(),
        [place(0, 1, 1), vec![0; 31]].concat(),
        [place(0, 1, 1), vec![0; 40]].concat(),
    ] {
        assert_eq!(bad(&frame(3, &body)), form, "{body:x?}");
    }
    let mut padded = frame(5, b"quote");
    *padded.last_mut().unwrap() = 1;
    assert_eq!(bad(&padded), form);
    assert!(matches!(bad(&frame(2, b"VTLATEVT")), BadFile::Event { .. }));
}

#[test]
fn a_frame_that_the_file_ends_in_is_odd_bytes() {
    let frame = write::records(0, 1, &[record(1, 0)]).unwrap();
    for len in 1..frame.len() {
        let file = [&head(), &frame, &frame[..len]].concat();
        assert_eq!(Contents::read(&file).unwrap().odd_bytes, len);
        assert_eq!(whole(&file), Ok(head().len() + frame.len()), "{len}");
    }
}

/// What a machine that lost its power may leave.
#[test]
fn zeros_that_a_file_ends_in_are_odd_bytes() {
    let frame = write::records(0, 1, &[record(1, 0)]).unwrap();
    let good = [head(), frame].concat();
    for len in 1..40 {
        let file = [good.as_slice(), &vec![0; len]].concat();
        assert_eq!(Contents::read(&file).unwrap().odd_bytes, len);
        assert_eq!(whole(&file), Ok(good.len()), "{len}");
    }
    // With something after them they are no end.
    let file = [good.as_slice(), &[0; 16], &[1]].concat();
    let (at, kind) = (good.len(), 0);
    assert_eq!(
        Contents::read(&file).unwrap_err(),
        BadFile::Frame { at, kind }
    );
}

#[test]
fn heads_that_are_none_are_refused() {
    let good = head();
    for len in 0..good.len() {
        assert!(Contents::read(&good[..len]).is_err(), "{len}");
        assert!(whole(&good[..len]).is_err(), "{len}");
    }
    let with = |at: usize, byte: u8| {
        let mut head = good.clone();
        head[at] = byte;
        Contents::read(&head).err()
    };
    assert_eq!(with(0, 0), Some(BadFile::Magic));
    assert_eq!(with(8, 2), Some(BadFile::Version(2)));
    for (at, byte) in [(12, 65), (17, 0x11), (19, 0xff), (20, 1), (26, 1), (31, 1)] {
        assert_eq!(with(at, byte), Some(BadFile::Head), "byte {at}");
    }
    assert_eq!(write::head(&[b' '; 4097]), None);
}

proptest! {
    #[test]
    fn no_content_makes_it_panic(junk: Vec<u8>, kind in 0u32..8, len: u16) {
        let _ = Contents::read(&junk);
        let frame = [kind.to_le_bytes(), u32::from(len).to_le_bytes()].concat();
        let _ = Contents::read(&[head(), frame, junk].concat());
    }
}
