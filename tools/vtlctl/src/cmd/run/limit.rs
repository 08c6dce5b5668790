// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Stops a guest that does not stop by itself: after a number of exits, or after some time, even
//! while it spins without exits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vtl::Canceller;

/// The limits of one run.
pub(crate) struct Limit {
    max_exits: u64,
    timeout: Option<u64>,
    begun: Instant,
    is_over: Arc<AtomicBool>,
}

impl Limit {
    /// Starts the clock. With a time limit, a thread cancels the run then.
    pub(crate) fn start(max_exits: u64, timeout: Option<u64>, canceller: Canceller) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        if let Some(seconds) = timeout {
            let is_over = Arc::clone(&is_over);
            // Not joined: it ends with the process.
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(seconds));
                // ORDERING: a thread that sees the run cancelled also sees why.
                is_over.store(true, Ordering::SeqCst);
                canceller.cancel();
            });
        }
        Self {
            max_exits,
            timeout,
            begun: Instant::now(),
            is_over,
        }
    }

    /// Which limit is reached, in words.
    pub(crate) fn reached(&self, exits: u64) -> Option<String> {
        if exits >= self.max_exits {
            return Some(format!(
                "stopped after {} exits (--max-exits)",
                self.max_exits
            ));
        }
        match self.timeout {
            Some(seconds) if self.is_over.load(Ordering::SeqCst) => {
                Some(format!("stopped after {seconds} s (--timeout)"))
            }
            _ => None,
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed_seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}
