//! A private moto server: own port, data in memory, gone with whoever started it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

const START_DEADLINE: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(50);
const LOG: &str = "moto.log";

/// Where `make deps` installs it, from the repository's root.
const INSTALLED: &str = ".cache/moto/bin/moto_server";

/// Waits for the end of its input, which comes when this process ends, however it ends; then all of its process group
/// goes. That also goes when the server ends.
const GUARD: &str = r#"{ "$@"; kill -KILL 0; } & read -r _; kill -KILL 0"#;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct MotoServer {
    address: SocketAddr,
    guard: Child,
    _folder: TempDir,
}

impl MotoServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// Says how to install moto when it is not here, and shows its log when it does not come up.
    pub fn start() -> anyhow::Result<Self> {
        let program = find()?;
        let folder = tempfile::Builder::new().prefix("stoker-moto-").tempdir()?;
        let log = File::create(folder.path().join(LOG))?;
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(&program)
            // Any port that is free at that moment; it prints which.
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            // As EC2, it is to know its own types.
            .env("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "true")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("starting moto")?;
        let address = listening(&mut guard, &folder.path().join(LOG))?;
        Ok(Self { address, guard, _folder: folder })
    }

    /// The server that all tests of one binary share, which lives as long as that; keep fleets apart.
    ///
    /// # Errors
    /// As [`MotoServer::start`], for every caller.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<MotoServer, String>> = OnceLock::new();
        let server = SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:?}")));
        server.as_ref().map_err(|error| anyhow::anyhow!(error.clone()))
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls an action past any client, and gives the answer's text.
    ///
    /// # Errors
    /// When it is refused.
    pub fn ask(
        &self,
        region: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action).append_pair("Version", "2016-11-15");
        form.extend_pairs(parameters);
        let body = form.finish();
        // The region is read from what would be the signature's scope.
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{region}/ec2/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n",
            self.address(),
            body.len()
        );
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(START_DEADLINE))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{action} was refused: {answer}");
        Ok(answer)
    }

    /// Puts an object of S3 at `BUCKET/NAME`, or makes the bucket of a path without a name.
    ///
    /// # Errors
    /// When it is refused.
    pub fn put(&self, path: &str, body: &[u8]) -> anyhow::Result<()> {
        let head = format!(
            "PUT /{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.address(),
            body.len()
        );
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(START_DEADLINE))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{path} was refused: {answer}");
        Ok(())
    }

    /// Variables for clients of S3 that reach this server at `address`, its own or a relay's.
    pub fn s3_variables(address: SocketAddr) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // It kills itself.
        let _ = self.guard.wait();
    }
}

/// Where the server listens, once its log says so. By then it accepts connections.
fn listening(guard: &mut Child, log: &Path) -> anyhow::Result<SocketAddr> {
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        let ended = guard.try_wait()?.is_some();
        let text = std::fs::read_to_string(log)?;
        let address = text.lines().find_map(|line| line.split_once("Running on http://"));
        if let Some((_, address)) = address.filter(|_| text.ends_with('\n')) {
            return address.trim().parse().with_context(|| format!("moto's address in {text}"));
        }
        ensure!(!ended, "moto ended; its log:\n{text}");
        ensure!(Instant::now() < deadline, "moto does not answer; its log:\n{text}");
        sleep(POLL);
    }
}

fn find() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let program = root.context("the repository's root")?.join(INSTALLED);
    if program.is_file() {
        return Ok(program);
    }
    bail!("there is no moto in {}: run `make deps`, or `make test`", program.display())
}
