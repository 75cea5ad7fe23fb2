//! `stoker models`: what jobs may name.

use stoker_proto::v1;

use crate::context::Context;
use crate::failure::Failure;
use crate::render::model;

/// Show the models that jobs may name, and what each does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(Args {}: Args, context: &mut Context) -> Result<(), Failure> {
    let models = context.client.list_models(v1::ListModelsRequest {}).await?.models;
    if context.terminal.is_json() {
        let documents: Vec<_> = models.iter().map(model::document).collect();
        return context.terminal.json(&serde_json::json!({ "models": documents }));
    }
    context.terminal.block(&model::rows(&models))
}
