//! Wrong arguments and files: what they say, and that they say it before anything happens.

use crate::process::{stoker, stoker_in};

#[tokio::test]
async fn wrong_arguments_are_code_2_and_say_what_to_do() {
    for (arguments, expected) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["sumbit"], "'submit'"),
        (&["submit", "a"], "--model <NAME>"),
        (&["submit", "-m", "m", "--label", "novalue", "a"], "write it as KEY=VALUE"),
        (&["submit", "-m", "m", "--split", "0", "a"], "invalid value '0' for '--split <N>'"),
        (&["submit", "-m", "m", "--deadline", "soon", "a"], "`soon` is not a duration"),
        (&["submit", "-m", "m", "--no-wait", "--results", "a"], "cannot be used with"),
        (&["submit", "-m", "m", "--file", "f", "a"], "cannot be used with"),
        (&["list", "--state", "done"], "possible values: queued"),
        (&["list", "--output", "yaml"], "possible values: table, json"),
        (&["--server", "localhost:7070", "list"], "write it as `http://127.0.0.1:7070`"),
        (&["--server", "https://h:1", "list"], "asks for TLS"),
        (&["watch"], "<ID>..."),
        (&["dead-letters", "discard"], "<ID>..."),
        (&["dev", "--listen", "0.0.0.0:7070"], "can be reached from other machines"),
        (&["dev", "--broker", "rabbit:secret@host"], "write `embedded`, or a URI"),
        (&["demo"], "--corpus <FILE>"),
    ] {
        let run = stoker(arguments).await.expect(2);
        assert!(run.err.contains(expected), "{arguments:?}: {}", run.err);
        assert_eq!(run.out(), "", "{arguments:?}");
        assert!(!run.err.contains("secret"), "{arguments:?}: {}", run.err);
    }
}

#[tokio::test]
async fn a_good_fleet_file_is_summarized() {
    let folder = tempfile::tempdir().unwrap();
    let text = "fleet = \"x\"\n[classes.standard]\nmax-wait = \"60s\"\n\
                [models.echo]\ntask = \"echo\"\n[pools.default]\nmodels = [\"echo\"]\n";
    std::fs::write(folder.path().join("fleet.toml"), text).unwrap();
    let run = stoker_in(folder.path(), &["check"]).await.expect(0);
    assert!(run.out().starts_with("fleet.toml is valid\nfleet:          x\n"), "{}", run.out());
    let run = stoker_in(folder.path(), &["check", "fleet.toml", "-o", "json"]).await.expect(0);
    assert_eq!(run.json()["models"][0], "echo");
}

#[tokio::test]
async fn every_problem_of_a_fleet_file_is_reported_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let text = "fleet = \"x\"\n[classes.standard]\nmax-wait = \"0s\"\n\
                [models.m]\ntask = \"text-embedding\"\n[pools.default]\nmodels = [\"other\"]\n";
    std::fs::write(folder.path().join("bad.toml"), text).unwrap();
    let run = stoker_in(folder.path(), &["check", "bad.toml"]).await.expect(1);
    for key in ["models.m.source", "pools.default.models"] {
        assert!(run.err.contains(key), "{key}: {}", run.err);
    }
    assert!(run.err.lines().count() > 2, "{}", run.err);
}

#[tokio::test]
async fn a_fleet_file_that_is_not_toml_or_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.toml"), "fleet = 1\nq").unwrap();
    let run = stoker_in(folder.path(), &["check", "bad.toml"]).await.expect(1);
    assert!(run.err.starts_with("error: bad.toml:2:2: "), "{}", run.err);
    std::fs::write(folder.path().join("typo.toml"), "fleet = \"x\"\nclases = 1\n").unwrap();
    let run = stoker_in(folder.path(), &["check", "typo.toml"]).await.expect(1);
    assert!(run.err.contains("did you mean `classes`?"), "{}", run.err);
    let run = stoker_in(folder.path(), &["check", "none.toml"]).await.expect(2);
    assert!(run.err.contains("none.toml"), "{}", run.err);
}

#[tokio::test]
async fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = stoker(&["completions", shell]).await.expect(0);
        assert!(run.out().contains("dead-letters"), "{shell}");
    }
}
