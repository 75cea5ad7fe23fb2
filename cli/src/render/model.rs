//! Models of the fleet's registry.

use serde::Serialize;
use stoker_core::request::Task;
use stoker_proto::{convert, v1};

use super::table::{Column, left, table};

/// A model as a document. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct ModelDocument<'a> {
    name: &'a str,
    task: &'static str,
    pool: &'a str,
}

/// A model for programs.
pub(crate) fn document(model: &v1::Model) -> ModelDocument<'_> {
    ModelDocument { name: &model.name, task: task(model), pool: &model.pool }
}

const COLUMNS: [Column; 3] = [left("MODEL"), left("TASK"), left("POOL")];

/// A line for each model.
pub(crate) fn rows(models: &[v1::Model]) -> String {
    table(&COLUMNS, models.iter().map(row))
}

fn row(model: &v1::Model) -> Vec<String> {
    vec![model.name.clone(), task(model).to_owned(), model.pool.clone()]
}

/// As `fleet.toml` has it.
fn task(model: &v1::Model) -> &'static str {
    convert::known_task(model.task()).map_or("unknown to this version", Task::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_line_up() {
        let model = |name: &str, task: v1::Task| v1::Model {
            name: name.to_owned(),
            task: task.into(),
            pool: "default".to_owned(),
        };
        assert_eq!(
            rows(&[model("echo", v1::Task::Echo), model("mini", v1::Task::TextEmbedding)]),
            "MODEL  TASK            POOL\n\
             echo   echo            default\n\
             mini   text-embedding  default\n"
        );
    }
}
