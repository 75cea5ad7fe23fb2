//! What is being generated, for those who watch.

use stoker_core::job::{JobRecord, Lease};
use stoker_proto::convert::{self, Fence};
use stoker_proto::status;
use stoker_proto::v1;
use tonic::Status;

use super::attempts;
use crate::context::Context;
use crate::texts::Wanted;

/// Of watched jobs only anything is read or kept.
pub(super) async fn tell(
    context: &Context,
    told: &[v1::AttemptTexts],
) -> Result<Vec<v1::Told>, Status> {
    attempts::require_few(told.len(), "attempts")?;
    let fences = told.iter().enumerate().map(|(index, one)| {
        convert::fence(one.fence.as_ref(), &format!("attempts[{index}].fence"))
    });
    let fences: Vec<Fence> =
        fences.collect::<Result<_, _>>().map_err(|violation| status::invalid(&[violation]))?;
    let read = fences.iter().map(|fence| fence.job).filter(|job| context.texts.is_read(*job));
    let records = attempts::read(context, read.collect()).await?;
    let answers = fences.iter().zip(told).map(|(fence, told)| {
        let Some(record) = records.get(&fence.job).filter(|record| is_current(record, fence))
        else {
            return v1::Told::default();
        };
        let pieces: Vec<v1::TextPiece> = told
            .pieces
            .iter()
            .filter(|piece| piece.item < record.job.items_total)
            .cloned()
            .collect();
        match context.texts.tell(fence.job, fence.attempt, &pieces) {
            Wanted::Yes(bytes) => v1::Told { watched: true, bytes },
            Wanted::No => v1::Told::default(),
        }
    });
    Ok(answers.collect())
}

/// Whether the attempt may speak for its job.
fn is_current(record: &JobRecord, fence: &Fence) -> bool {
    let current = |lease: &Lease| lease.attempt == fence.attempt && lease.token == fence.token;
    record.job.lease().is_some_and(current)
}
