//! The demo as a user runs it: a real model, a fleet of real processes, and a worker killed half way.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use stoker_tests::programs::command;

const SENTENCES: usize = 600;
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The first sentences of the demo's corpus, in a file.
fn corpus(folder: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(format!("{ROOT}/demo/corpus/austen.txt"))?;
    let sentences: Vec<&str> = text.lines().take(SENTENCES).collect();
    let path = folder.join("corpus.txt");
    std::fs::write(&path, sentences.join("\n"))?;
    Ok(path.display().to_string())
}

#[test]
fn a_corpus_is_embedded_though_a_worker_is_killed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let output = command("stoker")?
        .current_dir(ROOT)
        .args(["demo", "--output", "json", "--fleet", "demo/fleet.toml", "--job-items", "50"])
        .args(["--queries", "demo/queries.txt", "--corpus", &corpus(folder.path())?])
        .arg("--data")
        .arg(folder.path().join("data"))
        .stdin(Stdio::null())
        .output()
        .context("running the demo")?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    assert!(told.contains("with SIGKILL while it runs"), "{told}");
    let story: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let summary = &story["summary"];
    assert_eq!(summary["jobs_succeeded"], 12, "{summary}");
    assert_eq!(summary["items"], SENTENCES, "{summary}");
    assert_eq!(summary["dimensions"], 384, "{summary}");
    assert_eq!(summary["workers_killed"], 1, "{summary}");
    assert!(summary["lost_attempts"].as_u64() >= Some(1), "{summary}");
    for query in story["queries"].as_array().context("no queries")? {
        let nearest = &query["nearest"][0];
        assert!(nearest["cosine"].as_f64() > Some(0.2), "{query}");
    }
    Ok(())
}
