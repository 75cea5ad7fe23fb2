//! A private RabbitMQ node for tests: own ports, own data, loopback only, gone with its owner.
//!
//! It never talks to a broker or an Erlang port mapper that it did not start. Both of its
//! processes run under a guard and end with this one.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::guard::{AtEnd, Guarded};
use crate::ports::Port;
use crate::programs::{signal_process, tail};

const START_DEADLINE: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(50);

/// Debian's folder of the scripts that do not switch users.
const DEFAULT_SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// A running RabbitMQ node; dropping it kills it and deletes its data.
#[derive(Debug)]
pub struct RabbitMqNode {
    scripts: PathBuf,
    dir: PathBuf,
    // Dropped in this order: the mapper's guard also deletes the data, and ports are free when nobody listens.
    server: Mutex<Option<Guarded>>,
    _mapper: Guarded,
    ports: Ports,
}

#[derive(Debug)]
struct Ports {
    amqp: Port,
    distribution: Port,
    mapper: Port,
}

impl RabbitMqNode {
    /// Starts a node and waits until it speaks AMQP.
    ///
    /// # Errors
    /// Says what to install when there is no RabbitMQ here, and shows the end of the node's log
    /// when it does not come up.
    pub fn start() -> anyhow::Result<Self> {
        let scripts = find_scripts()?;
        let dir = tempfile::Builder::new()
            .prefix("stoker-rabbitmq-")
            .tempdir()
            .context("making a folder for a RabbitMQ node")?
            .keep();
        prepare(&dir)?;
        let ports = Ports {
            amqp: Port::reserve()?,
            distribution: Port::reserve()?,
            mapper: Port::reserve()?,
        };
        let mut mapper = base_command("epmd", &dir, &ports);
        mapper.args(["-port", &ports.mapper.number().to_string(), "-address", "127.0.0.1"]);
        let mapper = Guarded::spawn(&mapper, (&dir, LOG), AtEnd::DeleteData)
            .context("starting Erlang's port mapper; to install it: apt-get install erlang-base")?;
        let node = Self { scripts, dir, ports, server: Mutex::new(None), _mapper: mapper };
        node.restart()?;
        Ok(node)
    }

