//! Connections: their number, their limits, and what a server must promise.

use std::path::Path;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
    TimeoutType,
};
use futures::future::poll_fn;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use stoker_runtime::error::chain;
use stoker_runtime::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

use super::error::database;
use super::url::{PostgresUrl, Tls};

/// How long a caller waits for a free connection before it is told to come later.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
/// For a connection attempt with its handshake and its first statements.
const CREATE_LIMIT: Duration = Duration::from_secs(5);

/// A statement that takes longer is ended by the server; one that waits for a lock, sooner. A session
/// that goes silent in the middle of a transaction loses its locks. Statements here find their rows by
/// key: plans that read a whole table, which are right for a table that was small when its statistics
/// were taken, are never right for long.
const SETTINGS: &str = "SET search_path = stoker;
    SET statement_timeout = '15s';
    SET lock_timeout = '8s';
    SET idle_in_transaction_session_timeout = '5s';
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off";

/// Oldest release that has the 64-bit transaction ids which the events are followed by.
const OLDEST_SERVER: i32 = 140_000;

/// How to connect.
#[derive(Clone)]
pub(super) struct Connector {
    url: PostgresUrl,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// # Errors
    /// [`StoreError::Open`] when the certificate authorities cannot be read.
    pub(super) fn new(url: PostgresUrl) -> Result<Self, StoreError> {
        let tls = match url.tls() {
            Tls::Off => None,
            Tls::Verified { authorities } => Some(verified(authorities.as_deref())?),
        };
        Ok(Self { url, tls })
    }

    /// At most `size` connections, made when they are needed.
    pub(super) fn pool(&self, size: usize) -> Result<Pool, StoreError> {
        let config = self.url.config().clone();
        // A connection that is closed is found out before it is handed out.
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match self.tls.clone() {
            Some(tls) => Manager::from_config(config, tls, how),
            None => Manager::from_config(config, NoTls, how),
        };
        let prepare = Hook::async_fn(|client, _| {
            Box::pin(async move { prepare(client).await.map_err(HookError::message) })
        });
        Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT_LIMIT))
            .create_timeout(Some(CREATE_LIMIT))
            .recycle_timeout(Some(CREATE_LIMIT))
            .post_create(prepare)
            .build()
            .map_err(|error| StoreError::Open(format!("cannot make connections: {error}")))
    }
}

/// A connection from the pool, or why there is none.
pub(super) async fn take(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| match error {
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Overloaded,
        PoolError::Backend(error) => match database("connecting to the database")(error) {
            // Wrong credentials and the like: what was right at the start may be right again.
            error @ StoreError::Database { .. } => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the database refuses the connection");
                StoreError::Unavailable
            }
            error => error,
        },
        PoolError::PostCreateHook(HookError::Message(problem)) => {
            tracing::error!(%problem, "the database cannot be used");
            StoreError::Unavailable
        }
        PoolError::PostCreateHook(HookError::Backend(error)) => {
            database("preparing a connection")(error)
        }
        PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle)
        | PoolError::Closed
        | PoolError::NoRuntimeSpecified => StoreError::Unavailable,
    })
}

/// Sets a new connection up and checks that a commit on it will be durable; says why not.
async fn prepare(client: &Client) -> Result<(), String> {
    let problem = |error: tokio_postgres::Error| format!("a new connection failed: {error}");
    client.batch_execute(SETTINGS).await.map_err(problem)?;
    let ask = "SELECT current_setting('server_version_num')::int, current_setting('fsync')::bool,
                      current_setting('synchronous_commit'), pg_is_in_recovery()";
    let row = client.query_one(ask, &[]).await.map_err(problem)?;
    let (version, fsync): (i32, bool) = (row.get(0), row.get(1));
    let (commit, standby): (&str, bool) = (row.get(2), row.get(3));
    if version < OLDEST_SERVER {
        return Err(format!(
            "the server of --store is PostgreSQL {}; 14 or later is needed",
            version / 10_000
        ));
    }
    if standby {
        return Err("the server of --store is a standby, which takes no writes; name the primary"
            .to_owned());
    }
    if !fsync {
        return Err(
            "the server of --store runs with fsync=off: a power failure would lose accepted \
                    jobs or destroy the database; set fsync=on and restart it"
                .to_owned(),
        );
    }
    if commit == "off" {
        return Err("the server of --store answers commits before they are on disk \
                    (synchronous_commit=off for this server, database or user): a crash would lose \
                    accepted jobs; set synchronous_commit=on"
            .to_owned());
    }
    Ok(())
}

