//! Whether the coordinator can do its work, from what it saw of its parts a moment ago.

use tokio::sync::watch;

/// What is wrong, if anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Why no call can be answered.
    pub store_problem: Option<String>,
    /// Why no job can be released. Jobs are accepted all the same.
    pub broker_problem: Option<String>,
}

impl Verdict {
    /// All is well.
    pub const READY: Self = Self { store_problem: None, broker_problem: None };

    /// The first thing that is wrong.
    pub fn problem(&self) -> Option<&str> {
        self.store_problem.as_deref().or(self.broker_problem.as_deref())
    }
}

/// The latest verdict; clones show the same.
#[derive(Debug, Clone)]
pub struct Readiness {
    verdict: watch::Sender<Verdict>,
}

impl Default for Readiness {
    /// Not ready: nothing was seen yet.
    fn default() -> Self {
        let store_problem = Some("the coordinator is starting".to_owned());
        Self { verdict: watch::Sender::new(Verdict { store_problem, broker_problem: None }) }
    }
}

impl Readiness {
    pub fn set(&self, verdict: Verdict) {
        self.verdict.send_if_modified(|present| {
            let differs = *present != verdict;
            if differs {
                *present = verdict;
            }
            differs
        });
    }

    pub fn get(&self) -> Verdict {
        self.verdict.borrow().clone()
    }

    /// Sees the present verdict and every later one.
    pub fn subscribe(&self) -> watch::Receiver<Verdict> {
        let mut receiver = self.verdict.subscribe();
        receiver.mark_changed();
        receiver
    }
}
