// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What VTL1 is told at each start: the seed of its keys, and where its counter begins.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use vtlvmm::secure::Secrets;

use crate::{ExitStatus, Failure};

const SEED_LEN: usize = 32;
/// Calls of *count* between two starts after which the counter would reach the next start's values:
/// half a year at one each microsecond.
const STEP: u64 = 1 << 44;
/// Starts, of which each has values of its own.
const MOST_STARTS: u64 = u64::MAX / STEP;

/// Seed and starts, as long as this command runs.
pub(super) struct Source {
    seed: [u8; SEED_LEN],
    starts: u64,
    file: Option<PathBuf>,
}

impl Source {
    /// Reads the seed, or makes one; `starts` is the file that counts starts.
    pub(super) fn new(seed: Option<&Path>, starts: Option<PathBuf>) -> Result<Self, Failure> {
        Ok(Self {
            seed: match seed {
                Some(path) => read_seed(path).map_err(wrong_file)?,
                None => random_seed()?,
            },
            starts: 0,
            file: starts,
        })
    }

    /// For the next start. It is counted before VTL1 can begin.
    pub(super) fn next(&mut self) -> Result<Secrets, Failure> {
        let path = self.file.as_deref();
        let before = match path {
            Some(path) => read_starts(path).map_err(wrong_file)?,
            None => self.starts,
        };
        if before >= MOST_STARTS {
            return Err(wrong_file(anyhow!(
                "VTL1 can't start more than {MOST_STARTS} times"
            )));
        }
        self.starts = before + 1;
        if let Some(path) = path {
            write_starts(path, self.starts)
                .with_context(|| format!("cannot write {}", path.display()))
                .map_err(wrong_file)?;
        }
        Ok(Secrets {
            seed: self.seed,
            counter: before * STEP,
        })
    }
}

fn wrong_file(error: anyhow::Error) -> Failure {
    Failure::new(ExitStatus::File, error)
}

fn read_seed(path: &Path) -> anyhow::Result<[u8; SEED_LEN]> {
    let show = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        // CAST: widening.
        .and_then(|file| file.take(SEED_LEN as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read the seed {show}"))?;
    let seed = <[u8; SEED_LEN]>::try_from(bytes)
        .map_err(|_| anyhow!("the seed {show} has not exactly {SEED_LEN} bytes"))?;
    if seed == [0; SEED_LEN] {
        return Err(anyhow!("the seed {show} is all zero"));
    }
    Ok(seed)
}

fn random_seed() -> Result<[u8; SEED_LEN], Failure> {
    let mut seed = [0; SEED_LEN];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .context("cannot read /dev/urandom, for VTL1's keys")?;
    Ok(seed)
}

/// A missing file counts no start.
fn read_starts(path: &Path) -> anyhow::Result<u64> {
    let show = path.display();
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        text => text.with_context(|| format!("cannot read {show}"))?,
    };
    text.trim()
        .parse()
        .map_err(|_| anyhow!("{show} has no number of starts (expected what this command wrote)"))
}

/// Either the old number or the new one is there, even if the power fails.
fn write_starts(path: &Path, starts: u64) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new)?;
    writeln!(file, "{starts}")?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test, which is gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> io::Result<Self> {
            let path = std::env::temp_dir().join(format!("vtlctl-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path)?;
            Ok(Self(path))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn text<T>(result: Result<T, Failure>) -> String {
        result.err().map_or_else(String::new, |failure| {
            assert_eq!(failure.status, ExitStatus::File);
            format!("{:#}", failure.error)
        })
    }

    #[test]
    fn every_start_has_higher_values_than_the_last() -> io::Result<()> {
        let folder = Folder::new("starts")?;
        let file = folder.0.join("starts");
        let counters =
            |source: &mut Source| [0; 2].map(|_| source.next().map(|it| it.counter).ok());
        let Ok(mut source) = Source::new(None, Some(file.clone())) else {
            panic!("no source");
        };
        assert_eq!(counters(&mut source), [Some(0), Some(STEP)]);
        let Ok(mut again) = Source::new(None, Some(file.clone())) else {
            panic!("no source");
        };
        assert_eq!(counters(&mut again), [Some(2 * STEP), Some(3 * STEP)]);
        let Ok(mut without) = Source::new(None, None) else {
            panic!("no source");
        };
        assert_eq!(counters(&mut without), [Some(0), Some(STEP)]);
        std::fs::write(&file, format!("{MOST_STARTS}"))?;
        assert!(text(again.next()).contains("more than 1048575 times"));
        std::fs::write(&file, "many")?;
        assert!(text(again.next()).contains("has no number of starts"));
        Ok(())
    }

    #[test]
    fn a_seed_has_its_length_and_is_not_zero() -> io::Result<()> {
        let folder = Folder::new("seed")?;
        let file = folder.0.join("seed");
        let with = |bytes: &[u8]| {
            std::fs::write(&file, bytes)?;
            Ok::<_, io::Error>(Source::new(Some(&file), None))
        };
        for bytes in [&[1; 31][..], &[1; 33], &[]] {
            assert!(text(with(bytes)?).contains("not exactly 32 bytes"));
        }
        assert!(text(with(&[0; 32])?).contains("all zero"));
        let Ok(source) = with(&[7; 32])? else {
            panic!("refused");
        };
        assert_eq!(source.seed, [7; 32]);
        let missing = folder.0.join("missing");
        assert!(text(Source::new(Some(&missing), None)).contains("cannot read the seed"));
        Ok(())
    }

    #[test]
    fn random_seeds_differ() {
        let seed = || random_seed().ok();
        assert_ne!(seed(), None);
        assert_ne!(seed(), seed());
    }
}
