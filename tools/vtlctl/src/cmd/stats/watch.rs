// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is added in each interval.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use vtl::Info;

use super::{Vps, to_json, to_table};
use crate::{ExitStatus, Failure};

/// Prints differences.
pub(super) struct Watch {
    interval: Duration,
    times: u64,
    is_json: bool,
}

impl Watch {
    pub(super) fn new(seconds: u32, times: Option<u64>, is_json: bool) -> Self {
        Self {
            interval: Duration::from_secs(seconds.into()),
            times: times.unwrap_or(u64::MAX),
            is_json,
        }
    }

    pub(super) fn run(
        &mut self,
        info: &Info,
        mut read: impl FnMut() -> anyhow::Result<Vps>,
    ) -> Result<ExitStatus, Failure> {
        let mut out = std::io::stdout().lock();
        let is_terminal = out.is_terminal();
        let mut before = read()?;
        while self.times != 0 {
            let begin = Instant::now();
            std::thread::sleep(self.interval);
            let now = read()?;
            let added = added(&before, &now);
            let text = if self.is_json {
                let mut json = to_json(&added, info);
                json["seconds"] = begin.elapsed().as_secs_f64().into();
                format!("{json}\n")
            } else {
                page(&to_table(&added, info), begin.elapsed(), is_terminal)
            };
            // If the reader of the output has gone away, end without an error, as filters do.
            if out
                .write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .is_err()
            {
                break;
            }
            before = now;
            self.times -= 1;
        }
        Ok(ExitStatus::Success)
    }
}

/// On a terminal each interval replaces the previous one.
fn page(table: &str, elapsed: Duration, is_terminal: bool) -> String {
    const HOME_AND_CLEAR: &str = "\x1b[H\x1b[2J";
    let begin = if is_terminal { HOME_AND_CLEAR } else { "" };
    format!("{begin}in {:.2} s:\n{table}\n", elapsed.as_secs_f64())
}

/// What `now` has more than `before`; a VP that came meanwhile counts from zero.
pub(crate) fn added(before: &Vps, now: &Vps) -> Vps {
    now.iter()
        .map(|(cpu, stats)| {
            let before = before.iter().find(|(other, _)| other == cpu);
            let added = before.map_or_else(|| stats.clone(), |(_, before)| stats.since(before));
            (*cpu, added)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{info, vps};
    use super::*;

    #[test]
    fn only_what_is_new_is_shown() {
        let before = vps();
        let mut now = vps();
        now[0].1.exits[0].count += 3;
        now[0].1.exits[0].cycles += 600;
        now[0].1.refused[2] += 1;
        let added = added(&before, &now);
        let exit = added[0].1.exits[0];
        assert_eq!((exit.count, exit.handled, exit.cycles), (3, 0, 600));
        assert_eq!(added[0].1.refused[2], 1);
        let nothing = super::added(&now, &now);
        assert!(nothing[0].1.exits.is_empty());
        assert_eq!(nothing[0].1.stalls, 0);
    }

    #[test]
    fn intervals_end_when_they_are_asked_to() -> anyhow::Result<()> {
        let mut reads = 0;
        let mut watch = Watch {
            interval: Duration::ZERO,
            times: 2,
            is_json: true,
        };
        let status = watch.run(&info(1), || {
            reads += 1;
            Ok(vps())
        });
        assert!(matches!(status, Ok(ExitStatus::Success)));
        assert_eq!(reads, 3);
        Ok(())
    }

    #[test]
    fn only_a_terminal_is_cleared() {
        assert!(page("x", Duration::ZERO, true).starts_with('\x1b'));
        assert_eq!(page("x", Duration::ZERO, false), "in 0.00 s:\nx\n");
    }
}
