// SPDX-License-Identifier: GPL-2.0
//! Tests of `attest.rs`.

use super::*;

const PARAMETERS: Parameters = Parameters {
    register: 3,
    interval_s: 10,
    batch_pages: 4,
    leaves: 4096,
};

#[test]
fn only_registers_of_the_os_and_whole_rings_are_taken() {
    let with = |change: fn(&mut Parameters)| {
        let mut parameters = PARAMETERS;
        change(&mut parameters);
        parameters.are_valid()
    };
    assert!(with(|_| ()));
    assert!(with(|p| p.register = 2));
    assert!(!with(|p| p.register = 1));
    assert!(!with(|p| p.register = 4));
    assert!(with(|p| p.interval_s = 0));
    assert!(with(|p| p.interval_s = 86_400));
    assert!(!with(|p| p.interval_s = 86_401));
    assert!(!with(|p| p.batch_pages = 0));
    assert!(with(|p| p.batch_pages = 1024));
    assert!(!with(|p| p.batch_pages = 1025));
    assert!(with(|p| p.leaves = 64));
    assert!(!with(|p| p.leaves = 32));
    assert!(!with(|p| p.leaves = 4095));
    assert!(!with(|p| p.leaves = 1 << 17));
    assert_eq!([0, 1, 2].map(Mode::new), {
        [Some(Mode::Off), Some(Mode::Try), Some(Mode::Require)]
    });
    assert_eq!([3, u32::MAX].map(Mode::new), [None; 2]);
    let numbers = [Mode::Off, Mode::Try, Mode::Require].map(Mode::number);
    assert_eq!(numbers, [0, 1, 2]);
}

/// The segments that are cut when `newest` are written, as (first, count).
fn cut(stream: &mut Stream, newest: u64, cut: Cut) -> Vec<(u64, u32)> {
    let mut all = Vec::new();
    while let Some(segment) = stream.segment(newest, cut) {
        stream.advance(segment, [0; 32]);
        all.push((segment.first, segment.count));
    }
    all
}

#[test]
fn segments_end_with_their_page_or_with_the_checkpoint() {
    let mut stream = Stream::new(7);
    assert_eq!(cut(&mut stream, 0, Cut::Newest), []);
    assert_eq!(cut(&mut stream, 62, Cut::Pages), []);
    assert_eq!(cut(&mut stream, 63, Cut::Pages), [(1, 63)]);
    assert_eq!(cut(&mut stream, 63, Cut::Newest), []);
    assert_eq!(cut(&mut stream, 64, Cut::Newest), [(64, 1)]);
    assert_eq!(
        cut(&mut stream, 300, Cut::Pages),
        [(65, 63), (128, 64), (192, 64)]
    );
    assert_eq!(cut(&mut stream, 300, Cut::Newest), [(256, 45)]);
    assert_eq!((stream.next, stream.segments), (301, 6));
    // Numbers do not end; nobody comes so far.
    stream.next = u64::MAX - 3;
    assert_eq!(stream.segment(u64::MAX - 5, Cut::Newest), None);
    let last = stream.segment(u64::MAX - 1, Cut::Newest);
    assert_eq!(last.map(|segment| segment.count), Some(3));
}

/// A small generator of numbers.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(0x5851_f42d_4c95_7f2d)
        .wrapping_add(0x1405_7b7e_f767_814f);
    *state >> 33
}

#[test]
fn a_writer_goes_on_and_never_overwrites_what_is_not_hashed() {
    for (records, batch) in [(64, 1), (64, 1024), (128, 1), (1024, 4), (1 << 16, 1024)] {
        let mut state = u64::from(records) + u64::from(batch);
        let mut stream = Stream::new(0);
        let mut hashed = 0;
        let mut count = 0;
        let mut limit = stream.limit(count, records, batch);
        for _ in 0..20_000 {
            if count == limit {
                hashed += cut(&mut stream, count, Cut::Pages).len() as u64;
                limit = stream.limit(count, records, batch);
                assert!(limit > count, "the writer would wait for ever");
                assert!(limit - count <= u64::from(batch) * 64);
            }
            count += 1;
            // Overwrites this one.
            let old = count.saturating_sub(u64::from(records));
            assert!(old < stream.next, "{old} is lost");
            if random(&mut state) % 100 == 0 {
                hashed += cut(&mut stream, count, Cut::Newest).len() as u64;
                assert_eq!(stream.next, count + 1);
            }
        }
        assert_eq!(stream.segments, hashed);
    }
}

