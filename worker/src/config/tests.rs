//! Settings: what is wrong is named, with what to do.

use super::*;

const FLEET: &str = r#"
    fleet = "dev"
    [classes.standard]
    max-wait = "60s"
    [models.mini]
    task = "text-embedding"
    source = "hf:owner/name"
    [models.echo]
    task = "echo"
    [pools.gpu]
    models = ["mini"]
    [pools.cpu]
    models = ["echo"]
"#;

fn config(fleet: &str) -> (tempfile::TempDir, Config) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fleet.toml");
    std::fs::write(&path, fleet).unwrap();
    let pool = Some(PoolName::new("cpu").unwrap());
    (directory, Config { fleet: Some(path), pool, ..Config::default() })
}

fn refused(change: impl FnOnce(&mut Config)) -> String {
    let (_directory, mut config) = config(FLEET);
    change(&mut config);
    config.check().unwrap_err().to_string()
}

#[test]
fn defaults_are_enough_beside_a_fleet_file() {
    let (_directory, config) = config(FLEET);
    let settings = config.check().unwrap();
    assert_eq!(settings.coordinator.uri().to_string(), "http://127.0.0.1:7070/");
    assert_eq!((settings.slots.get(), settings.grace.as_secs()), (8, 30));
    assert_eq!(settings.broker, BrokerChoice::Embedded);
    assert_eq!(settings.models, [ModelName::new("echo").unwrap()]);
    assert!(settings.metrics_listen.ip().is_loopback());
    assert_eq!(
        (settings.device, settings.lanes, settings.engine),
        (DeviceChoice::Auto, None, None)
    );
    assert!(settings.echo_engine.is_absolute());
}

#[test]
fn the_only_pool_needs_no_name() {
    let (_directory, config) = config(
        &FLEET
            .replace("[pools.cpu]\n    models = [\"echo\"]", "")
            .replace("[\"mini\"]", "[\"mini\", \"echo\"]"),
    );
    let settings = Config { pool: None, ..config }.check().unwrap();
    assert_eq!((settings.pool.as_str(), settings.models.len()), ("gpu", 2));
}

#[test]
fn what_the_fleet_does_not_have_is_answered_with_what_it_has() {
    let text = refused(|config| config.pool = Some(PoolName::new("tpu").unwrap()));
    assert!(text.contains("`tpu`") && text.contains("cpu, gpu"), "{text}");
    let text = refused(|config| config.pool = None);
    assert!(text.contains("--pool") && text.contains("cpu, gpu"), "{text}");
    let text = refused(|config| config.models = Some(vec![ModelName::new("mini").unwrap()]));
    assert!(text.contains("`mini`") && text.contains("it serves: echo"), "{text}");
}

#[test]
fn a_bad_fleet_file_is_refused_with_all_its_problems() {
    let (_directory, config) = config(&FLEET.replace("[\"echo\"]", "[\"ecko\"]"));
    let text = config.check().unwrap_err().to_string();
    assert!(text.contains("fleet.toml") && text.contains("ecko"), "{text}");
    assert!(text.lines().count() >= 3, "an unknown model, and one without a pool: {text}");
    let text = refused(|config| config.fleet = Some("no-such-file.toml".into()));
    assert!(text.contains("--fleet"), "{text}");
}

#[test]
fn addresses_and_numbers_are_checked() {
    for url in ["127.0.0.1:7070", "https://host:1", "ftp://host", "not a url", "http://"] {
        let text = refused(|config| config.coordinator = Some(url.to_owned()));
        assert!(text.contains("http://127.0.0.1:7070"), "{url}: {text}");
    }
    assert!(refused(|config| config.slots = Some(0)).contains("`slots` must be at least 1"));
    assert!(refused(|config| config.slots = Some(5_000)).contains("the limit is 1000"));
    assert!(refused(|config| config.lanes = Some(0)).contains("`lanes` must be at least 1"));
    assert!(refused(|config| config.lanes = Some(257)).contains("`lanes` is 257"));
}

#[test]
fn a_broker_uri_never_shows_in_an_error() {
    let text = refused(|config| config.broker = Some(Secret::new("redis://user:hunter2@host")));
    assert!(text.contains("amqp://") && !text.contains("hunter2"), "{text}");
    let (_directory, mut config) = config(FLEET);
    config.broker = Some(Secret::new("amqp://user:hunter2@host"));
    assert!(!format!("{:?}", config.check().unwrap()).contains("hunter2"));
}

#[test]
fn printed_settings_hold_every_default_and_no_secret() {
    let (_directory, mut config) = config(FLEET);
    config.broker = Some(Secret::new("amqp://user:hunter2@host"));
    let text = toml::to_string(&config.with_defaults()).unwrap();
    for key in [
        "coordinator",
        "slots = 8",
        "grace = \"30s\"",
        "device = \"auto\"",
        "engine-stall-limit",
        "broker",
    ] {
        assert!(text.contains(key), "{key} in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let again: Config = toml::from_str(&text).unwrap();
    assert_eq!(again.slots, Some(8));
}
