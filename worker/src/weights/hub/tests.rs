//! The hub's client against a hub of our own on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

const REPOSITORY: &str = "owner/model";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS_DIGEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[derive(Default)]
struct Served {
    files: BTreeMap<&'static str, Vec<u8>>,
    /// Answer everything with this status.
    status: Option<u16>,
    /// Send only this many bytes of the weights and hang up.
    cut: Option<usize>,
    /// Accept and never answer.
    silent: bool,
    /// Hold the weights back until this many have asked which files there are.
    held_until_asked: usize,
    asked: usize,
    /// The first byte of the weights, which the client asks for before each try.
    tries: usize,
    fetched: Vec<String>,
    tokens: BTreeSet<String>,
}

/// A hub that serves one repository.
struct FakeHub {
    address: SocketAddr,
    served: Arc<Mutex<Served>>,
}

impl FakeHub {
    fn start(names: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let content = |name: &&'static str| (*name, format!("content of {name}").into_bytes());
        let mut files: BTreeMap<_, _> = names.iter().map(content).collect();
        files.entry("modules.json").and_modify(|file| *file = MODULES.as_bytes().to_vec());
        let served = Arc::new(Mutex::new(Served { files, ..Served::default() }));
        let shared = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream.unwrap(), &shared));
            }
        });
        Self { address, served }
    }

    fn served(&self) -> std::sync::MutexGuard<'_, Served> {
        self.served.lock().unwrap()
    }

    fn hub(&self, home: &tempfile::TempDir) -> Hub {
        let config = HubConfig {
            home: Some(home.path().to_owned()),
            endpoint: Some(format!("http://{}/", self.address)),
            token: Some(Secret::new("hf_secret")),
        };
        Hub::new(&config).unwrap()
    }
}

fn answer(mut stream: TcpStream, shared: &Mutex<Served>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(request)) = lines.next() {
        let mut headers = BTreeMap::new();
        while let Some(Ok(line)) = lines.next() {
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut served = shared.lock().unwrap();
        served.tokens.extend(headers.get("authorization").cloned());
        if served.silent {
            drop(served);
            std::thread::park();
            return;
        }
        if path.ends_with(WEIGHTS) {
            while served.asked < served.held_until_asked {
                drop(served);
                std::thread::sleep(Duration::from_millis(5));
                served = shared.lock().unwrap();
            }
        }
        let response = respond(&mut served, &path, headers.get("range").map(String::as_str));
        drop(served);
        if stream.write_all(&response).is_err() || closes(&response) {
            return;
        }
    }
}

fn closes(response: &[u8]) -> bool {
    String::from_utf8_lossy(response).contains("connection: close")
}

