//! Points at which a test has a process die; nothing of it is compiled without the feature
//! `crash-points`.
//!
//! With `STOKER_CRASH_POINT=NAME` the process sends itself SIGKILL when it passes the point for the
//! first time, with `NAME@N` for the N-th time. No destructor runs and no buffer is flushed: what the
//! outside sees is what a loss of power or the kernel's out-of-memory killer would leave.

use std::future::Future;

/// Dies here, if a test has asked for it.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    armed::passed(name);
}

/// Dies here, if a test has asked for it.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn point(_name: &str) {}

/// A step with a point `NAME.before` and a point `NAME.after`.
pub async fn around<T>(name: &str, step: impl Future<Output = T>) -> T {
    #[cfg(feature = "crash-points")]
    armed::passed(&format!("{name}.before"));
    let done = step.await;
    #[cfg(feature = "crash-points")]
    armed::passed(&format!("{name}.after"));
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
    done
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    const VARIABLE: &str = "STOKER_CRASH_POINT";

    struct Armed {
        name: String,
        /// Passes that are left before the last one.
        left: AtomicU32,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, number) = text.split_once('@').unwrap_or((&text, "1"));
        let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
        Some(Armed { name: name.to_owned(), left: AtomicU32::new(number) })
    });

    pub(super) fn passed(name: &str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // A process can always kill itself.
            let _ = kill_process(getpid(), Signal::KILL);
            // Nothing may happen between the signal and its effect.
            loop {
                std::thread::park();
            }
        }
    }
}
