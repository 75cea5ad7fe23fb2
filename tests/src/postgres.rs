//! A private Postgres server for tests: own port, own data, loopback only, gone with its owner.
//!
//! It syncs as a real one does, since the store refuses one that does not.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::guard::{AtEnd, Guarded};
use crate::ports::Port;
use crate::programs::tail;

const START_DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(20);
const LOG: &str = "server.log";

/// Debian's folder of releases.
const RELEASES: &str = "/usr/lib/postgresql";

/// The database's superuser; local connections need no password.
const USER: &str = "stoker";

/// A running server; dropping it kills it and deletes its data.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    dir: PathBuf,
    account: Option<Account>,
    // Dropped in this order: the keeper deletes the data, and the port is free when nobody listens.
    server: Mutex<Option<Guarded>>,
    _keeper: Guarded,
    port: Port,
}

/// Whom the server runs as when the tests run as root, which it refuses.
#[derive(Debug, Clone)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl PostgresServer {
    /// Makes and starts a server, and waits until it answers.
    ///
    /// # Errors
    /// Says what to install when there is no Postgres here, and shows the end of the server's log when
    /// it does not come up.
    pub fn start() -> anyhow::Result<Self> {
        let programs = find_programs()?;
        let dir = tempfile::Builder::new()
            .prefix("stoker-postgres-")
            .tempdir()
            .context("making a folder for a Postgres server")?
            .keep();
        let account = account()?;
        if let Some(Account { uid, gid, .. }) = &account {
            chown(&dir, Some(*uid), Some(*gid)).context("giving the server its folder")?;
        }
        let mut keeper = Command::new("sleep");
        keeper.arg("infinity").env("PATH", path());
        let keeper = Guarded::spawn(&keeper, (&dir, LOG), AtEnd::DeleteData)?;
        let port = Port::reserve()?;
        let server =
            Self { programs, dir, port, account, server: Mutex::new(None), _keeper: keeper };
        server.init()?;
        server.restart()?;
        Ok(server)
    }

    /// The server that all tests of one binary share; keep to databases of your own.
    ///
    /// # Errors
    /// As [`PostgresServer::start`], for every caller.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<PostgresServer, String>> = OnceLock::new();
        let server = SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:?}")));
        server.as_ref().map_err(|error| anyhow::anyhow!(error.clone()))
    }

    /// Makes a new database and gives its address.
    ///
    /// # Errors
    /// With what the server said.
    pub fn database(&self) -> anyhow::Result<String> {
        let name = format!("test_{}", stoker_runtime::ids::event_id().as_uuid().simple());
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// The folder of the databases' tables, without the write-ahead log.
    pub fn tables(&self) -> PathBuf {
        self.data().join("base")
    }

    /// Runs SQL with `psql` and gives what it prints, a row a line.
    ///
    /// # Errors
    /// With what the server said.
    pub fn sql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER])
            .args(["-p", &self.port.number().to_string(), "-d", database, "-c", sql])
            .env_remove("PGPASSWORD")
            .stdin(Stdio::null())
            .output()
            .context("running psql")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{sql} failed: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Checks every index of the databases of tests, and that it names every row of its table.
    ///
    /// # Errors
    /// With what `amcheck` found.
    pub fn check_indices(&self) -> anyhow::Result<()> {
        let databases =
            self.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'test%'")?;
        for database in databases.lines() {
            self.sql(database, "CREATE EXTENSION IF NOT EXISTS amcheck")?;
            let check = "SELECT count(bt_index_check(c.oid, true)) FROM pg_index i \
                         JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
                         WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisvalid";
            self.sql(database, check).with_context(|| format!("the indices of {database}"))?;
        }
        Ok(())
    }

    /// Kills all of the server's processes without notice. Its data stays.
    pub fn kill9(&self) {
        let mut server = self.server();
        // Each session is a process group of its own, and would otherwise live until it noticed.
        let children = self.postmaster().map(children_of).unwrap_or_default();
        drop(server.take());
        let pids: Vec<String> = children.iter().map(ToString::to_string).collect();
        if !pids.is_empty() {
            // Those that have gone already need no kill.
            let _ = Command::new("kill").arg("-KILL").args(&pids).stderr(Stdio::null()).status();
        }
        let gone = |pid: &u32| !Path::new("/proc").join(pid.to_string()).exists();
        let deadline = Instant::now() + START_DEADLINE;
        while !children.iter().all(gone) && Instant::now() < deadline {
            sleep(POLL);
        }
    }

    /// Starts the server (again) with the same data, and waits until it answers. Kills it first if it
    /// runs.
    ///
    /// # Errors
    /// With the end of the server's log.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.kill9();
        let mut server = self.server();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let mut guarded = Guarded::spawn(&command, (&self.dir, LOG), AtEnd::Nothing)
            .context("starting a Postgres server")?;
        let deadline = Instant::now() + START_DEADLINE;
        while !self.answers() {
            let ended = guarded.has_ended()?;
            if ended || Instant::now() > deadline {
                let what = if ended { "ended" } else { "did not come up" };
                bail!("the Postgres server {what}; the end of its log:\n{}", self.log_tail());
            }
            sleep(POLL);
        }
        *server = Some(guarded);
        Ok(())
    }

    /// The last lines that the server printed.
    pub fn log_tail(&self) -> String {
        tail(&self.dir.join(LOG))
    }

    /// Puts lines into the server's settings; [`PostgresServer::restart`] makes it read them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, lines: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        let file = self.data().join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(file)?;
        file.write_all(lines.as_bytes()).context("writing the server's settings")
    }

    /// Gives the server a certificate for this name, and has it refuse connections without TLS but for
    /// those over its socket; answers the file of the certificate's authority.
    ///
    /// # Errors
    /// When `openssl` cannot make one, or the server does not come up with it.
    pub fn enable_tls(&self, name: &str) -> anyhow::Result<PathBuf> {
        let leaf = format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n");
        fs::write(self.dir.join("leaf.ext"), leaf)?;
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
        let authority_files = ["-keyout", "ca.key", "-out", "ca.pem"];
        self.openssl(&[&authority[..], &key, &authority_files].concat())?;
        let request = ["req", "-new", "-subj", "/CN=test server"];
        let request_files = ["-keyout", "server.key", "-out", "server.csr"];
        self.openssl(&[&request[..], &key, &request_files].concat())?;
        let sign = ["x509", "-req", "-days", "2", "-in", "server.csr", "-out", "server.pem"];
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "leaf.ext"];
        self.openssl(&[&sign[..], &by].concat())?;
        let file = |name| self.dir.join(name).display().to_string();
        self.configure(&format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            file("server.pem"),
            file("server.key")
        ))?;
        let access = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        fs::write(self.data().join("pg_hba.conf"), access)?;
        self.restart()?;
        Ok(self.dir.join("ca.pem"))
    }

    fn openssl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = self.as_account(Path::new("openssl"));
        let output = command.args(arguments).stdin(Stdio::null()).output();
        let output = output.context("running openssl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {arguments:?} failed: {errors}");
        Ok(())
    }

    fn init(&self) -> anyhow::Result<()> {
        let output = self
            .command("initdb")
            .arg("-D")
            .arg(self.data())
            .args(["-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8", "--no-locale"])
            .stdin(Stdio::null())
            .output()
            .context("running initdb")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "initdb failed: {errors}");
        self.configure(&format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             max_connections = 300\nlogging_collector = off\n",
            self.port.number(),
            self.dir.display()
        ))
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn answers(&self) -> bool {
        let status = Command::new(self.programs.join("pg_isready"))
            .args(["-q", "-t", "1", "-h", "127.0.0.1", "-p", &self.port.number().to_string()])
            .status();
        status.is_ok_and(|status| status.success())
    }

    fn server(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn postmaster(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("postmaster.pid")).ok()?.lines().next()?.parse().ok()
    }

    fn command(&self, program: &str) -> Command {
        self.as_account(&self.programs.join(program))
    }

    /// Nothing of the caller's environment may lead to another server.
    fn as_account(&self, program: &Path) -> Command {
        let mut command = match &self.account {
            Some(Account { name, .. }) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={name}"), format!("--regid={name}")])
                    .args(["--clear-groups", "--"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env_clear().env("PATH", path()).env("LC_ALL", "C").current_dir(&self.dir);
        command
    }
}

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into())
}

