// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl top`: what the virtual processors do now, on a terminal.
//!
//! The rates are in `rates`, what is drawn of them in `screen`; here are the keys and the clock.

mod rates;
mod screen;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use vtl::{Info, Mshv, Vtl};

use crate::cmd::stats::{self, Vps};
use crate::cmd::top::rates::{Order, Rates};
use crate::cmd::top::screen::Screen;
use crate::{ExitStatus, Failure};

#[derive(clap::Args)]
#[command(after_help = KEYS)]
pub(crate) struct Arguments {
    /// Only the virtual processor of this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,
    /// Time between two readings
    #[arg(long, value_name = "SECONDS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    interval: u32,
    /// End after this many readings
    #[arg(long, value_name = "COUNT")]
    times: Option<u64>,
}

const KEYS: &str = "Keys: q ends, s changes the order, p stops and continues.

Without a terminal: vtlctl stats --watch";

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    End,
    ChangeOrder,
    Pause,
}

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        let error = anyhow::anyhow!("top needs a terminal; without one, use vtlctl stats --watch");
        return Err(Failure::new(ExitStatus::Usage, error));
    }
    let mshv = Mshv::open()?;
    let source = Source {
        info: mshv.info()?,
        vtl: mshv.create_vtl()?,
        only: arguments.cpu,
    };
    // Errors that would come at once are told before the screen changes.
    let first = source.read()?;
    let mut terminal = ratatui::try_init()?;
    let outcome = watch(&mut terminal, &source, first, arguments);
    ratatui::restore();
    outcome.map(|()| ExitStatus::Success)
}

/// Where the counters are read.
struct Source {
    info: Info,
    vtl: Vtl,
    only: Option<u32>,
}

impl Source {
    fn read(&self) -> anyhow::Result<Vps> {
        stats::read(&self.vtl, &self.info, self.only)
    }
}

fn watch(
    terminal: &mut DefaultTerminal,
    source: &Source,
    first: Vps,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let interval = Duration::from_secs(arguments.interval.into());
    let mut screen = Screen::default();
    let mut before = (first, Instant::now());
    let mut readings = 0;
    terminal.draw(|frame| screen.draw(frame))?;
    while arguments.times.is_none_or(|times| readings < times) {
        match next_wish(interval.saturating_sub(before.1.elapsed()))? {
            Some(Wish::End) => break,
            Some(Wish::ChangeOrder) => screen.order = screen.order.next(),
            Some(Wish::Pause) => screen.is_paused = !screen.is_paused,
            None => {}
        }
        if before.1.elapsed() >= interval {
            let now = (source.read()?, Instant::now());
            if !screen.is_paused {
                let added = stats::added(&before.0, &now.0);
                screen.rates = Rates::new(&added, &source.info, now.1 - before.1);
            }
            before = now;
            readings += 1;
        }
        terminal.draw(|frame| screen.draw(frame))?;
    }
    Ok(())
}

/// Waits for a key that means something, but no longer than `limit`. Any other event, such as a
/// new size of the terminal, ends the wait early, so that the screen is drawn again.
fn next_wish(limit: Duration) -> std::io::Result<Option<Wish>> {
    if !event::poll(limit)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) => wish(key),
        _ => None,
    })
}

fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
            Some(Wish::End)
        }
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::End),
        KeyCode::Char('s') => Some(Wish::ChangeOrder),
        KeyCode::Char('p' | ' ') => Some(Wish::Pause),
        _ => None,
    }
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Count => Self::Time,
            Self::Time => Self::Count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_end_a_program_ends_this_one() {
        let plain = KeyModifiers::NONE;
        for (code, modifiers) in [
            (KeyCode::Char('q'), plain),
            (KeyCode::Esc, plain),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
            (KeyCode::Char('d'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(wish(KeyEvent::new(code, modifiers)), Some(Wish::End));
        }
        assert_eq!(wish(KeyEvent::new(KeyCode::Char('c'), plain)), None);
        let order = KeyEvent::new(KeyCode::Char('s'), plain);
        assert_eq!(wish(order), Some(Wish::ChangeOrder));
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), plain, KeyEventKind::Release);
        assert_eq!(wish(released), None);
    }
}