#[test]
fn a_limit_is_reached_even_if_a_checkpoint_came_just_before() {
    let mut stream = Stream::new(0);
    assert_eq!(stream.limit(0, 64, 4), 64);
    cut(&mut stream, 64, Cut::Newest);
    // The 65th record is alone on its page and not hashed; 64 records more and it would be lost.
    assert_eq!(stream.limit(64, 64, 4), 128);
    assert_eq!(stream.limit(64, 64, 1), 128);
    assert_eq!(stream.limit(64, 1024, 1), 128);
    assert_eq!(
        stream.limit(u64::MAX - 1, 1 << 16, 1024),
        65 + (1 << 16) - 1
    );
}

#[test]
fn a_link_is_what_the_format_says() {
    let mut stream = Stream::new(0x0102_0304);
    stream.chain = core::array::from_fn(|at| 0x40 + at as u8);
    let segment = Segment {
        first: 0x1112_1314_1516_1718,
        count: 0x21,
    };
    let leaf = [0x99; 32];
    let link = stream.link(segment, &leaf);
    assert_eq!(&link[..16], b"VTLAUDIT-CHAIN\0\0");
    assert_eq!(link[16..20], [4, 3, 2, 1]);
    assert_eq!(link[20..24], [0x21, 0, 0, 0]);
    assert_eq!(
        link[24..32],
        [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]
    );
    assert_eq!(link[32..64], stream.chain);
    assert_eq!(link[64..], leaf);

    let words = segment.leaf_words(0x0506, &core::array::from_fn(|at| at as u8));
    assert_eq!(words[..3], [segment.first, 0x0506_0000_0021, 0]);
    assert_eq!(words[3], 0x0706_0504_0302_0100);
    assert_eq!(words[6], 0x1f1e_1d1c_1b1a_1918);
}

#[test]
fn a_commitment_is_to_the_tag_and_the_secret() {
    let input = commitment(&[0x5a; 32]);
    assert_eq!(&input[..16], b"VTLAUDIT-COMMIT\0");
    assert_eq!(input[16..], [0x5a; 32]);
}

#[test]
fn a_register_is_extended_by_what_follows_it() {
    let input = extended(&[1; 48], &[2; 48]);
    assert_eq!(input[..48], [1; 48]);
    assert_eq!(input[48..], [2; 48]);
}

#[test]
fn events_are_kept_but_take_no_more_than_some_megabytes() {
    assert_eq!(kept_events(2), 4096);
    assert_eq!(kept_events(12), 4096);
    assert_eq!(kept_events(13), 3855);
    assert_eq!(kept_events(512), 127);
    assert_eq!(kept_events(u32::MAX), 16);
}

#[test]
fn a_busy_operand_is_asked_for_again_but_not_for_ever() {
    assert_eq!(step(Answer::Done, 1), Step::Go);
    assert_eq!(step(Answer::Done, u32::MAX), Step::Go);
    assert_eq!(step(Answer::Refused, 1), Step::Break);
    let mut waited_us = 0;
    for attempt in 1..ATTEMPTS {
        match step(Answer::Busy, attempt) {
            Step::Again { wait_us } => waited_us += wait_us,
            other => panic!("{attempt}: {other:?}"),
        }
    }
    assert!((1_000_000..2_000_000).contains(&waited_us), "{waited_us}");
    assert_eq!(step(Answer::Busy, ATTEMPTS), Step::Break);
    assert_eq!(step(Answer::Busy, u32::MAX), Step::Break);
}

#[test]
fn what_is_broken_or_closed_stays_so() {
    let reasons = [
        Reason::Open,
        Reason::Interval,
        Reason::Asked([0; 32]),
        Reason::Close,
    ];
    let taken = |state: State| reasons.map(|reason| state.takes(reason));
    assert_eq!(taken(State::Opening), [true, false, false, false]);
    assert_eq!(taken(State::Open), [false, true, true, true]);
    assert_eq!(taken(State::Broken), [false; 4]);
    assert_eq!(taken(State::Closed), [false; 4]);
    let [open, interval, asked, close] = reasons;
    for reason in [open, interval, asked] {
        assert_eq!(State::Open.after(reason, false), State::Open);
    }
    assert_eq!(State::Open.after(close, false), State::Closed);
    for reason in reasons {
        assert_eq!(State::Open.after(reason, true), State::Broken);
    }
}

#[test]
fn only_where_it_is_required_a_break_stops_the_lower_vtls() {
    use State::{Broken, Closed, Open, Opening};
    for state in [Opening, Open, Broken, Closed] {
        assert!(!state.refuses(Mode::Off));
        assert!(!state.refuses(Mode::Try));
        assert_eq!(state.refuses(Mode::Require), state == Broken);
    }
    assert_eq!(
        [Opening, Open, Broken, Closed].map(State::number),
        [0, 1, 2, 3]
    );
}
