use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde::Deserialize;

use super::*;
use crate::secret::Secret;
use crate::telemetry::TelemetrySettings;

#[derive(Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    #[arg(long)]
    listen: Option<String>,
    #[arg(long)]
    lease_time: Option<HumanDuration>,
    #[arg(long)]
    max_input: Option<ByteSize>,
    #[arg(long)]
    workers: Option<u32>,
    #[arg(long)]
    password: Option<Secret>,
    #[arg(long)]
    tags: Option<Vec<String>>,
    #[command(flatten)]
    #[serde(default)]
    telemetry: TelemetrySettings,
}

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    settings: Settings,
}

fn flags(arguments: &[&str]) -> Settings {
    Command::parse_from(std::iter::once("test").chain(arguments.iter().copied())).settings
}

struct TestFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(bytes: impl AsRef<[u8]>) -> TestFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stoker.toml");
    std::fs::write(&path, bytes).unwrap();
    TestFile { _folder: folder, path }
}

fn error_in(text: &str) -> String {
    parse_toml::<Settings>(text, "stoker.toml").unwrap_err().to_string()
}

#[test]
fn flags_hide_the_file_key_by_key() {
    let file = file(
        "listen = '127.0.0.1:1'\nlease-time = '30s'\nworkers = 2\ntags = ['a', 'b']\n\
         [telemetry]\nlog = 'debug'\nlog-format = 'json'\n",
    );
    let above = flags(&["--workers", "5", "--max-input", "4MiB", "--tags", "c", "--log", "warn"]);
    let settings = layered(Some(&file.path), above).unwrap();
    assert_eq!(settings.listen.as_deref(), Some("127.0.0.1:1"));
    assert_eq!(settings.lease_time.unwrap().get(), Duration::from_secs(30));
    assert_eq!(settings.workers, Some(5));
    assert_eq!(settings.max_input.unwrap().bytes(), 4 << 20);
    assert_eq!(settings.tags.unwrap(), ["c"]);
    assert_eq!(settings.telemetry.log.as_deref(), Some("warn"));
    assert_eq!(settings.telemetry.log_format, Some(crate::telemetry::LogFormat::Json));
    assert_eq!(settings.password, None);
}

#[test]
fn without_a_file_the_flags_are_all() {
    let settings = layered(None, flags(&["--workers", "3"])).unwrap();
    assert_eq!(settings, Settings { workers: Some(3), ..Settings::default() });
}

#[test]
fn secrets_survive_the_merge_and_stay_out_of_a_printed_configuration() {
    let file = file("password = 'from-the-file'");
    let settings = layered(Some(&file.path), flags(&[])).unwrap();
    assert_eq!(settings.password.as_ref().unwrap().expose(), "from-the-file");
    let settings = layered(Some(&file.path), flags(&["--password", "from-a-flag"])).unwrap();
    assert_eq!(settings.password.as_ref().unwrap().expose(), "from-a-flag");
    let printed = toml::to_string(&settings).unwrap();
    assert!(printed.contains("password = \"***\""), "{printed}");
}

#[test]
fn an_unknown_key_gets_its_place_and_a_suggestion() {
    assert_eq!(
        error_in("workers = 1\nlisten_ = 'x'\n"),
        "stoker.toml:2:1: in `listen_`: unknown field `listen_`, expected one of `listen`, \
         `lease-time`, `max-input`, `workers`, `password`, `tags`, `telemetry`; \
         did you mean `listen`?"
    );
    // The flag's spelling in the code is a likely slip.
    let error = error_in("lease_time = '30s'");
    assert!(error.ends_with("did you mean `lease-time`?"), "{error}");
    let error = error_in("[telemetry]\nlog-formt = 'json'");
    assert!(error.starts_with("stoker.toml:2:1: in `telemetry.log-formt`: "), "{error}");
    assert!(error.ends_with("did you mean `log-format`?"), "{error}");
}

#[test]
fn a_key_that_resembles_nothing_gets_no_suggestion() {
    let error = error_in("completely-different = 1");
    assert!(error.contains("unknown field") && !error.contains("did you mean"), "{error}");
}

#[test]
fn an_unknown_variant_gets_a_suggestion() {
    let error = error_in("[telemetry]\nlog-format = 'jsn'");
    assert!(error.starts_with("stoker.toml:2:14: in `telemetry.log-format`: "), "{error}");
    assert!(error.ends_with("did you mean `json`?"), "{error}");
}

#[test]
fn a_value_of_the_wrong_form_is_told_the_right_one() {
    let error = error_in("\n  lease-time = '30'");
    assert!(error.starts_with("stoker.toml:2:16: in `lease-time`: `30` is not a duration"));
    assert!(error.contains("\"30s\""), "{error}");
    let error = error_in("lease-time = 30");
    assert!(error.contains("in `lease-time`") && error.contains("\"30s\""), "{error}");
    let error = error_in("max-input = 1048576");
    assert!(error.contains("in `max-input`") && error.contains("\"256KiB\""), "{error}");
    let error = error_in("workers = 'many'");
    assert!(error.starts_with("stoker.toml:1:11: in `workers`: invalid type: string"), "{error}");
}

#[test]
fn broken_toml_gets_its_place_on_one_line() {
    let error = error_in("workers = 1\nlisten = \n");
    assert!(error.starts_with("stoker.toml:2:10: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
    let error = error_in("workers = 1\nworkers = 2\n");
    assert!(error.starts_with("stoker.toml:2:1: ") && error.contains("duplicate"), "{error}");
}

#[test]
fn columns_count_characters() {
    let error = error_in("tags = ['ä', 'ö', 3]");
    assert!(error.starts_with("stoker.toml:1:19: in `tags[2]`"), "{error}");
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let missing = read_toml::<Settings>(Path::new("/no/such/stoker.toml")).unwrap_err();
    assert!(missing.to_string().contains("/no/such/stoker.toml"), "{missing}");

    let binary = file(b"workers = 1\nlisten = '\xff'\n");
    let error = read_toml::<Settings>(&binary.path).unwrap_err().to_string();
    assert!(error.ends_with("stoker.toml:2: the file is not UTF-8 text"), "{error}");

    let huge = file(vec![b' '; 4 * 1024 * 1024 + 1]);
    let error = read_toml::<Settings>(&huge.path).unwrap_err().to_string();
    assert!(error.contains("larger than 4MiB"), "{error}");

    let invalid = file("workers = -1");
    let error = read_toml::<Settings>(&invalid.path).unwrap_err().to_string();
    assert!(error.contains("stoker.toml:1:11: in `workers`: "), "{error}");
}