fn respond(served: &mut Served, path: &str, range: Option<&str>) -> Vec<u8> {
    if let Some(status) = served.status {
        return format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").into_bytes();
    }
    if path.starts_with("/api/models/") {
        served.asked += 1;
        let files: Vec<_> =
            served.files.keys().map(|name| format!("{{\"rfilename\":\"{name}\"}}")).collect();
        let body = format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", files.join(","));
        let length = body.len();
        return format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes();
    }
    let prefix = format!("/{REPOSITORY}/resolve/{COMMIT}/");
    let Some((name, content)) = path
        .strip_prefix(&prefix)
        .and_then(|name| served.files.get_key_value(name))
        .map(|(name, content)| (*name, content.clone()))
    else {
        return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec();
    };
    let (first, last) = range.unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(content.len() - 1);
    if first >= content.len() {
        return b"HTTP/1.1 416 No\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    let etag = if name == WEIGHTS { WEIGHTS_DIGEST } else { name };
    let etag = etag.replace('/', "-");
    let size = content.len();
    let mut body = content[first..=last].to_vec();
    let length = body.len();
    served.tries += usize::from(name == WEIGHTS && last == 0);
    if last + 1 == size && size > 1 {
        served.fetched.push(name.to_owned());
        if let Some(cut) = served.cut.filter(|_| name == WEIGHTS) {
            body.truncate(cut);
        }
    }
    let head = format!(
        "HTTP/1.1 206 Partial\r\netag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n\
         content-range: bytes {first}-{last}/{size}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    [head.into_bytes(), body].concat()
}

const WEIGHTS: &str = "model.safetensors";

const MODULES: &str = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;

const ALL: [&str; 11] = [
    "config.json",
    "tokenizer.json",
    WEIGHTS,
    "pooling/config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
    "pytorch_model.bin",
    "1_Pooling/config.json",
    "README.md",
];

async fn get(hub: &Hub) -> Result<Downloaded, WeightsError> {
    hub.get(REPOSITORY, "main", Layout::SentenceTransformers).await
}

fn reason(error: &WeightsError) -> &HubError {
    match error {
        WeightsError::Hub { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_model_is_downloaded_once_and_only_what_an_engine_needs() {
    let server = FakeHub::start(&ALL);
    let home = tempfile::tempdir().unwrap();
    let found = get(&server.hub(&home)).await.unwrap();
    assert_eq!(found.sha256.as_deref(), Some(WEIGHTS_DIGEST));
    for name in &ALL[..8] {
        let content = fs::read(found.directory.join(name)).unwrap();
        assert_eq!(content, server.served().files[name], "{name}");
    }
    for name in &ALL[8..] {
        assert!(!found.directory.join(name).exists(), "{name}");
    }
    assert_eq!(server.served().fetched.len(), 8);
    assert_eq!(server.served().fetched[7], WEIGHTS, "the weights last");
    assert_eq!(server.served().tokens, BTreeSet::from(["Bearer hf_secret".to_owned()]));

    assert_eq!(get(&server.hub(&home)).await.unwrap(), found);
    assert_eq!(server.served().fetched.len(), 8, "nothing is fetched twice");
    server.served().status = Some(503);
    assert_eq!(get(&server.hub(&home)).await.unwrap(), found, "a complete copy will do");
}

#[tokio::test]
async fn the_cache_is_that_of_other_clients() {
    let server = FakeHub::start(&ALL);
    let home = tempfile::tempdir().unwrap();
    let found = get(&server.hub(&home)).await.unwrap();
    let cache = home.path().join("hub/models--owner--model");
    assert_eq!(found.directory, cache.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(cache.join("refs/main")).unwrap(), COMMIT);
    assert!(cache.join("blobs").join(WEIGHTS_DIGEST).is_file());
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke_off() {
    let server = FakeHub::start(&ALL);
    server.served().cut = Some(5);
    let home = tempfile::tempdir().unwrap();
    let error = get(&server.hub(&home)).await.unwrap_err();
    assert!(matches!(error, WeightsError::Hub { .. }), "{error}");
    let cache = home.path().join("hub/models--owner--model");
    assert!(!cache.join("refs/main").exists(), "half a model does not look like one");
    server.served().cut = None;
    let found = get(&server.hub(&home)).await.unwrap();
    let content = fs::read_to_string(found.directory.join(WEIGHTS)).unwrap();
    assert_eq!(content, format!("content of {WEIGHTS}"));
}

#[tokio::test]
async fn a_download_that_broke_off_at_its_very_end_is_mended() {
    let server = FakeHub::start(&ALL);
    let home = tempfile::tempdir().unwrap();
    let blobs = home.path().join("hub/models--owner--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(WEIGHTS_DIGEST).with_extension("part");
    fs::write(part, format!("content of {WEIGHTS}")).unwrap();
    let found = get(&server.hub(&home)).await.unwrap();
    let content = fs::read_to_string(found.directory.join(WEIGHTS)).unwrap();
    assert_eq!(content, format!("content of {WEIGHTS}"));
}

#[tokio::test]
async fn what_is_wrong_is_said_with_the_remedy() {
    let home = tempfile::tempdir().unwrap();
    let pickled = FakeHub::start(&["config.json", "tokenizer.json", "pytorch_model.bin"]);
    let error = get(&pickled.hub(&home)).await.unwrap_err();
    assert!(matches!(reason(&error), HubError::Pickled { .. }), "{error:?}");
    let no_tokenizer = FakeHub::start(&["config.json", WEIGHTS]);
    let error = get(&no_tokenizer.hub(&home)).await.unwrap_err();
    assert!(reason(&error).to_string().contains("tokenizer.json"), "{error:?}");

    let server = FakeHub::start(&ALL);
    for (status, part) in [(401, "HF_TOKEN"), (404, "source"), (503, "try again later")] {
        server.served().status = Some(status);
        let error = get(&server.hub(&home)).await.unwrap_err();
        assert!(reason(&error).to_string().contains(part), "{status}: {error:?}");
        assert!(error.to_string().contains(REPOSITORY));
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = HubConfig {
        home: Some(home.path().to_owned()),
        endpoint: Some(format!("http://{nobody}")),
        token: None,
    };
    let error = get(&Hub::new(&config).unwrap()).await.unwrap_err();
    assert!(matches!(reason(&error), HubError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn of_two_workers_one_downloads_and_the_other_waits_for_it() {
    let server = FakeHub::start(&ALL);
    server.served().held_until_asked = 2;
    let home = tempfile::tempdir().unwrap();
    let (first, second) = (server.hub(&home), server.hub(&home));
    let (first, second) = tokio::join!(get(&first), get(&second));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(server.served().fetched.len(), 8, "nothing is fetched twice");
}

#[tokio::test]
async fn a_lock_of_other_software_is_waited_for_under_the_silence_limit() {
    let server = FakeHub::start(&ALL);
    let home = tempfile::tempdir().unwrap();
    let hub = server.hub(&home);
    get(&hub).await.unwrap();
    let cache = home.path().join("hub/models--owner--model");
    fs::remove_file(cache.join("snapshots").join(COMMIT).join(WEIGHTS)).unwrap();
    let lock = fs::File::create(cache.join("blobs").join(WEIGHTS_DIGEST).with_extension("lock"));
    let lock = lock.unwrap();
    lock.lock().unwrap();
    let hub = Hub { tries: 1, ..hub };
    let mut waiting = std::pin::pin!(get(&hub));
    // The client gives up once by itself and is sent again.
    let sent_again = async {
        while server.served().tries < 3 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = &mut waiting => panic!("it does not wait: {ended:?}"),
        () = sent_again => {}
    }
    drop(lock);
    let found = waiting.await.unwrap();
    assert!(found.directory.join(WEIGHTS).exists());
}

#[tokio::test]
async fn a_hub_that_never_answers_is_given_up() {
    let server = FakeHub::start(&ALL);
    server.served().silent = true;
    let home = tempfile::tempdir().unwrap();
    let hub = Hub { silence_limit: Duration::from_millis(50), ..server.hub(&home) };
    let error = get(&hub).await.unwrap_err();
    assert!(matches!(error, WeightsError::Stalled { .. }), "{error}");
}

#[tokio::test]
async fn what_the_engine_would_refuse_is_refused_before_the_weights_are_fetched() {
    let without = |file: &str| ALL.into_iter().filter(|name| *name != file).collect::<Vec<_>>();
    let shards = ["model.safetensors.index.json", "model-00001-of-00002.safetensors"];
    let cases = [
        ([&without(WEIGHTS)[..], &shards].concat(), "several parts"),
        (without("modules.json"), "modules.json"),
        (without("pooling/config.json"), "pooling/config.json"),
    ];
    for (names, part) in cases {
        let server = FakeHub::start(&names);
        let home = tempfile::tempdir().unwrap();
        let error = get(&server.hub(&home)).await.unwrap_err();
        assert!(reason(&error).to_string().contains(part), "{error:?}");
        let fetched = server.served().fetched.clone();
        assert!(!fetched.iter().any(|name| name.ends_with(".safetensors")), "{fetched:?}");
    }
    let server = FakeHub::start(&ALL);
    let outside = br#"[{"path": "../../elsewhere", "type": "Pooling"}]"#;
    server.served().files.insert("modules.json", outside.to_vec());
    let home = tempfile::tempdir().unwrap();
    let error = get(&server.hub(&home)).await.unwrap_err();
    assert!(matches!(reason(&error), HubError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn a_model_for_other_tasks_than_embedding_needs_no_modules() {
    let bare = ["config.json", "tokenizer.json", WEIGHTS];
    let server = FakeHub::start(&bare);
    let home = tempfile::tempdir().unwrap();
    let get = async || server.hub(&home).get(REPOSITORY, "main", Layout::Transformers).await;
    let found = get().await.unwrap();
    assert!(bare.iter().all(|name| found.directory.join(name).exists()));
    server.served().status = Some(503);
    assert_eq!(get().await.unwrap().directory, found.directory, "the copy is complete");
}

#[tokio::test]
async fn a_copy_without_what_its_modules_need_is_not_complete() {
    let server = FakeHub::start(&ALL);
    let home = tempfile::tempdir().unwrap();
    let found = get(&server.hub(&home)).await.unwrap();
    fs::remove_file(found.directory.join("pooling/config.json")).unwrap();
    server.served().status = Some(503);
    let error = get(&server.hub(&home)).await.unwrap_err();
    assert!(matches!(reason(&error), HubError::Status { .. }), "{error:?}");
}
