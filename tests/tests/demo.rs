//! The demo as a user runs it: a real model, a fleet of real processes, and a worker killed half way; then a fleet that
//! buys its machines.

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

/// One spot machine at a time, which is soon taken back, and one on-demand machine that stands in for it.
const SCALED: &str = r#"
fleet = "demo-scaling"
[classes.standard]
max-wait = "10s"
[models.echo]
task = "echo"
delay = "50ms"
[pools.default]
models = ["echo"]
[pools.default.scaling]
max = 2
boot = "2s"
[[pools.default.offerings]]
instance-type = "gpu"
zone = "local"
capacity = "spot"
price = 2.40
[[pools.default.offerings]]
instance-type = "gpu"
zone = "local"
price = 8.00
[budget]
per-hour = 32.0
[provider.local]
boot = "500ms"
capacity = 1
interruptions = { every = "5s", notice = "2s" }
"#;

/// The places of these words in a text, one after the other.
fn in_order(text: &str, words: &[&str]) -> Result<(), String> {
    let mut rest = text;
    for word in words {
        let at = rest.find(word).ok_or_else(|| format!("no `{word}` where it should be"))?;
        rest = &rest[at + word.len()..];
    }
    Ok(())
}

#[test]
fn a_fleet_buys_machines_for_the_load_loses_some_and_gives_all_back() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let fleet = folder.path().join("fleet.toml");
    std::fs::write(&fleet, SCALED)?;
    let output = command("stoker")?
        .current_dir(folder.path())
        .args(["demo", "--autoscale", "--output", "json", "--data", "data", "--fleet"])
        .arg(&fleet)
        .stdin(Stdio::null())
        .output()
        .context("running the demo")?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    // On a busy machine the end may be known before the notice is: then only that is told.
    let load = ["now work comes", "buying spot", "ready for work", " it back"];
    let bridge = ["now work comes", "buying on-demand", "no more work comes"];
    let rest = ["no more work comes", "all jobs have ended", "no machine, $0.00 an hour"];
    for scene in [&load[..], &bridge, &rest] {
        if let Err(missing) = in_order(&told, scene) {
            panic!("{missing}: {told}");
        }
    }
    let bill: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| bill[name].as_u64().unwrap_or_default();
    assert!(number("jobs") > 0, "{bill}");
    assert!(number("spot_machines") >= 1 && number("on_demand_machines") >= 1, "{bill}");
    assert!(number("taken_back") >= 1, "{bill}");
    assert!((1..=2).contains(&number("most_machines")), "never above the caps: {bill}");
    assert!(bill["paid"].as_f64() > Some(0.0), "{bill}");
    Ok(())
}
