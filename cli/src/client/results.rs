//! The results of a job as a stream of parts that are checked and come in order.

use std::time::Duration;

use stoker_proto::{convert, v1};
use stoker_runtime::retry::{Delays, Retryable};
use tonic::{Status, Streaming};

use super::{Client, refusal};
use crate::failure::Failure;

/// Times in a row that a broken stream is taken up again without progress.
const MAX_RESUMES: u32 = 5;

/// A component is a binary32 value.
const COMPONENT_BYTES: usize = 4;

/// Results of one job, from its first item to its last.
pub(crate) struct ResultStream {
    client: Client,
    job_id: String,
    next_item: u32,
    parts: Option<Streaming<v1::ResultsResponse>>,
    delays: Delays,
    resumes: u32,
}

impl ResultStream {
    pub(crate) fn new(client: Client, job_id: String) -> Self {
        Self {
            client,
            job_id,
            next_item: 0,
            parts: None,
            delays: Delays::new(Duration::from_millis(200), Duration::from_secs(3)),
            resumes: 0,
        }
    }

    /// Items received so far.
    pub(crate) const fn items(&self) -> u32 {
        self.next_item
    }

    /// The next part, which begins where the one before ended; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::ResultPart>, Failure> {
        loop {
            match self.receive().await {
                Ok(Some(part)) => {
                    self.check(&part)?;
                    self.next_item += part.items;
                    self.resumes = 0;
                    self.delays.reset();
                    return Ok(Some(part));
                }
                Ok(None) => return Ok(None),
                Err(status) if self.may_resume(&status) => {
                    self.resumes += 1;
                    self.parts = None;
                    tokio::time::sleep(self.delays.next_delay()).await;
                }
                Err(status) => {
                    return Err(refusal::failure("get the results", &self.client.server, &status));
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<v1::ResultPart>, Status> {
        if self.parts.is_none() {
            let request =
                v1::ResultsRequest { job_id: self.job_id.clone(), first_item: self.next_item };
            let mut jobs = self.client.jobs.clone();
            let call = jobs.results(request);
            let answer = tokio::time::timeout(self.client.timeout, call).await;
            let answer = answer.map_err(|_| Status::deadline_exceeded("no answer in time"))??;
            self.parts = Some(answer.into_inner());
        }
        let Some(parts) = &mut self.parts else { return Ok(None) };
        let message = tokio::time::timeout(self.client.timeout, parts.message()).await;
        let message =
            message.map_err(|_| Status::deadline_exceeded("the results stopped coming"))?;
        match message? {
            None => Ok(None),
            Some(message) => message.part.map_or_else(
                || Err(Status::internal("an answer without a part")),
                |part| Ok(Some(part)),
            ),
        }
    }

    fn may_resume(&self, status: &Status) -> bool {
        self.resumes < MAX_RESUMES
            && (self.parts.is_some() || self.next_item > 0)
            && refusal::retryable(status) != Retryable::Permanent
    }

    fn check(&self, part: &v1::ResultPart) -> Result<(), Failure> {
        let Some(problem) = problem(part, self.next_item) else { return Ok(()) };
        Err(Failure::failed(format!(
            "cannot use the results of job {}: at item {} {problem}",
            self.job_id, self.next_item
        ))
        .hint("this is a fault of the coordinator; its log says more"))
    }
}

/// What is wrong with a part that should begin at `first_item`.
fn problem(part: &v1::ResultPart, first_item: u32) -> Option<String> {
    if part.first_item != first_item {
        return Some(format!("the coordinator sent item {}", part.first_item));
    }
    match &part.output {
        None => {
            Some("the coordinator sent a kind of result that this version does not know".into())
        }
        _ if part.items == 0 || first_item.checked_add(part.items).is_none() => {
            Some(format!("the coordinator sent a part of {} items", part.items))
        }
        Some(output) => convert::output_problem(output, part.items)
            .map(|(field, problem)| format!("`{field}` {problem}")),
    }
}

/// The vectors of a checked part, one after another.
pub(crate) fn vectors(embeddings: &v1::Embeddings) -> impl Iterator<Item = Vec<f32>> + '_ {
    rows(&embeddings.vectors, embeddings.dimensions as usize)
}

/// The scores of a checked part, item by item.
pub(crate) fn scores(classifications: &v1::Classifications) -> impl Iterator<Item = Vec<f32>> + '_ {
    rows(&classifications.scores, classifications.labels.len())
}

fn rows(bytes: &[u8], width: usize) -> impl Iterator<Item = Vec<f32>> + '_ {
    let bytes_of_one = width.saturating_mul(COMPONENT_BYTES).max(1);
    bytes.chunks_exact(bytes_of_one).map(|row| convert::numbers(row).collect())
}

#[cfg(test)]
mod tests {
    use stoker_proto::v1::result_part::Output;

    use super::*;

    fn embeddings(first_item: u32, items: u32, dimensions: u32, bytes: usize) -> v1::ResultPart {
        let vectors = vec![0; bytes].into();
        let output = Some(Output::Embeddings(v1::Embeddings { dimensions, vectors }));
        v1::ResultPart { first_item, items, output }
    }

    #[test]
    fn a_part_must_hold_what_it_says() {
        assert_eq!(problem(&embeddings(4, 2, 3, 24), 4), None);
        for bad in [
            embeddings(5, 2, 3, 24),
            embeddings(4, 2, 3, 23),
            embeddings(4, 2, 0, 0),
            embeddings(4, 0, 3, 0),
            v1::ResultPart { first_item: 4, items: 1, output: None },
            v1::ResultPart {
                first_item: 4,
                items: 2,
                output: Some(Output::Texts(v1::Texts { texts: vec!["a".into()] })),
            },
        ] {
            assert!(problem(&bad, 4).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn components_are_little_endian() {
        let bytes: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|f| f.to_le_bytes()).collect();
        let embeddings = v1::Embeddings { dimensions: 1, vectors: bytes.into() };
        assert_eq!(vectors(&embeddings).collect::<Vec<_>>(), [vec![1.5], vec![-2.0]]);
    }
}
