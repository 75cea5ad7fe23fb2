//! How far a set of jobs has come: a bar on a terminal, a line now and then elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stoker_proto::v1;

use super::state::is_terminal;
use super::text::grouped;
use crate::terminal::{Terminal, note};

/// The last known state of each job of a set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    jobs: BTreeMap<String, v1::Job>,
}

/// How far the whole set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) items_done: u64,
    pub(crate) jobs_ended: u64,
}

impl Tally {
    pub(crate) fn update(&mut self, job: v1::Job) {
        self.jobs.insert(job.id.clone(), job);
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &v1::Job> {
        self.jobs.values()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&v1::Job> {
        self.jobs.get(id)
    }

    pub(crate) fn extent(&self) -> Extent {
        let ended = self.jobs.values().filter(|job| is_terminal(job.state)).count();
        Extent {
            items_done: self.jobs.values().map(|job| u64::from(job.items_done)).sum(),
            jobs_ended: ended as u64,
        }
    }
}

/// What shows the progress on standard error.
#[derive(Debug)]
pub(crate) enum Progress {
    Bar { bar: ProgressBar, jobs: u64 },
    Lines(Lines),
}

/// Progress where no terminal is: a line at each tenth.
#[derive(Debug)]
pub(crate) struct Lines {
    items: u64,
    jobs: u64,
    tenths_told: u64,
}

impl Progress {
    pub(crate) fn new(terminal: &Terminal, items: u64, jobs: u64) -> Self {
        if !terminal.err_is_terminal() {
            return Self::Lines(Lines { items, jobs, tenths_told: 0 });
        }
        let style = ProgressStyle::with_template(
            "{bar:40} {percent:>3}%  {human_pos}/{human_len} items  {msg}  {elapsed}",
        )
        .expect("the template is valid")
        .progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(items), ProgressDrawTarget::stderr());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self::Bar { bar, jobs }
    }

    pub(crate) fn show(&mut self, extent: Extent) {
        match self {
            Self::Bar { bar, jobs } => {
                bar.set_position(extent.items_done);
                bar.set_message(format!("{}/{jobs} jobs", extent.jobs_ended));
            }
            Self::Lines(lines) => {
                if let Some(line) = lines.advance(extent) {
                    note(&line);
                }
            }
        }
    }

    /// Says something without disturbing the bar.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Bar { bar, .. } => bar.suspend(|| note(text)),
            Self::Lines(_) => note(text),
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Lines {
    fn advance(&mut self, extent: Extent) -> Option<String> {
        let tenths = (extent.items_done * 10).checked_div(self.items).unwrap_or(10).min(10);
        if tenths <= self.tenths_told {
            return None;
        }
        self.tenths_told = tenths;
        Some(format!(
            "{}/{} items, {}/{} jobs",
            grouped(extent.items_done),
            grouped(self.items),
            extent.jobs_ended,
            self.jobs
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_at_each_tenth_and_not_twice() {
        let mut lines = Lines { items: 1_000, jobs: 2, tenths_told: 0 };
        let mut at = |items_done| lines.advance(Extent { items_done, jobs_ended: 1 });
        assert_eq!(at(99), None);
        assert_eq!(at(100).as_deref(), Some("100/1,000 items, 1/2 jobs"));
        assert_eq!(at(150), None);
        assert_eq!(at(90), None, "a crash may take progress back");
        assert_eq!(at(1_000).as_deref(), Some("1,000/1,000 items, 1/2 jobs"));
    }

    #[test]
    fn a_tally_counts_the_newest_state() {
        let mut tally = Tally::default();
        let mut job = v1::Job { id: "a".into(), items_done: 3, ..v1::Job::default() };
        tally.update(job.clone());
        job.items_done = 5;
        job.state = v1::JobState::Failed as i32;
        tally.update(job);
        assert_eq!(tally.extent(), Extent { items_done: 5, jobs_ended: 1 });
    }
}
