//! The fleet at a glance: a snapshot becomes a frame. What is shown depends on nothing else.

mod decisions;
mod screen;
mod sections;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ratatui::Frame;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph, Widget};
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use crate::client::LedgerView;

pub(crate) use screen::Screen;

/// Starts of the last while are held against the promises.
pub(crate) const HISTORY: Duration = Duration::from_hours(1);

/// One look at everything. What could not be read says why.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) server: String,
    pub(crate) now: Timestamp,
    pub(crate) fleet: v1::FleetStatusResponse,
    pub(crate) queues: Vec<v1::Queue>,
    pub(crate) workers: Vec<v1::Worker>,
    /// Over [`HISTORY`].
    pub(crate) demands: Result<Vec<v1::Demand>, String>,
    pub(crate) ledger: Result<LedgerView, String>,
}

/// What a screen shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// How long ago that was, if there should be a newer one by now.
    pub(crate) overdue: Option<Duration>,
    /// Why the last look failed; the snapshot is an older one then.
    pub(crate) problem: Option<&'a str>,
}

/// A titled part of the screen, as lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    title: String,
    lines: Vec<String>,
}

impl Section {
    fn new(title: impl Into<String>, text: &str) -> Self {
        Self { title: title.into(), lines: text.lines().map(str::to_owned).collect() }
    }

    /// With its title's line.
    fn height(&self) -> u16 {
        u16::try_from(self.lines.len()).unwrap_or(u16::MAX).saturating_add(1)
    }

    /// Leaves out what is behind so many lines, and says how much that is.
    fn shorten(&mut self, lines: usize) {
        let hidden = self.lines.len().saturating_sub(lines);
        if hidden > 0 {
            self.lines.truncate(lines.saturating_sub(1));
            self.lines.push(format!("... and {} more", hidden + 1));
        }
    }
}

/// Lines that a section keeps, however small the screen is.
const LEAST_LINES: usize = 4;

/// Shortens the longest sections until all have room, as far as that goes.
fn fit(sections: &mut [Section], height: u16) {
    let mut sizes: Vec<usize> = sections.iter().map(|section| section.lines.len()).collect();
    let height = usize::from(height).saturating_sub(sections.len());
    while sizes.iter().sum::<usize>() > height {
        let longest = sizes.iter_mut().max_by_key(|size| **size);
        let Some(longest) = longest.filter(|size| **size > LEAST_LINES) else { break };
        *longest -= 1;
    }
    for (section, size) in sections.iter_mut().zip(sizes) {
        section.shorten(size);
    }
}

/// Draws the whole screen.
fn draw(view: &View<'_>, frame: &mut Frame<'_>) {
    let area = frame.area();
    render(view, area, frame.buffer_mut());
}

/// The screen as text, as wide as it is told and as high as it needs to be.
pub(crate) fn text(view: &View<'_>, width: u16) -> String {
    let sections = sections::all(view);
    let lines: u16 = sections.iter().map(Section::height).fold(0, u16::saturating_add);
    let area = Rect::new(0, 0, width, lines);
    let mut buffer = Buffer::empty(area);
    render_sections(&sections, area, &mut buffer);
    let mut text = String::new();
    for y in 0..area.height {
        let line: String =
            (0..area.width).filter_map(|x| buffer.cell((x, y))).map(Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn render(view: &View<'_>, area: Rect, buffer: &mut Buffer) {
    let [body, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(area);
    let mut sections = sections::all(view);
    fit(&mut sections, body.height);
    render_sections(&sections, body, buffer);
    let keys = Line::styled("q quit   r look again", Style::new().add_modifier(Modifier::DIM));
    keys.render(foot, buffer);
}

/// From the top down; what does not fit is cut at the bottom.
fn render_sections(sections: &[Section], area: Rect, buffer: &mut Buffer) {
    let mut y = area.y;
    for section in sections {
        let height = section.height().min(area.bottom().saturating_sub(y));
        if height == 0 {
            return;
        }
        let title = Style::new().add_modifier(Modifier::BOLD);
        let block = Block::new()
            .borders(Borders::TOP)
            .title(Line::styled(format!("{} ", section.title), title));
        let lines: Vec<Line<'_>> = section.lines.iter().map(|line| Line::raw(&**line)).collect();
        Paragraph::new(lines).block(block).render(Rect { y, height, ..area }, buffer);
        y += height;
    }
}
