// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What `vtlctl top` draws: virtual processors above, kinds of exit below.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};

use crate::cmd::top::rates::{ExitRate, Order, Rates, VpRate};

#[derive(Debug, Default)]
pub(super) struct Screen {
    pub(super) rates: Rates,
    pub(super) order: Order,
    pub(super) is_paused: bool,
}

impl Screen {
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        // The VPs get what they need, but leave half of the screen to the exits.
        // CAST: a screen has fewer lines than 16 bits can count.
        let wanted = self
            .rates
            .vps
            .len()
            .saturating_add(2)
            .min(usize::from(u16::MAX)) as u16;
        let vps = wanted.min(frame.area().height / 2);
        let [title, above, below] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(vps),
            Constraint::Min(0),
        ])
        .areas(frame.area());
        frame.render_widget(self.title(), title);
        frame.render_widget(vp_table(&self.rates.vps), above);
        frame.render_widget(exit_table(&self.rates.sorted(self.order)), below);
    }

    fn title(&self) -> Line<'static> {
        let order = match self.order {
            Order::Count => "by count",
            Order::Time => "by time",
        };
        let state = if self.is_paused { "paused" } else { "running" };
        let total: f64 = self.rates.vps.iter().map(|vp| vp.per_second).sum();
        Line::from(format!(
            "vtlctl top: {total:.0} exits/s, {order}, {state}   (q ends, s order, p pause)"
        ))
        .bold()
    }
}

fn vp_table(vps: &[VpRate]) -> Table<'static> {
    let rows = vps.iter().map(|vp| {
        Row::new([
            vp.cpu.to_string(),
            format!("{:.0}", vp.per_second),
            or_unknown(vp.in_lower),
            format!("{:.1}", vp.in_kernel),
            format!("{:.0}", vp.switches_per_second),
        ])
    });
    let widths = [6, 12, 16, 14, 16].map(Constraint::Length);
    let head = [
        "vp",
        "exits/s",
        "in lower VTL %",
        "in kernel %",
        "VTL switches/s",
    ];
    Table::new(rows, widths).header(Row::new(head).style(Style::new().reversed()))
}

fn exit_table(exits: &[ExitRate]) -> Table<'static> {
    let rows = exits.iter().map(|exit| {
        Row::new([
            exit.kind.to_string(),
            format!("{:.0}", exit.per_second()),
            format!("{:.1}", exit.in_kernel()),
            or_unknown(exit.mean_us()),
        ])
    });
    let widths = [30, 12, 14, 14].map(Constraint::Length);
    let head = ["exit", "per second", "in kernel %", "mean us"];
    Table::new(rows, widths).header(Row::new(head).style(Style::new().reversed()))
}

fn or_unknown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::top::rates::tests::rates;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(screen: &Screen, width: u16, height: u16) -> anyhow::Result<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height))?;
        terminal.draw(|frame| screen.draw(frame))?;
        Ok(terminal.backend().to_string())
    }

    #[test]
    fn processors_and_exits_are_both_there() -> anyhow::Result<()> {
        let screen = Screen {
            rates: rates(),
            ..Screen::default()
        };
        let text = drawn(&screen, 80, 24)?;
        for part in [
            "exits/s, by count, running",
            "in lower VTL %",
            "50.0",
            "CPUID",
            "HLT",
            "62.5",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(text.find("CPUID") < text.find("HLT"));
        let by_time = Screen {
            order: Order::Time,
            is_paused: true,
            ..screen
        };
        let text = drawn(&by_time, 80, 24)?;
        assert!(text.contains("by time, paused"), "{text}");
        assert!(text.find("HLT") < text.find("CPUID"));
        Ok(())
    }

    #[test]
    fn no_size_of_the_terminal_makes_it_panic() -> anyhow::Result<()> {
        let screen = Screen {
            rates: rates(),
            ..Screen::default()
        };
        for (width, height) in [(1, 1), (80, 2), (3, 60), (400, 200)] {
            drawn(&screen, width, height)?;
        }
        Ok(())
    }
}
