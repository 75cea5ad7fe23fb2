//! The binary: its flags, its refusals, and how it ends.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const FLEET: &str = "fleet = 'test'\n[classes.standard]\nmax-wait = '60s'\n\
    [models.echo]\ntask = 'echo'\n[pools.default]\nmodels = ['echo']\n";

fn coordinator(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stoker-coordinator"));
    std::fs::write(folder.join("fleet.toml"), FLEET).unwrap();
    command.current_dir(folder).env_clear().args(["--listen", "127.0.0.1:0"]);
    command
}

fn run(command: &mut Command) -> (Output, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    (output, told)
}

#[test]
fn the_settings_can_be_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.env("STOKER_BROKER_URI", "amqp://me:hunter2@mq").arg("--print-config");
    let (output, _) = run(&mut command);
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("listen = \"127.0.0.1:0\""), "{shown}");
    assert!(shown.contains("amqp://me:***@mq:5672"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn bad_settings_are_told_in_one_line_and_a_code() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (["--listen", "0.0.0.0:0"], "--insecure"),
        (["--fleet", "missing.toml"], "missing.toml"),
        (["--broker", "hunter2"], "STOKER_BROKER_URI"),
        (["--log", "stoker=loud"], "--log"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stoker-coordinator"));
        std::fs::write(folder.path().join("fleet.toml"), FLEET).unwrap();
        command.current_dir(folder.path()).env_clear().args(arguments);
        let (output, told) = run(&mut command);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(part), "{told}");
        assert!(!told.contains("panicked") && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_check_tells_which_certificates_are_good_and_which_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let check = |certificates: &[&str]| {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/identity");
        let files: Vec<String> =
            certificates.iter().map(|name| beside.join(name).display().to_string()).collect();
        let mut command = coordinator(folder.path());
        if !files.is_empty() {
            let accounts = ["--identity-accounts", "123456789012", "--identity-certificates"];
            command.args(accounts).arg(files.join(","));
        }
        let (output, told) = run(command.arg("check"));
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &told)
    };
    let (code, told) = check(&[]);
    assert!(code == Some(0) && told.contains("need not prove"), "{told}");
    assert!(told.contains("there is no operator token"), "{told}");
    let (code, told) = check(&["trusted.pem"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("123456789012") && told.contains("good until 2195-01-01"), "{told}");
    let (code, told) = check(&["trusted.pem", "expired.pem"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("expired.pem has expired on 2016-01-01"), "{told}");
    for (file, said) in [("missing.pem", "cannot read"), ("short.pem", "1024 bits")] {
        let (code, told) = check(&[file]);
        assert!(code == Some(1) && told.contains(said), "{told}");
    }
    assert!(!folder.path().join(".stoker").exists(), "nothing was started");
}

#[test]
fn every_problem_of_a_fleet_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    let bad = FLEET.replace("60s", "0s").replace("['echo']", "['echo', 'mega']");
    std::fs::write(folder.path().join("fleet.toml"), bad).unwrap();
    let (output, told) = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("fleet.toml: classes.standard.max-wait"), "{told}");
    assert!(told.contains("fleet.toml: pools.default.models"), "{told}");
}

#[test]
fn it_ends_in_order_when_its_standard_input_does() {
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("port");
    let mut command = coordinator(folder.path());
    command.args(["--exit-on-stdin-eof", "--data", "data", "--port-file", "port"]);
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !port.exists() {
        assert!(Instant::now() < deadline, "it does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"this is ignored\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("listening") && told.contains("the coordinator has ended"), "{told}");
}
