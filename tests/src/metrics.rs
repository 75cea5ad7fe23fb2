//! What programs tell of themselves.

use anyhow::{Context as _, bail, ensure};
use stoker_proto::v1::ListWorkersRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, ToSocketAddrs};

use crate::fleet::Fleet;

/// The metrics that are served here, in Prometheus' text format.
///
/// # Errors
/// When nothing answers, or something else does.
pub async fn read(address: impl ToSocketAddrs) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: stoker\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "metrics: {answer:.200}");
    let (_, text) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok(text.to_owned())
}

/// Those of the fleet's only worker.
///
/// # Errors
/// As [`read`], and when there are more or fewer.
pub async fn of_worker(fleet: &Fleet) -> anyhow::Result<String> {
    let workers = fleet.admin().await?.list_workers(ListWorkersRequest {}).await?.into_inner();
    let [worker] = workers.workers.as_slice() else { bail!("{workers:?}") };
    read(&worker.metrics_address).await
}
