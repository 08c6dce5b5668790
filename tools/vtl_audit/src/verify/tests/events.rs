// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Events and registers that an attacker has touched.

use super::*;

#[test]
fn an_event_that_is_cut_out_is_missed() {
    let module = module();
    let event = |number| move |frame: &Vec<u8>| frame[0] == EVENT && frame[24] == number;
    let cut = |number: u8| {
        let mut frames = module.frames();
        frames.retain(|frame| !event(number)(frame));
        judge_frames(&module, &frames)
    };
    assert_eq!(reason(&cut(1)), Reason::Missing { number: 1 });
    // The last: the old beginning with a new report.
    assert_eq!(reason(&cut(2)), Reason::Register);
}

#[test]
fn without_its_first_events_a_log_is_a_suffix() {
    let module = module();
    let mut frames = module.frames();
    frames.retain(|frame| !(frame[0] == EVENT && frame[24] == 0));
    let finding = judge_frames(&module, &frames);
    assert_eq!(finding.verdict, Verdict::SuffixOnly, "{finding:?}");
    assert_eq!((finding.first_event, finding.last_event), (1, Some(2)));
    assert_eq!(finding.boot_registers, None, "OPEN has them");
    let stream = &finding.streams[0];
    assert_eq!(
        (stream.last, stream.proved, stream.unproved),
        (230, 130, 100)
    );
    // An altered record of the end is found all the same.
    let frame = frames
        .iter_mut()
        .find(|frame| key(frame) == (RECORDS, 0, 192))
        .unwrap();
    frame[60] ^= 1;
    reason(&judge_frames(&module, &frames));
}

#[test]
fn a_changed_event_is_found() {
    let module = module();
    for number in 0..3u8 {
        // A chain, the nonce and its flag, the time.
        for (at, flip) in [
            (256 + 32, 1),
            (256 + 8, 1),
            (56, 1),
            (24, 1),
            (192, 1),
            (40, 1),
        ] {
            let mut frames = module.frames();
            let is_it = |frame: &&mut Vec<u8>| frame[0] == EVENT && frame[24] == number;
            let frame = frames.iter_mut().find(is_it).unwrap();
            frame[8 + at] ^= flip;
            let finding = judge_frames(&module, &frames);
            assert_eq!(
                finding.verdict,
                Verdict::NotAttested,
                "event {number}, byte {at}"
            );
        }
    }
}

#[test]
fn a_report_of_another_domain_proves_nothing() {
    let (ours, other) = (module(), {
        let mut other = Module::load_again(&STREAMS, [0; 48], 9);
        other.run(100);
        other.checkpoint(None);
        other
    });
    let finding = verify(&ours.file(), &evidence(&other), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::Register);
    let both = [ours.file(), other.frames().concat()].concat();
    let finding = verify(&both, &evidence(&ours), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::File(BadFile::TwoSessions));
}

/// What was measured when the module was loaded stays so, whatever the registers hold later; and a log
/// that is refused says nothing of it.
#[test]
fn the_registers_of_the_boot_are_those_of_the_first_event() {
    let module = module();
    let mut evidence = evidence(&module);
    evidence.rtmr[..3].copy_from_slice(&[[7; 48]; 3]);
    let finding = verify(&module.file(), &evidence, &Policy::DEFAULT);
    let boot = [[1; 48], [2; 48], [3; 48]];
    assert_eq!(finding.boot_registers, Some(boot));
    evidence.attributes |= 1;
    let finding = verify(&module.file(), &evidence, &Policy::DEFAULT);
    assert_eq!(finding.boot_registers, None);
    // They are hashed with the rest.
    let mut frames = module.frames();
    let open = frames.iter_mut().find(|frame| frame[0] == EVENT).unwrap();
    open[8 + 256 + 64 * STREAMS.len() + 128] ^= 1;
    assert_eq!(
        reason(&judge_frames(&module, &frames)),
        Reason::Before { number: 1 }
    );
}

#[test]
fn a_debug_domain_proves_nothing() {
    let module = module();
    let mut evidence = evidence(&module);
    evidence.attributes |= 1;
    let finding = verify(&module.file(), &evidence, &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::Debug);
}

/// What the register becomes when somebody extends it by an event.
fn extend_by(module: &mut Module, event: &[u8]) {
    module.register = hash::extend(&module.register, &hash::digest(event));
}