fn find_programs() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("STOKER_POSTGRES_BIN") {
        return Ok(folder.into());
    }
    let number = |folder: &PathBuf| {
        folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or(0)
    };
    let mut releases: Vec<PathBuf> =
        fs::read_dir(RELEASES).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    releases.sort_by_key(number);
    let installed = releases.into_iter().rev().map(|folder| folder.join("bin"));
    let on_path = std::env::split_paths(&path()).collect::<Vec<_>>();
    installed.chain(on_path).find(|folder| folder.join("initdb").exists()).with_context(|| {
        format!(
            "no Postgres server in {RELEASES} or on PATH: install it (Debian, Ubuntu: apt-get install \
             postgresql) or name the folder of its programs in STOKER_POSTGRES_BIN"
        )
    })
}

/// `None` when the tests do not run as root.
fn account() -> anyhow::Result<Option<Account>> {
    let own = fs::metadata("/proc/self").context("finding out whom the tests run as")?;
    if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("looking for an unprivileged user")?;
    let account = |wanted: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, ..] = fields[..] else { return None };
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            (name == wanted).then(|| Account { name: name.to_owned(), uid, gid })
        })
    };
    let found = account("postgres").or_else(|| account("nobody"));
    found.map(Some).context("neither a user `postgres` nor `nobody` to run Postgres as")
}

/// Processes that were started by this one.
fn children_of(parent: u32) -> Vec<u32> {
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent_of = |pid: u32| -> Option<u32> {
        // The name, in parentheses, may hold blanks.
        stat(pid)?.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}
