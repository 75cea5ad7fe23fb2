//! Work that waits for a disk or a driver, on threads that may wait.

use tokio::task::{JoinError, spawn_blocking};

/// Runs the work on a thread that may wait, and gives what it gives. A panic goes on here. What was begun goes on when
/// nobody waits for it any more.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // It was not begun, because the runtime ends; so does whoever waits for it.
        Err(Err(_)) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_result_comes_back() {
        assert_eq!(blocking(|| 7).await, 7);
    }

    #[tokio::test]
    #[should_panic(expected = "of the work")]
    async fn a_panic_of_the_work_is_one_of_whoever_waits() {
        blocking(|| panic!("of the work")).await;
    }

    #[test]
    fn work_of_a_runtime_that_ended_is_no_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = handle.enter();
        let work = std::pin::pin!(blocking(|| ()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(work.poll(&mut context).is_pending());
    }
}
