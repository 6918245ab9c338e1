//! View of `c3 top`.

use std::collections::VecDeque;

use c3_server::printable::Printable;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table, Widget};

use super::sample::{Frame, Node, Stage};

/// Lines of the summary, and of the panel of a stage.
const SUMMARY_HEIGHT: u16 = 4;
const STAGE_HEIGHT: u16 = 7;
/// Busy share from which a stage is shown as busy, and as saturated.
const BUSY: [f64; 2] = [0.6, 0.9];

/// Newest frames of a gateway; there is at least one.
pub(super) struct View<'a> {
    pub(super) url: &'a str,
    pub(super) frames: &'a VecDeque<Frame>,
    /// Reason why the last reading failed.
    pub(super) problem: Option<&'a str>,
    /// True if the user can end the view with a key.
    pub(super) is_live: bool,
}

impl View<'_> {
    /// Returns the lines that show everything.
    pub(super) fn height(&self) -> u16 {
        let nodes = u16::try_from(self.last().nodes.len()).unwrap_or(u16::MAX - 100);
        SUMMARY_HEIGHT + STAGE_HEIGHT + 3 + nodes
    }

    fn last(&self) -> &Frame {
        self.frames.back().expect("there is at least one frame")
    }

    fn summary(&self) -> Paragraph<'static> {
        let frame = self.last();
        let mut lines = vec![
            Line::from(format!(
                "{:.0} calls/s, {:.0} in flight, {:.0} errors/s   {} tokens/s in, {} tokens/s out",
                frame.calls,
                frame.calls_in_flight,
                frame.errors,
                short(frame.tokens_in),
                short(frame.tokens_out)
            )),
            Line::from(caches(frame)),
        ];
        if let Some(problem) = self.problem {
            lines[1] = Line::from(Printable(problem).to_string()).red();
        }
        let title = format!(" c3 top  {} ", Printable(self.url));
        Paragraph::new(lines).block(Block::bordered().title(title).title_bottom(if self.is_live {
            " q quits "
        } else {
            ""
        }))
    }

    /// Renders the panel of a stage: busy share, and the backlog with its history.
    fn stage(&self, index: usize, area: Rect, buffer: &mut Buffer) {
        let stage = &self.last().stages[index];
        let block = Block::bordered().title(format!(" {}s, {} of {} ready ", stage.stage, stage.ready, stage.nodes));
        let inner = block.inner(area);
        block.render(area, buffer);
        let [busy, rate, backlog, curve] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Length(1), Constraint::Min(1)])
                .areas(inner);
        let label = format!("busy {:.0} %", 100.0 * stage.busy_share);
        Gauge::default()
            .ratio(stage.busy_share.clamp(0.0, 1.0))
            .label(label)
            .gauge_style(color(stage))
            .render(busy, buffer);
        let queued = short(stage.queued_tokens as f64);
        Line::from(format!("{} tokens/s, {queued} tokens queued", short(stage.tokens))).render(rate, buffer);
        Line::from(format!("backlog {:.1} s", stage.backlog_seconds)).render(backlog, buffer);
        let history = self.frames.iter().rev().take(usize::from(curve.width));
        let mut points = Vec::from_iter(history.map(|frame| (1e3 * frame.stages[index].backlog_seconds) as u64));
        points.reverse();
        // A backlog of less than a second stays low in the curve.
        let max = points.iter().copied().max().unwrap_or_default().max(1000);
        Sparkline::default().data(points).max(max).style(color(stage)).render(curve, buffer);
    }

    fn nodes(&self) -> Table<'static> {
        let titles = ["stage", "node", "state", "busy", "backlog", "queued", "calls", "tokens/s"];
        let titles = titles.map(str::to_ascii_uppercase);
        let widths = [10, 0, 12, 6, 9, 8, 6, 9];
        let widths = widths.map(|width| if width == 0 { Constraint::Fill(1) } else { Constraint::Length(width) });
        Table::new(self.last().nodes.iter().map(row), widths)
            .header(Row::new(titles).bold())
            .block(Block::bordered().title(" nodes "))
    }
}

impl Widget for &View<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let [summary, stages, nodes] = Layout::vertical([
            Constraint::Length(SUMMARY_HEIGHT),
            Constraint::Length(STAGE_HEIGHT),
            Constraint::Min(0),
        ])
        .areas(area);
        self.summary().render(summary, buffer);
        let panels: [Rect; 2] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(stages);
        for (index, panel) in panels.into_iter().enumerate() {
            self.stage(index, panel, buffer);
        }
        Widget::render(self.nodes(), nodes, buffer);
    }
}

impl Widget for View<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        (&self).render(area, buffer);
    }
}

fn row(node: &Node) -> Row<'static> {
    let state = if node.ready { "ready".to_owned() } else { Printable(&node.problem).to_string() };
    let style = if node.ready { Style::new() } else { Style::new().fg(Color::Red) };
    let cells = [
        node.stage.to_owned(),
        Printable(&node.address).to_string(),
        state,
        format!("{:.0} %", 100.0 * node.busy_share),
        format!("{:.1} s", node.backlog_seconds),
        short(node.queued_tokens as f64),
        node.calls_in_flight.to_string(),
        short(node.tokens),
    ];
    Row::new(cells).style(style)
}

fn caches(frame: &Frame) -> String {
    let caches = frame.caches.iter().map(|cache| match cache.lookups > 0.0 {
        true => format!("{} {:.0} % of {:.0}/s", cache.tier, 100.0 * cache.hits / cache.lookups, cache.lookups),
        false => format!("{} idle", cache.tier),
    });
    let caches = Vec::from_iter(caches);
    if caches.is_empty() { "no cache lookups yet".to_owned() } else { format!("cache hits: {}", caches.join(", ")) }
}

fn color(stage: &Stage) -> Color {
    match stage.busy_share {
        _ if stage.ready == 0 => Color::Red,
        busy if busy < BUSY[0] => Color::Green,
        busy if busy < BUSY[1] => Color::Yellow,
        _ => Color::Red,
    }
}

/// Formats a number with three digits or so: `950`, `1.2k`, `3.4M`.
fn short(number: f64) -> String {
    match number {
        number if number < 1e3 => format!("{number:.0}"),
        number if number < 1e6 => format!("{:.1}k", number / 1e3),
        number => format!("{:.1}M", number / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{sample, text};
    use super::*;

    #[test]
    fn a_frame_shows_both_stages_and_each_node() {
        let frames = VecDeque::from([sample::tests::frame()]);
        let text = text(&View { url: "http://g:1", frames: &frames, problem: None, is_live: false });
        for shown in [
            "http://g:1",
            "10 calls/s",
            "memory 50 % of 4/s",
            "compressors, 0 of 0 ready",
            "decoders, 1 of 1 ready",
            "busy 50 %",
            "backlog 3.0 s",
            "http://n:1",
            "200",
        ] {
            assert!(text.contains(shown), "{shown}:\n{text}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 999.0, 1234.0, 3.4e6].map(short), ["0", "999", "1.2k", "3.4M"]);
    }

    #[test]
    fn a_small_screen_is_no_problem() {
        let frames = VecDeque::from([sample::tests::frame()]);
        for (width, height) in [(1, 1), (20, 5), (40, 12)] {
            let area = Rect::new(0, 0, width, height);
            View { url: "u", frames: &frames, problem: Some("gone"), is_live: true }
                .render(area, &mut Buffer::empty(area));
        }
    }
}
