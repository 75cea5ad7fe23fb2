//! The help texts as files, so that a change of them is part of a review.
//!
//! `STOKER_BLESS=1 cargo test -p stoker-cli help` writes them anew.

use std::path::PathBuf;

use crate::process::stoker;

const COMMANDS: [&[&str]; 39] = [
    &[],
    &["submit"],
    &["get"],
    &["list"],
    &["watch"],
    &["results"],
    &["cancel"],
    &["retry"],
    &["status"],
    &["top"],
    &["workers"],
    &["workers", "list"],
    &["workers", "cordon"],
    &["workers", "drain"],
    &["fleet"],
    &["fleet", "status"],
    &["fleet", "run"],
    &["fleet", "freeze"],
    &["fleet", "drain"],
    &["fleet", "panic"],
    &["fleet", "terminate"],
    &["fleet", "cordon"],
    &["explain"],
    &["cost"],
    &["doctor"],
    &["models"],
    &["queues"],
    &["dead-letters"],
    &["dead-letters", "list"],
    &["dead-letters", "show"],
    &["dead-letters", "redrive"],
    &["dead-letters", "discard"],
    &["check"],
    &["plan"],
    &["simulate"],
    &["dev"],
    &["demo"],
    &["completions"],
    &["version"],
];

#[tokio::test]
async fn help_texts_are_as_reviewed() {
    let bless = std::env::var_os("STOKER_BLESS").is_some();
    for command in COMMANDS {
        let run = stoker(&[command, &["--help"]].concat()).await.expect(0);
        assert_eq!(run.err, "", "{command:?}");
        let name = if command.is_empty() { "stoker".to_owned() } else { command.join("-") };
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/expected/help/{name}.txt"));
        if bless {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, run.out()).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(run.out(), expected, "{command:?}; bless it if the change is meant");
    }
}

#[tokio::test]
async fn the_help_names_every_exit_code() {
    let text = stoker(&["--help"]).await.expect(0).out();
    for code in ["0  done", "1  a job did not", "3  no such job", "4  the coordinator cannot"] {
        assert!(text.contains(code), "{code}: {text}");
    }
}