#[test]
fn an_event_that_root_makes_up_is_found() {
    let module = module();
    let known: Hash = module.events()[2][160..192].try_into().unwrap();
    // A guess, and the secret that was revealed last.
    for reveal in [[0; 32], known] {
        let mut root = module.clone();
        let mut event = module.events()[2].clone();
        event[16] = 3;
        event[64..112].copy_from_slice(&module.register);
        event[112..160].copy_from_slice(&module.register);
        event[160..192].copy_from_slice(&reveal);
        extend_by(&mut root, &event);
        let mut frames = module.frames();
        frames.extend(write::frame(Frame::Event, &event));
        let finding = judge_frames(&root, &frames);
        assert_eq!(reason(&finding), Reason::Reveal { number: 3 });
    }
}

/// Root knows the secret of a published event, but its place in the register is taken.
#[test]
fn an_event_that_is_told_again_is_found() {
    let module = module();
    let mut told = module.events()[2].clone();
    told[32] ^= 1;
    let mut frames = module.frames();
    frames.retain(|frame| !(frame[0] == EVENT && frame[24] == 2));
    frames.extend(write::frame(Frame::Event, &told));
    assert_eq!(reason(&judge_frames(&module, &frames)), Reason::Register);
    // With the register extended by it, too: then the true one is an extend that nothing explains.
    let mut root = module.clone();
    extend_by(&mut root, &told);
    assert_eq!(reason(&judge_frames(&root, &frames)), Reason::Register);
}

#[test]
fn somebody_elses_extend_ends_what_can_be_proved() {
    let mut module = module();
    let before = evidence(&module);
    module.register = hash::extend(&module.register, &[7; 48]);
    // Nothing of the module's yet.
    let finding = verify(&module.file(), &evidence(&module), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::Register);
    module.checkpoint(None);
    let finding = verify(&module.file(), &evidence(&module), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::Foreign { number: 3 });
    // A report from before still proves what was before.
    let finding = verify(&module.file(), &before, &Policy::DEFAULT);
    assert_eq!(
        (finding.verdict, finding.last_event),
        (Verdict::Attested, Some(2))
    );
    assert_eq!(finding.later_events, 1);
}

#[test]
fn a_second_session_is_never_the_first() {
    let mut first = module();
    first.close();
    let mut second = Module::load_again(&STREAMS, first.register, 2);
    second.run(10);
    second.checkpoint(None);
    let finding = verify(&second.file(), &evidence(&second), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::OpenRegister);
    let both = [first.file(), second.frames().concat()].concat();
    let finding = verify(&both, &evidence(&second), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::File(BadFile::TwoSessions));
    // Who knows the register from the first one may go on from there.
    let policy = Policy {
        open_register: first.register,
        ..Policy::DEFAULT
    };
    let finding = verify(&second.file(), &evidence(&second), &policy);
    assert_eq!(finding.verdict, Verdict::Attested);
}

/// Register 2 is free where the module has register 3, and the other way round: root can extend it by
/// anything from its first value on, with all the secrets of a log that root has made up.
#[test]
fn a_log_on_another_register_than_the_modules_is_refused() {
    let (module, made_up) = (module(), {
        let mut made_up = Module::load_with(&STREAMS, 2, [0; 48], 9);
        made_up.run(7);
        made_up.checkpoint(None);
        made_up
    });
    let mut evidence = evidence(&module);
    evidence.rtmr[2] = made_up.register;
    let finding = verify(&made_up.file(), &evidence, &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::NotAsked { register: 2 });
    let finding = verify(&module.file(), &evidence, &Policy::DEFAULT);
    assert_eq!(finding.verdict, Verdict::Attested);
    // Who had the module use register 2 says so.
    let policy = Policy {
        register: 2,
        ..Policy::DEFAULT
    };
    let finding = verify(&made_up.file(), &evidence, &policy);
    assert_eq!(finding.verdict, Verdict::Attested);
    let finding = verify(&module.file(), &evidence, &policy);
    assert_eq!(reason(&finding), Reason::NotAsked { register: 3 });
}

#[test]
fn an_event_after_the_last_one_is_found() {
    let mut module = module();
    module.close();
    // Like a log of a module that went on: it is complete but for its state of mind.
    module.checkpoint(None);
    let finding = verify(&module.file(), &evidence(&module), &Policy::DEFAULT);
    assert_eq!(reason(&finding), Reason::AfterLast { number: 4 });
}
