// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The file that a start without a baseline is to write. Nobody has to find out from what is not said that a start
//! was not compared with anything: what is told here is told even if little is to be.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vtlvmm::monitor::{Baseline, KernelImage};

use super::{baseline, say};

/// See the module. `None` if nothing is to be written, or it was.
#[derive(Clone)]
pub(super) struct Awaited(Arc<Mutex<Option<PathBuf>>>);

impl Awaited {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self(Arc::new(Mutex::new(path)))
    }

    /// Writes the baseline for later starts, once.
    pub(super) fn write(&self, image: &KernelImage, learned: &Baseline, is_quiet: bool) {
        let Some(path) = self.path().clone() else {
            return;
        };
        match baseline::write(&path, &image.text, learned) {
            Ok(()) => {
                *self.path() = None;
                if !is_quiet {
                    say(&format!("the baseline is in {} now", path.display()));
                }
            }
            Err(error) => say(&format!("{error:#}")),
        }
    }

    /// For a person, before the guest starts.
    pub(super) fn at_begin(&self) -> Option<String> {
        self.line(|path| {
            format!("there is no baseline {path} yet: this start is trusted, and writes it if all is well")
        })
    }

    /// For a person, when it has ended.
    pub(super) fn at_end(&self) -> Option<String> {
        self.line(|path| format!("no baseline was written to {path}"))
    }

    fn line(&self, text: impl Fn(std::path::Display<'_>) -> String) -> Option<String> {
        self.path().as_deref().map(Path::display).map(text)
    }

    fn path(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_writes_no_baseline_says_so() {
        let awaited = Awaited::new(Some("/tmp/file".into()));
        let begin = awaited.at_begin().unwrap_or_default();
        assert!(
            begin.starts_with("there is no baseline /tmp/file yet"),
            "{begin}"
        );
        let end = awaited.at_end().unwrap_or_default();
        assert_eq!(end, "no baseline was written to /tmp/file");
        let compared = Awaited::new(None);
        assert_eq!((compared.at_begin(), compared.at_end()), (None, None));
    }
}
