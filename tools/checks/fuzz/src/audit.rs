// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Random damage to logs and to evidence: nothing panics, nothing takes long, and no record is
//! proved that the module did not write.

use crate::random::Random;
use vtl_audit::cmdline::openings;
use vtl_audit::event::CONTROL;
use vtl_audit::file::{Frame, write};
use vtl_audit::testing::{Module, boot_log};
use vtl_audit::{BootLog, Contents, Evidence, Policy, Reason, Verdict, hash, verify};

/// Processor time that a file may take, of at most some MiB.
const LIMIT_NS: u64 = 2_000_000_000;
/// Memory that this program may ever have had.
const LIMIT_KIB: u64 = 128 << 10;

/// A module with a random history.
fn module(random: &mut Random) -> Module {
    let is_large = random.below(64) == 0;
    let cpus = random.below(if is_large { 300 } else { 3 }) as u32; // CAST: few
    let ids: Vec<u32> = (0..cpus).chain([CONTROL]).collect();
    let mut module = Module::load(&ids);
    for _ in 0..random.below(6) {
        module.run(random.below(if is_large { 40 } else { 150 }) as usize); // CAST: few
        module.checkpoint((random.below(2) == 0).then_some([7; 32]));
    }
    if random.below(3) == 0 {
        module.close();
    }
    module
}

/// Files of one session whose frames were dealt with one by one.
fn shuffle(random: &mut Random, frames: &mut Vec<Vec<u8>>) {
    for _ in 0..random.below(4) {
        let at = |random: &mut Random| random.below(frames.len().max(1) as u64) as usize; // CAST: below the length
        let (one, other) = (at(random), at(random));
        match random.below(4) {
            0 if !frames.is_empty() => drop(frames.remove(one)),
            1 if !frames.is_empty() => frames.push(frames[one].clone()),
            2 if !frames.is_empty() => frames.swap(one, other),
            _ => {}
        }
    }
}

/// Changes bytes here and there.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let len = bytes.len() as u64;
        if len < 16 {
            return;
        }
        let at = random.below(len - 8) as usize; // CAST: below the length
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at & !7..][..8].copy_from_slice(&random.value().to_le_bytes()),
            // CAST: half a random word.
            2 => bytes[at & !3..][..4].copy_from_slice(&(random.value() as u32).to_le_bytes()),
            3 => bytes.truncate(at),
            4 => {
                let from = random.below(len - 8) as usize; // CAST: as above
                let part = bytes[from..].iter().take(64).copied().collect::<Vec<_>>();
                let end = (at + part.len()).min(bytes.len());
                bytes.splice(at..end, part);
            }
            _ => {}
        }
    }
}

/// Nanoseconds that this thread had a processor; 0 where the kernel does not tell.
fn spent_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let word = text.split_whitespace().next();
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The most memory that this process ever had; 0 where the kernel does not tell.
fn peak_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A number that is near where arithmetic ends, or where a page does.
fn odd_number(random: &mut Random) -> u64 {
    let near = [0, 1, 64, 128, 1 << 32, 1 << 63, u64::MAX][random.below(7) as usize]; // CAST: below 7
    near.wrapping_add(random.below(3)).wrapping_sub(1)
}

