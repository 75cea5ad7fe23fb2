//! Doing the same for several ids: one that fails does not keep the others from their turn.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Runs `action` for each id, reports what fails, and ends with the first failure's exit code.
///
/// A coordinator that is away, or a reader that is gone, ends it at once.
pub(super) async fn for_each(
    ids: Vec<String>,
    context: &mut Context,
    mut action: impl AsyncFnMut(String, &mut Context) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut first: Option<Exit> = None;
    for id in ids {
        match action(id, context).await {
            Ok(()) => {}
            Err(failure) => match failure.exit() {
                Exit::Unreachable | Exit::BrokenPipe => return Err(failure),
                exit => {
                    failure.report();
                    first.get_or_insert(exit);
                }
            },
        }
    }
    first.map_or(Ok(()), |exit| Err(Failure::reported(exit)))
}