/// A connection outside the pool, which hears notifications.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) client: Client,
    /// Rung by every notification, and when the connection ends.
    pub(super) bell: Arc<Notify>,
}

impl Connector {
    /// Connects once, to listen.
    pub(super) async fn listen(&self, tasks: &Tasks) -> Result<Listening, StoreError> {
        let bell = Arc::new(Notify::new());
        let connecting = connect(self.url.config(), self.tls.clone(), tasks, Arc::clone(&bell));
        let connected = tokio::time::timeout(CREATE_LIMIT, connecting).await;
        let client = connected.map_err(|_elapsed| StoreError::Unavailable)?.map_err(|error| {
            StoreError::Database { doing: "connecting to the database", source: error.into() }
        })?;
        prepare(&client).await.map_err(StoreError::Open)?;
        Ok(Listening { client, bell })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("url", &self.url).finish_non_exhaustive()
    }
}

async fn connect(
    config: &Config,
    tls: Option<MakeRustlsConnect>,
    tasks: &Tasks,
    bell: Arc<Notify>,
) -> Result<Client, tokio_postgres::Error> {
    if let Some(tls) = tls {
        let (client, connection) = config.connect(tls).await?;
        tasks.spawn("database-connection", drive(connection, bell));
        return Ok(client);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tasks.spawn("database-connection", drive(connection, bell));
    Ok(client)
}

/// Moves the connection's bytes until it ends, which it does when its client is dropped.
async fn drive<T>(mut connection: Connection<Socket, T>, bell: Arc<Notify>)
where
    T: TlsStream + AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(_))) => bell.notify_one(),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "the listening connection to the database broke");
                break;
            }
            None => break,
        }
    }
    bell.notify_one();
}

/// TLS that checks the server's certificate and name.
fn verified(authorities: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let unusable = |problem: String| {
        StoreError::Open(format!("cannot verify the database's certificate: {problem}"))
    };
    let mut roots = RootCertStore::empty();
    if let Some(file) = authorities {
        let problem = |error| unusable(format!("reading {}: {error}", file.display()));
        for certificate in CertificateDer::pem_file_iter(file).map_err(problem)? {
            let refused = |error| unusable(format!("in {}: {error}", file.display()));
            roots.add(certificate.map_err(problem)?).map_err(refused)?;
        }
    } else {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // An authority of the system that is malformed vouches for nobody.
            let _ = roots.add(certificate);
        }
    }
    if roots.is_empty() {
        return Err(unusable(
            "there is no certificate authority; name a file with sslrootcert".to_owned(),
        ));
    }
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// What a start makes of an error: a sentence that says what to do.
pub(super) fn at_start(error: StoreError) -> StoreError {
    match error {
        StoreError::Open(problem) => StoreError::Open(problem),
        StoreError::Unavailable | StoreError::Overloaded => StoreError::Open(
            "the database of --store or STOKER_STORE does not answer: is it running, and reachable \
             from here?"
                .to_owned(),
        ),
        StoreError::Database { source, .. } => {
            // The driver shows what the server said, never with what it was called.
            StoreError::Open(format!(
                "the database of --store or STOKER_STORE cannot be used: {}",
                chain(&*source)
            ))
        }
        other => other,
    }
}
