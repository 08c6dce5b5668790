// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Random damage to logs and to evidence: nothing panics, nothing takes long, and no record is
//! proved that the module did not write.

use crate::random::Random;
use vtl_audit::event::CONTROL;
use vtl_audit::testing::Module;
use vtl_audit::{Contents, Evidence, Policy, Verdict, verify};

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

/// One case.
pub(crate) fn run(random: &mut Random) {
    let module = module(random);
    let original = module.file();
    let report = module.report(&[0; 64]);
    let evidence = Evidence::from_report(&report).expect("the report is as it was made");
    let mut frames = module.frames();
    shuffle(random, &mut frames);
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
    if file == original {
        assert_eq!(finding.verdict, Verdict::Attested, "{finding:?}");
    }
    for mut evidence in [report, module.quote(4, &[0; 64]), module.quote(5, &[0; 64])] {
        damage(random, &mut evidence);
        let _ = Evidence::from_report(&evidence);
        let _ = Evidence::from_quote(&evidence);
    }
}
