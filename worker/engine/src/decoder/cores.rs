//! The threads that a step's products are shared by.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder, Yield};

/// A pool with a thread for each core.
pub(super) struct Cores(ThreadPool);

impl Cores {
    /// # Errors
    /// When the system gives no threads.
    pub(super) fn all() -> Result<Self, ThreadPoolBuildError> {
        Self::new(thread::available_parallelism().map_or(1, usize::from))
    }

    fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let name = |index| format!("step {index}");
        ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build().map(Self)
    }

    /// Runs some work whose parts the threads share. Until it ends they stay awake: it has hundreds of parts with moments
    /// between them that are shorter than what it takes to wake a thread. To everybody else they give way.
    pub(super) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let ended = &AtomicBool::new(false);
        self.0.scope(|scope| {
            let here = rayon::current_thread_index();
            scope.spawn_broadcast(move |_, thread| {
                if Some(thread.index()) != here {
                    help_until(ended);
                }
            });
            // Also when the work panics.
            let _end = SetAtEnd(ended);
            work()
        })
    }
}

fn help_until(ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        if rayon::yield_now() != Some(Yield::Executed) {
            thread::yield_now();
        }
    }
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn work_in_many_parts_ends_and_so_does_work_that_panics() {
        for threads in [1, 2, 5] {
            let cores = Cores::new(threads).unwrap();
            for round in 0..200_u64 {
                let sum = cores.run(|| {
                    let parts = 0..20_u64;
                    parts
                        .map(|part| (0..50_u64).into_par_iter().map(|n| n + part).sum::<u64>())
                        .sum::<u64>()
                });
                assert_eq!(sum, 20 * 1_225 + 50 * 190, "round {round}");
            }
            let panicked = catch_unwind(AssertUnwindSafe(|| cores.run(|| panic!("on purpose"))));
            assert!(panicked.is_err());
            assert_eq!(cores.run(|| 7), 7);
        }
    }
}
