//! Waiting for a state, never for a time.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(20);

/// Asks again and again until `probe` brings something, and says what it saw last if it never does.
///
/// # Errors
/// Names what was waited for and the last status that the probe reported.
pub async fn until<T, F, Fut>(what: &str, within: Duration, mut probe: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<Result<T, String>>>,
{
    let deadline = Instant::now() + within;
    loop {
        let status = match probe().await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(status)) => status,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            anyhow::bail!("waited {within:?} for {what}; last seen: {status}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until nothing is left, as long as less is left within each `within`. `probe` answers how much is left,
/// and in words.
///
/// # Errors
/// When there is no progress, or the probe fails for as long.
pub async fn down_to_nothing<F, Fut>(
    what: &str,
    within: Duration,
    mut probe: F,
) -> anyhow::Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<(u64, String)>>,
{
    let mut least = u64::MAX;
    while least > 0 {
        least = until(what, within, || {
            let look = probe();
            async move {
                let (left, words) = look.await?;
                Ok(if left < least { Ok(left) } else { Err(words) })
            }
        })
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const SOON: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn as_long_as_less_is_left_it_is_waited_for() {
        let left = AtomicU64::new(5);
        let probe = || async { Ok((left.fetch_sub(1, Ordering::Relaxed) - 1, String::new())) };
        down_to_nothing("the end", SOON, probe).await.unwrap();
        assert_eq!(left.into_inner(), 0);
        let stuck = down_to_nothing("the end", SOON, || async { Ok((1, "one".to_owned())) }).await;
        assert!(stuck.unwrap_err().to_string().contains("one"));
    }
}
