// SPDX-License-Identifier: GPL-2.0
//! Tests of `attest_event.rs`: each field at the offset that Documentation/audit-format.rst gives.

use super::*;

const EVENT: Event = Event {
    reason: Reason::Interval,
    streams: 0x0102,
    number: 0x1112,
    boot_ns: 0x2122,
    tsc: 0x3132,
    session: [0x41; 16],
    register: 3,
    replayed: [0x51; 48],
    seen: [0x51; 48],
    reveal: [0x61; 32],
    commit: [0x71; 32],
};

#[test]
fn an_event_is_what_the_format_says() {
    let bytes = EVENT.bytes();
    assert_eq!(&bytes[..8], b"VTLATEVT");
    assert_eq!(bytes[8..16], [1, 0, 2, 0, 2, 1, 0, 0]);
    assert_eq!(bytes[16..24], [0x12, 0x11, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[24..32], [0x22, 0x21, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[32..40], [0x32, 0x31, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..56], [0x41; 16]);
    assert_eq!(bytes[56..64], [0, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(bytes[64..160], [0x51; 96]);
    assert_eq!(bytes[160..192], [0x61; 32]);
    assert_eq!(bytes[192..224], [0x71; 32]);
    assert_eq!(bytes[224..], [0; 32]);
}

/// Kind, flags, commitment and nonce of an event for this reason.
fn of(reason: Reason, seen: Digest) -> (u8, u8, u8, u8) {
    let event = Event {
        reason,
        seen,
        ..EVENT
    };
    let bytes = event.bytes();
    assert_eq!(bytes[11], 0);
    assert_eq!(bytes[57..60], [0; 3]);
    assert_eq!(event.is_last(), bytes[56] & 4 != 0);
    (bytes[10], bytes[56], bytes[223], bytes[255])
}

#[test]
fn kind_and_flags_tell_why_it_was_made_and_whether_another_follows() {
    let same = EVENT.replayed;
    assert_eq!(of(Reason::Open, same), (1, 0, 0x71, 0));
    assert_eq!(of(Reason::Interval, same), (2, 0, 0x71, 0));
    assert_eq!(of(Reason::Asked([0x81; 32]), same), (2, 1, 0x71, 0x81));
    assert_eq!(of(Reason::Close, same), (3, 4, 0, 0));
}

#[test]
fn a_register_that_somebody_else_has_extended_ends_the_log() {
    let mut other = EVENT.replayed;
    other[47] ^= 1;
    assert_eq!(of(Reason::Interval, other), (2, 6, 0, 0));
    assert_eq!(of(Reason::Asked([0x81; 32]), other), (2, 7, 0, 0x81));
    assert_eq!(of(Reason::Close, other), (3, 6, 0, 0));
}

#[test]
fn a_head_is_what_the_format_says() {
    let stream = Stream {
        id: 0x0102_0304,
        next: 0x1112,
        segments: 0x2122,
        chain: [0x31; 32],
    };
    let bytes = head(&stream, HEAD_OFFLINE);
    assert_eq!(bytes[..8], [4, 3, 2, 1, 1, 0, 0, 0]);
    assert_eq!(bytes[8..16], [0x12, 0x11, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[16..24], [0; 8]);
    assert_eq!(bytes[24..32], [0x22, 0x21, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[32..], [0x31; 32]);
}

#[test]
fn an_opening_is_what_the_format_says() {
    let opening = Opening {
        audit_records: 0x0102,
        l2_vms: 3,
        interval_s: 0x0405,
        batch_pages: 6,
        build_id: [0x11; 20],
        release: [0x21; 64],
    };
    let mut bytes = opening.bytes();
    put_boot_registers(&mut bytes, &[[0x31; 48], [0x32; 48], [0x33; 48]]);
    assert_eq!(
        bytes[..16],
        [2, 1, 0, 0, 3, 0, 0, 0, 5, 4, 0, 0, 6, 0, 0, 0]
    );
    assert_eq!(bytes[16..36], [0x11; 20]);
    assert_eq!(bytes[36..48], [0; 12]);
    assert_eq!(bytes[48..112], [0x21; 64]);
    assert_eq!(bytes[112..128], [0; 16]);
    assert_eq!(bytes[128..176], [0x31; 48]);
    assert_eq!(bytes[176..224], [0x32; 48]);
    assert_eq!(bytes[224..], [0x33; 48]);
}

#[test]
fn a_record_of_the_control_plane_is_what_the_format_says() {
    let record = Control {
        tsc: 1,
        op: Op::PageAttributes,
        operands: [3, 4, 5],
        result: 2,
        process: 0x6162_6364,
        user: 0x7172_7374,
    };
    assert_eq!(
        record.words(),
        [1, 2, 3, 4, 5, 0x0003_6162_6364, 0x7172_7374]
    );
    let all = [
        Op::Load,
        Op::CreateVtl,
        Op::PageAttributes,
        Op::TdcallRefused,
        Op::HypercallRefused,
        Op::Note,
    ];
    assert_eq!(all.map(Op::number), [1, 2, 3, 4, 5, 6]);
}
