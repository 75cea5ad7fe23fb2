//! `stoker dev` over scripts that stand for the services: who is started, restarted and ended, when.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Child;

use crate::fake::{Fake, State};
use crate::process::{command_of, stoker_in};

const LIMIT: Duration = Duration::from_mins(1);
const FLEET: &str = "fleet = \"x\"\n[classes.standard]\nmax-wait = \"60s\"\n\
                     [models.echo]\ntask = \"echo\"\n[pools.default]\nmodels = [\"echo\"]\n";

/// A folder with the command and scripts for the services.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        // Beside the command, because a hard link does not reach into another file system; and the
        // command looks for the services where it is itself, whatever link it was called by.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::hard_link(env!("CARGO_BIN_EXE_stoker"), folder.path().join("stoker")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/programs/service.sh");
        for name in ["stoker-coordinator", "stoker-worker", "stoker-engine-echo"] {
            symlink(&script, folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("fleet.toml"), FLEET).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What happened so far, one line each.
    fn events(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("events")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn wait_for(&self, what: &str, count: usize) -> Vec<String> {
        let found = async {
            loop {
                let found: Vec<_> =
                    self.events().into_iter().filter(|event| event.starts_with(what)).collect();
                if found.len() >= count {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(LIMIT, found).await;
        found.unwrap_or_else(|_| panic!("no {count} times `{what}` in {:?}", self.events()))
    }

    fn start(&self, environment: &[(&str, &str)]) -> Child {
        let arguments =
            ["dev", "--listen", "127.0.0.1:0", "--data", "data", "--fleet", "fleet.toml"];
        let mut command = command_of(&self.path("stoker"), &arguments);
        command.current_dir(self.0.path());
        command.env("EVENTS", self.path("events")).env("PATH", "/usr/bin:/bin");
        command.envs(environment.iter().copied());
        command.spawn().unwrap()
    }
}

/// A fleet that is ready.
struct Fleet {
    folder: Folder,
    child: Child,
    ready: String,
    _coordinator: Fake,
}

impl Fleet {
    async fn start(environment: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let mut child = folder.start(environment);
        let started = folder.wait_for("stoker-coordinator started", 1).await;
        let address = option(&started[0], "--listen");
        let state = State { workers_ready: 2, ..State::default() };
        let coordinator = Fake::start_at(&address, state).await;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await.expect("it is not ready");
        let ready = line.unwrap().unwrap_or_default();
        folder.wait_for("stoker-worker started", 2).await;
        Self { folder, child, ready, _coordinator: coordinator }
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it runs");
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// The exit code and what was said on standard error.
    async fn ended(mut self) -> (Option<i32>, String, Folder) {
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        let ended = async {
            stderr.read_to_string(&mut err).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(LIMIT, ended).await.expect("it does not end");
        (status.code(), err, self.folder)
    }
}

fn option(event: &str, name: &str) -> String {
    let mut words = event.split(' ').skip_while(|word| *word != name);
    words.nth(1).unwrap_or_else(|| panic!("no {name} in {event}")).to_owned()
}

fn pid(event: &str) -> Pid {
    let id = event.split(' ').nth(2).expect("an event has a process id");
    Pid::from_raw(id.parse().unwrap()).unwrap()
}

#[tokio::test]
async fn a_fleet_starts_and_ends_in_order() {
    let fleet = Fleet::start(&[]).await;
    let ready = fleet.ready.clone();
    assert!(ready.starts_with("Stoker is ready at http://127.0.0.1:"), "{ready}");
    assert!(ready.contains(" with 2 workers. Try: stoker --server http://"), "{ready}");
    fleet.signal(Signal::INT);
    let (code, err, folder) = fleet.ended().await;
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("coordinator | hello from stoker-coordinator\n"), "{err}");
    assert!(err.contains("worker-2    | hello from stoker-worker\n"), "{err}");
    let events = folder.events();
    let ends: Vec<_> = events.iter().filter(|event| event.contains("terminated")).collect();
    assert_eq!(ends.len(), 3, "{events:?}");
    assert!(ends[2].starts_with("stoker-coordinator"), "workers end first: {events:?}");
}

#[tokio::test]
async fn the_broker_s_uri_is_in_the_environment_and_never_on_a_command_line() {
    let uri = "amqp://user:hunter2@127.0.0.1:1";
    let fleet = Fleet::start(&[("STOKER_BROKER_URI", uri)]).await;
    fleet.signal(Signal::TERM);
    let (_, err, folder) = fleet.ended().await;
    assert!(!err.contains("hunter2"), "{err}");
    for event in folder.wait_for("stoker-", 3).await.iter().filter(|e| e.contains("started")) {
        assert_eq!(event.matches("hunter2").count(), 1, "{event}");
        assert!(event.contains(&format!(" broker={uri} ")), "{event}");
    }
}

#[tokio::test]
async fn a_memory_budget_is_handed_on_to_workers_and_to_nobody_else() {
    let fleet = Fleet::start(&[("STOKER_MEMORY_BUDGET", "80MiB")]).await;
    fleet.signal(Signal::TERM);
    let (_, err, folder) = fleet.ended().await;
    let events = folder.events();
    let started: Vec<_> = events.iter().filter(|event| event.contains(" started ")).collect();
    assert_eq!(started.len(), 3, "{err}");
    for event in started {
        let told = event.contains(" --memory-budget 80MiB ");
        assert_eq!(told, event.starts_with("stoker-worker "), "{event}");
    }
}

#[tokio::test]
async fn a_killed_worker_is_started_again() {
    let fleet = Fleet::start(&[]).await;
    let workers = fleet.folder.wait_for("stoker-worker started", 2).await;
    kill_process(pid(&workers[0]), Signal::KILL).unwrap();
    let workers = fleet.folder.wait_for("stoker-worker started", 3).await;
    assert!(workers[2].contains("--coordinator http://127.0.0.1:"), "{workers:?}");
    fleet.signal(Signal::INT);
    let (code, err, _) = fleet.ended().await;
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("was killed (SIGKILL); starting it again in 200ms"), "{err}");
    assert!(err.contains("is back (pid "), "{err}");
}

#[tokio::test]
async fn nothing_outlives_a_command_that_was_killed() {
    let mut fleet = Fleet::start(&[]).await;
    fleet.child.kill().await.unwrap();
    fleet.folder.wait_for("stoker-coordinator eof", 1).await;
    fleet.folder.wait_for("stoker-worker eof", 2).await;
    let started: Vec<_> =
        fleet.folder.events().into_iter().filter(|event| event.contains("started")).collect();
    let gone = async {
        while started.iter().any(|event| test_kill_process(pid(event)).is_ok()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("a service is still there");
}

#[tokio::test]
async fn the_fleet_ends_with_its_coordinator() {
    let fleet = Fleet::start(&[]).await;
    let coordinator = fleet.folder.wait_for("stoker-coordinator started", 1).await;
    kill_process(pid(&coordinator[0]), Signal::KILL).unwrap();
    let (code, err, folder) = fleet.ended().await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("error: coordinator was killed (SIGKILL)\n"), "{err}");
    assert!(err.contains("hello from stoker-coordinator\n"), "{err}");
    folder.wait_for("stoker-worker terminated", 2).await;
}

#[tokio::test]
async fn a_coordinator_that_cannot_start_is_shown_with_its_own_words() {
    let folder = Folder::new();
    fs::write(folder.path("events.broken-stoker-coordinator"), "").unwrap();
    let child = folder.start(&[]);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("it goes on");
    let output = output.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("error: coordinator exited with code 1\n"), "{err}");
    assert!(err.contains("    stoker-coordinator: this cannot work\n"), "{err}");
}

#[tokio::test]
async fn a_worker_that_cannot_start_is_given_up() {
    let folder = Folder::new();
    fs::write(folder.path("events.broken-stoker-worker"), "").unwrap();
    let child = folder.start(&[]);
    let started = folder.wait_for("stoker-coordinator started", 1).await;
    let _coordinator = Fake::start_at(&option(&started[0], "--listen"), State::default()).await;
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("it goes on");
    let output = output.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("exited with code 1; taking the fleet down"), "{err}");
    assert!(err.contains("    stoker-worker: this cannot work\n"), "{err}");
    folder.wait_for("stoker-coordinator terminated", 1).await;
}

#[tokio::test]
async fn a_missing_program_is_named_with_the_command_that_builds_it() {
    let folder = Folder::new();
    fs::remove_file(folder.path("stoker-worker")).unwrap();
    let child = folder.start(&[]);
    let output = child.wait_with_output().await.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.starts_with("error: cannot find stoker-worker in "), "{err}");
    assert!(err.contains("cargo build -p stoker-worker\n"), "{err}");
    assert!(!folder.path("data").exists(), "nothing is made before all is there");
}

#[tokio::test]
async fn a_port_in_use_is_said_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = stoker_in(folder.path(), &["dev", "--listen", &address]).await.expect(2);
    assert!(run.err.contains("is in use by another process"), "{}", run.err);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}