/// Whoever makes a file may make evidence, too: events that say anything of their streams, each the next of
/// the one before, and a register to which they lead.
fn made_up(random: &mut Random, module: &Module, frames: &[Vec<u8>]) {
    const HEADS: usize = 256;
    const HEAD_LEN: usize = 64;
    let mut events = module.events().to_vec();
    let is_event = |frame: &Vec<u8>| frame.first() == Some(&(Frame::Event as u8));
    let mut file = module.head();
    file.extend(frames.iter().filter(|frame| !is_event(frame)).flatten());
    if random.below(4) == 0 {
        events.remove(0);
    }
    let mut evidence = Evidence::from_report(&module.report(&[0; 64])).expect("it is one");
    let mut register: Option<hash::Digest> = None;
    for event in &mut events {
        // The first event has to say that nothing has begun.
        let heads = match event[10] {
            1 => 0,
            _ => (event.len() - HEADS) / HEAD_LEN,
        };
        for head in event[HEADS..].chunks_exact_mut(HEAD_LEN).take(heads) {
            if random.below(3) == 0 {
                let at = [8, 16, 24][random.below(3) as usize]; // CAST: below 3
                head[at..at + 8].copy_from_slice(&odd_number(random).to_le_bytes());
            }
        }
        if let Some(register) = &register {
            event[64..112].copy_from_slice(register);
            event[112..160].copy_from_slice(register);
        }
        let before = event[64..112].try_into().expect("48 bytes");
        evidence.rtmr[3] = hash::extend(&before, &hash::digest(event));
        register = Some(evidence.rtmr[3]);
        file.extend(write::frame(Frame::Event, event).expect("it is short"));
    }
    let before = spent_ns();
    let finding = verify(&file, &evidence, &Policy::DEFAULT);
    let spent = spent_ns().saturating_sub(before);
    assert!(spent < LIMIT_NS, "{spent} ns for {} bytes", file.len());
    // They are taken for events; what they say of their streams is what is in question.
    let is_of_streams = |reason: &Reason| {
        use Reason::{Backwards, Chain, File, Leaf, NoEvents};
        matches!(
            reason,
            Backwards { .. } | Chain { .. } | Leaf { .. } | File(_) | NoEvents
        )
    };
    assert!(finding.reasons.iter().all(is_of_streams), "{finding:?}");
}

/// The event log of a boot, and any command line: whoever makes a file has made these, too.
fn boot(random: &mut Random) {
    const PIECES: [&str; 12] = [
        "lockdown=confidentiality",
        "module.sig_enforce=1",
        "lsm=",
        "lockdown",
        ",",
        " ",
        "\"",
        "=",
        "--",
        "\0",
        "\u{a0}",
        "x",
    ];
    // CAST: below 12.
    let pieces = (0..random.below(12)).map(|_| PIECES[random.below(12) as usize]);
    let line = pieces.collect::<String>();
    let _ = openings(&line).count();
    let mut log = boot_log(&line);
    let rtmr = BootLog::parse(&log)
        .expect("the log is as it was made")
        .rtmr;
    damage(random, &mut log);
    if let Ok(read) = BootLog::parse(&log) {
        let proved = read.proved_cmdline(&rtmr);
        // Some loaders end it by a zero that is not measured.
        let is_its = |proved: &str| proved == line || line.strip_suffix('\0') == Some(proved);
        assert!(proved.is_none_or(is_its), "{proved:?} of {line:?}");
    }
}

/// One case.
pub(crate) fn run(random: &mut Random) {
    let module = module(random);
    let original = module.file();
    let report = module.report(&[0; 64]);
    let evidence = Evidence::from_report(&report).expect("the report is as it was made");
    let mut frames = module.frames();
    shuffle(random, &mut frames);
    made_up(random, &module, &frames);
    let mut file = [module.head(), frames.concat()].concat();
    damage(random, &mut file);

    let before = spent_ns();
    let finding = verify(&file, &evidence, &Policy::DEFAULT);
    let spent = spent_ns().saturating_sub(before);
    assert!(spent < LIMIT_NS, "{spent} ns for {} bytes", file.len());
    assert!(peak_kib() < LIMIT_KIB, "{} KiB", peak_kib());
    if finding.verdict != Verdict::NotAttested {
        let good = Contents::read(&original).expect("the file is as it was made");
        let read = Contents::read(&file).expect("it has been read before");
        for stream in &finding.streams {
            let records = |contents: &Contents<'_>| {
                let of_stream = contents.records_of(stream.id);
                of_stream.map(<[u8]>::to_vec).collect::<Vec<_>>()
            };
            let true_ones: std::collections::BTreeSet<_> = records(&good).into_iter().collect();
            let kept = records(&read)
                .iter()
                .filter(|record| true_ones.contains(*record))
                .count();
            assert!(
                kept as u64 >= stream.proved,
                "{stream:?}, of which {kept} are true"
            );
        }
    }
    boot(random);
    if file == original {
        assert_eq!(finding.verdict, Verdict::Attested, "{finding:?}");
    }
    for mut evidence in [report, module.quote(4, &[0; 64]), module.quote(5, &[0; 64])] {
        damage(random, &mut evidence);
        let _ = Evidence::from_report(&evidence);
        let _ = Evidence::from_quote(&evidence);
    }
}
