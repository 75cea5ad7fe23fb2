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
