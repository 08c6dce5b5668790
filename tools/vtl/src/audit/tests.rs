// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of [`super`], with anonymous memory in place of the kernel's ring.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use super::*;
use crate::Status;
use crate::sys::Mapping;

const RECORDS: u64 = 64;

fn ring() -> Result<Ring, Errno> {
    let slots = Slots {
        mapping: Mapping::anonymous(4096)?,
        count: RECORDS,
    };
    Ok(Ring { slots })
}

/// Stores a word as the kernel does.
fn store(slots: &Slots, slot: u64, index: usize, value: u64) {
    let offset = slot as usize * RECORD_LEN + index * 8;
    slots
        .mapping
        .word::<AtomicU64>(offset)
        .store(value, Ordering::Relaxed);
}

/// A record whose words all follow from its number.
fn record(sequence: u64) -> Record {
    Record {
        sequence,
        entry_tsc: sequence * 100,
        cycles: sequence * 3,
        status: Status::from_raw(10),
        qualification: sequence ^ 0x5555,
        rip: sequence << 20,
        thread: sequence as u32,
        vp: 3,
        vm: 1,
        entry_reason: EntryReason::After(ExitKind(97)),
        exit_kind: ExitKind(10),
        flags: 1,
    }
}

fn write(slots: &Slots, sequence: u64) {
    let slot = sequence % RECORDS;
    store(slots, slot, 0, 0);
    fence(Ordering::Release);
    for (index, word) in record(sequence).to_words().into_iter().enumerate().skip(1) {
        store(slots, slot, index, word);
    }
    fence(Ordering::Release);
    store(slots, slot, 0, sequence);
}

#[test]
fn words_and_records_are_the_same() {
    let words = record(0x1234).to_words();
    assert_eq!(Record::from_words(words), record(0x1234));
    assert_eq!(words[6] >> 32, 0x6201_0003, "reason, VM, VP");
    assert_eq!(words[7], 0x10a);
}

#[test]
fn records_are_found_by_their_number() -> Result<(), Errno> {
    let ring = ring()?;
    assert_eq!(ring.newest(), 0);
    assert_eq!(ring.read(1), Found::NotYet);
    for sequence in 1..=70 {
        write(&ring.slots, sequence);
    }
    assert_eq!(ring.newest(), 70);
    assert_eq!(ring.read(70), Found::Record(record(70)));
    assert_eq!(ring.read(7), Found::Record(record(7)));
    assert_eq!(ring.read(6), Found::Overwritten);
    assert_eq!(ring.read(71), Found::NotYet);
    Ok(())
}

#[test]
fn a_record_that_is_never_finished_is_not_there() -> Result<(), Errno> {
    let ring = ring()?;
    for sequence in 1..=64 {
        write(&ring.slots, sequence);
    }
    store(&ring.slots, 65 % RECORDS, 0, 0);
    assert_eq!(ring.read(65), Found::NotYet);
    assert_eq!(ring.read(1), Found::NotYet);
    Ok(())
}

#[test]
fn a_record_being_written_is_not_the_record_of_switch_zero() -> Result<(), Errno> {
    let ring = ring()?;
    for sequence in 1..=64 {
        write(&ring.slots, sequence);
    }
    store(&ring.slots, 0, 0, 0);
    assert_eq!(ring.read(0), Found::NotYet);
    assert_eq!(ring.read(64), Found::NotYet);
    Ok(())
}

#[test]
fn nothing_is_missed_that_could_still_be_read() -> Result<(), Errno> {
    let ring = ring()?;
    for sequence in 1..=10 {
        write(&ring.slots, sequence);
    }
    let mut follower = Follower::from_oldest(ring);
    for sequence in 1..=10 {
        assert_eq!(follower.step(), Some(Step::Record(record(sequence))));
    }
    assert_eq!(follower.step(), None);
    for sequence in 11..=200 {
        write(&follower.0.slots, sequence);
    }
    // 137 is the oldest one there.
    assert_eq!(follower.step(), Some(Step::Missed(137 - 11)));
    for sequence in 137..=200 {
        assert_eq!(follower.step(), Some(Step::Record(record(sequence))));
    }
    assert_eq!(follower.step(), None);
    Ok(())
}

#[test]
fn a_follower_that_is_overrun_twice_takes_some_room() -> Result<(), Errno> {
    let mut follower = Follower::from_oldest(ring()?);
    for sequence in 1..=100 {
        write(&follower.0.slots, sequence);
    }
    assert_eq!(follower.step(), Some(Step::Missed(36)));
    for sequence in 101..=200 {
        write(&follower.0.slots, sequence);
    }
    // 137 is the oldest one there; eight more are left out, so that it gets ahead of the writer.
    assert_eq!(follower.step(), Some(Step::Missed(145 - 37)));
    assert_eq!(follower.step(), Some(Step::Record(record(145))));
    write(&follower.0.slots, 201);
    for sequence in 202..=300 {
        write(&follower.0.slots, sequence);
    }
    // Once it has read one, it begins anew with the oldest.
    assert_eq!(follower.step(), Some(Step::Missed(237 - 146)));
    Ok(())
}

#[test]
fn a_follower_can_begin_now() -> Result<(), Errno> {
    let ring = ring()?;
    write(&ring.slots, 1);
    let mut follower = Follower::from_now(ring);
    assert_eq!(follower.step(), None);
    write(&follower.0.slots, 2);
    assert_eq!(follower.step(), Some(Step::Record(record(2))));
    Ok(())
}

#[test]
fn no_torn_record_is_taken_for_whole() -> Result<(), Errno> {
    const LAST: u64 = 200_000;
    let ring = ring()?;
    let is_done = AtomicBool::new(false);
    let mut whole = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for sequence in 1..=LAST {
                write(&ring.slots, sequence);
            }
            is_done.store(true, Ordering::Release);
        });
        while !is_done.load(Ordering::Acquire) {
            let newest = ring.newest();
            for sequence in newest.saturating_sub(RECORDS)..newest + 2 {
                if let Found::Record(found) = ring.read(sequence) {
                    assert_eq!(found, record(sequence));
                    whole += 1;
                }
            }
        }
    });
    assert_eq!(ring.read(LAST), Found::Record(record(LAST)));
    // On one CPU the writer may be done before the reader begins.
    println!("{whole} records read while they were written");
    Ok(())
}
