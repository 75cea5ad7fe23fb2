//! Texts of a job on standard output, while they are generated.

use stoker_proto::v1;

use crate::client::{Client, ResultStream};
use crate::failure::Failure;
use crate::render::story::Story;
use crate::terminal::Terminal;

/// Texts that a person reads along with, one after the other; of a job with more the states say enough.
pub(crate) const MOST_READ: u32 = 16;

/// Shows what is generated for one job.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    terminal: &'a mut Terminal,
    story: Story,
    has_begun: bool,
}

impl<'a> Reading<'a> {
    /// Of a job with so many items.
    pub(crate) fn new(terminal: &'a mut Terminal, items: u32) -> Self {
        Self { terminal, story: Story::new(items), has_begun: false }
    }

    pub(crate) fn texts(&mut self, news: &v1::TextNews) -> Result<(), Failure> {
        self.has_begun = true;
        let show: String = news.pieces.iter().map(|piece| self.story.hear(piece)).collect();
        self.terminal.block(&show)?;
        self.terminal.flush()
    }

    /// Whether some of its texts were told.
    pub(crate) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Writes a line that is not of the story.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.pause()?;
        self.terminal.line(line)?;
        self.terminal.flush()
    }

    /// Leaves the line within which a text may have ended.
    pub(crate) fn pause(&mut self) -> Result<(), Failure> {
        let line_break = self.story.line_break();
        self.terminal.block(line_break)?;
        self.terminal.flush()
    }

    /// Shows what was not told of a job that has succeeded: nothing, but by a coordinator that tells states only.
    pub(crate) async fn finish(&mut self, id: &str, client: &Client) -> Result<(), Failure> {
        if self.story.is_complete() {
            return Ok(());
        }
        let mut parts = ResultStream::new(client.clone(), id.to_owned());
        while let Some(part) = parts.next().await? {
            let show = self.story.hear_results(&part);
            self.terminal.block(&show)?;
        }
        self.terminal.flush()
    }
}