    /// The node that all tests of one binary share, started by the first; keep fleets apart.
    ///
    /// # Errors
    /// As [`RabbitMqNode::start`], for every caller.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<RabbitMqNode, String>> = OnceLock::new();
        let node = SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:?}")));
        node.as_ref().map_err(|error| anyhow::anyhow!(error.clone()))
    }

    /// `amqp://guest:guest@127.0.0.1:<port>`.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@{}", self.address())
    }

    /// Where the node listens for AMQP.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.amqp.number()).into()
    }

    /// Kills the node without notice. Its data stays.
    pub fn kill9(&self) {
        drop(self.server().take());
    }

    /// Shuts the node down in good order.
    ///
    /// # Errors
    /// When it does not go within 30 s; it is killed then.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.ctl(&["shutdown", "--wait"])?;
        self.kill9();
        Ok(())
    }

    /// Starts the node (again) on the same ports with the same data, and waits until it speaks
    /// AMQP. Kills it first if it runs.
    ///
    /// # Errors
    /// With the end of the node's log.
    pub fn restart(&self) -> anyhow::Result<()> {
        let mut server = self.server();
        drop(server.take());
        let command = self.command("rabbitmq-server");
        let mut guarded = Guarded::spawn(&command, (&self.dir, LOG), AtEnd::Nothing)
            .context("starting a RabbitMQ node")?;
        let deadline = Instant::now() + START_DEADLINE;
        while !self.speaks_amqp() {
            let ended = guarded.has_ended()?;
            if ended || Instant::now() > deadline {
                let what = if ended { "ended" } else { "did not come up" };
                bail!("the RabbitMQ node {what}; the end of its log:\n{}", self.log_tail());
            }
            sleep(POLL);
        }
        *server = Some(guarded);
        Ok(())
    }

    /// Runs `rabbitmqctl` on this node and gives its output.
    ///
    /// # Errors
    /// With everything it printed.
    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command("rabbitmqctl")
            .arg("--quiet")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .context("running rabbitmqctl")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rabbitmqctl {args:?} failed: {text}{errors}");
        Ok(text)
    }

    /// Writes the node's registry of quorum queues to disk, which it does by itself half a second
    /// after a declaration. A node that is killed before forgets a queue it confirmed messages in:
    /// the queue comes back empty and without a leader (seen on 3.10.8).
    ///
    /// # Errors
    /// As [`RabbitMqNode::ctl`].
    pub fn flush_queue_registry(&self) -> anyhow::Result<()> {
        let answer = self.ctl(&["eval", "dets:sync(ra_directory_reverse)."])?;
        ensure!(answer.trim() == "ok", "flushing the queue registry: {answer}");
        Ok(())
    }

    /// Closes every client connection from the broker's side.
    ///
    /// # Errors
    /// As [`RabbitMqNode::ctl`].
    pub fn stop_connections(&self) -> anyhow::Result<()> {
        self.ctl(&["close_all_connections", "closed by a test"]).map(drop)
    }

    /// Adds a user that may do everything; answers its URI for the node behind `address`.
    ///
    /// # Errors
    /// As [`RabbitMqNode::ctl`].
    pub fn uri_of(
        &self,
        user: &str,
        password: &str,
        address: SocketAddr,
    ) -> anyhow::Result<String> {
        self.ctl(&["add_user", user, password])?;
        self.ctl(&["set_permissions", user, ".*", ".*", ".*"])?;
        Ok(format!("amqp://{user}:{password}@{address}"))
    }

    /// The node's process stands still while `pause` runs.
    ///
    /// # Errors
    /// When it is gone.
    pub fn frozen(&self, pause: Duration) -> anyhow::Result<()> {
        let pid = self.ctl(&["eval", "os:getpid()."])?;
        let pid = pid.trim().trim_matches('"');
        signal_process(pid, "STOP")?;
        sleep(pause);
        signal_process(pid, "CONT")
    }

    /// Ends the consumers of messages that are held longer than this, with a check every second. For
    /// channels that are opened afterwards; gone with a restart.
    ///
    /// # Errors
    /// As [`RabbitMqNode::ctl`].
    pub fn consumer_timeout(&self, timeout: Duration) -> anyhow::Result<()> {
        let set = format!(
            "application:set_env(rabbit, channel_tick_interval, 1000), \
             application:set_env(rabbit, consumer_timeout, {}).",
            timeout.as_millis()
        );
        self.ctl(&["eval", &set]).map(drop)
    }

    /// All that the node has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join(LOG)).unwrap_or_default()
    }

    /// The last lines that the node printed.
    pub fn log_tail(&self) -> String {
        tail(&self.dir.join(LOG))
    }

    fn server(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, script: &str) -> Command {
        base_command(self.scripts.join(script), &self.dir, &self.ports)
    }

    /// Whether the listener answers a protocol header with a frame: it opens last of all.
    fn speaks_amqp(&self) -> bool {
        let ask = || -> std::io::Result<u8> {
            let mut stream = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"AMQP\x00\x00\x09\x01")?;
            let mut first = [0];
            stream.read_exact(&mut first)?;
            Ok(first[0])
        };
        matches!(ask(), Ok(1))
    }
}

const LOG: &str = "node.log";

fn find_scripts() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("STOKER_RABBITMQ_SCRIPTS")
        .map_or_else(|| PathBuf::from(DEFAULT_SCRIPTS), PathBuf::from);
    ensure!(
        folder.join("rabbitmq-server").exists(),
        "no RabbitMQ server in {}: install it (Debian, Ubuntu: apt-get install rabbitmq-server) or \
         name the folder of its rabbitmq-server script in STOKER_RABBITMQ_SCRIPTS",
        folder.display()
    );
    Ok(folder)
}

fn prepare(dir: &Path) -> anyhow::Result<()> {
    let home = dir.join("home");
    for folder in [&home, &dir.join("data"), &dir.join("log")] {
        fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    // Erlang insists on a cookie that nobody else can read. It only opens this node.
    let cookie = home.join(".erlang.cookie");
    let mut secret = String::new();
    let mut random = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    for byte in random {
        write!(secret, "{byte:02x}")?;
    }
    fs::write(&cookie, secret)?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
    fs::write(dir.join("plugins"), "[].\n")?;
    let config = "log.console = true\nlog.console.level = info\nlog.file = false\n\
                  disk_free_limit.absolute = 10MB\n";
    fs::write(dir.join("rabbitmq.conf"), config)?;
    Ok(())
}

/// Nothing of the caller's environment may lead to another broker.
fn base_command(program: impl AsRef<std::ffi::OsStr>, dir: &Path, ports: &Ports) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    command
        .env_clear()
        .env("PATH", path)
        .env("LANG", "C.UTF-8")
        .env("HOME", dir.join("home"))
        .env("ERL_EPMD_PORT", ports.mapper.number().to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", "stoker-test@localhost")
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports.amqp.number().to_string())
        .env("RABBITMQ_DIST_PORT", ports.distribution.number().to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_PID_FILE", dir.join("pid"))
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
        // Files that do not exist, so that the machine's own are not read.
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("none.config"))
        .env("RABBITMQ_CONF_ENV_FILE", dir.join("none.conf"))
        .env("ERL_CRASH_DUMP", dir.join("erl_crash.dump"));
    command
}
