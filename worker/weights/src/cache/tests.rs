//! The cache against a store in memory that fails on request.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::*;
use crate::format::Format;
use crate::parts::PART;
use crate::selection::Listed;

type Outcome<T> = Result<T, object_store::Error>;

/// A store that counts and fails.
#[derive(Debug, Default)]
struct Store {
    inner: InMemory,
    /// Of the requests for ranges that come next: which fail.
    fail: Mutex<VecDeque<bool>>,
    away: AtomicBool,
    ranges: AtomicUsize,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store for tests")
    }
}

fn failed() -> object_store::Error {
    object_store::Error::Generic { store: "test", source: "on request".into() }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, at: &Path, what: PutPayload, how: PutOptions) -> Outcome<PutResult> {
        self.inner.put_opts(at, what, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Outcome<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Outcome<GetResult> {
        let is_part =
            |range: &Range<u64>| range.end - range.start > Format::HEAD || range.start > 0;
        if matches!(&how.range, Some(GetRange::Bounded(range)) if is_part(range)) {
            self.ranges.fetch_add(1, Ordering::SeqCst);
            let mut fail = self.fail.lock().unwrap_or_else(PoisonError::into_inner);
            if fail.pop_front() == Some(true) {
                return Err(failed());
            }
        }
        self.inner.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Outcome<Path>>,
    ) -> BoxStream<'static, Outcome<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Outcome<ObjectMeta>> {
        if self.away.load(Ordering::SeqCst) {
            return stream::iter([Err(failed())]).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Outcome<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Outcome<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

/// A cache with a store, and the models in that.
struct Stage {
    store: Arc<Store>,
    folder: tempfile::TempDir,
    told: Arc<AtomicU64>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Arc::default(), folder, told: Arc::default() }
    }

    fn cache(&self, limit: u64) -> Cache {
        Cache::open(self.folder.path().join("cache"), limit).unwrap()
    }

    fn bucket(&self, name: &str) -> Bucket {
        let store: Arc<dyn ObjectStore> = Arc::<Store>::clone(&self.store);
        Bucket::of(&format!("s3://bucket/{name}"), store, name)
    }

    async fn put(&self, path: &str, bytes: Vec<u8>) {
        self.store.inner.put(&Path::from(path), bytes.into()).await.unwrap();
    }

    /// Puts a model with so many bytes of weights into the store; answers their digest.
    async fn model(&self, name: &str, bytes: u64) -> String {
        let weights = weights_of(name, bytes);
        let digest = hex::encode(Sha256::digest(&weights));
        self.put(&format!("{name}/config.json"), format!("{{\"{name}\":1}}").into_bytes()).await;
        self.put(&format!("{name}/1_Pooling/config.json"), b"{}".to_vec()).await;
        self.put(&format!("{name}/model.safetensors"), weights).await;
        digest
    }

    async fn get(&self, cache: &Cache, name: &str, sha: &str) -> Result<CachedModel, WeightsError> {
        let told = Arc::clone(&self.told);
        let progress: Progress = Arc::new(move |bytes, _| told.store(bytes, Ordering::SeqCst));
        cache.get(&self.bucket(name), sha, &progress).await
    }

    fn fail(&self, next: &[bool]) {
        *self.store.fail.lock().unwrap() = next.iter().copied().collect();
    }

    fn ranges(&self) -> usize {
        self.store.ranges.load(Ordering::SeqCst)
    }

    fn blobs(&self) -> usize {
        fs::read_dir(self.folder.path().join("cache/blobs")).unwrap().count()
    }
}

fn weights_of(name: &str, bytes: u64) -> Vec<u8> {
    let mut weights = 2_u64.to_le_bytes().to_vec();
    weights.extend_from_slice(b"{}");
    let filler = name.bytes().cycle().take(usize::try_from(bytes).unwrap());
    weights.extend(filler);
    weights
}

#[tokio::test]
async fn a_model_is_fetched_once_checked_and_complete() {
    let stage = Stage::new();
    let sha = stage.model("mini", 3 * PART).await;
    let cache = stage.cache(100 * PART);
    let model = stage.get(&cache, "mini", &sha).await.unwrap();
    assert_eq!(
        fs::read(model.directory.join("model.safetensors")).unwrap(),
        weights_of("mini", 3 * PART)
    );
    assert_eq!(fs::read(model.directory.join("1_Pooling/config.json")).unwrap(), b"{}");
    assert_eq!(stage.told.load(Ordering::SeqCst), 3 * PART + 10);
    assert_eq!(stage.ranges(), 4);
    let again = stage.get(&cache, "mini", &sha).await.unwrap();
    assert_eq!((again.directory, stage.ranges()), (model.directory, 4));
}

#[tokio::test]
async fn a_file_with_an_unusual_name_is_a_file() {
    let stage = Stage::new();
    let sha = stage.model("mini", 10).await;
    for name in ["a[1]~{2}.json", "50%25 #1?.json", "\u{fc}\u{4e2d}^*.json"] {
        let path = Path::parse(format!("mini/{name}")).unwrap();
        stage.store.inner.put(&path, name.as_bytes().to_vec().into()).await.unwrap();
        let model = stage.get(&stage.cache(PART), "mini", &sha).await.unwrap();
        assert_eq!(fs::read(model.directory.join(name)).unwrap(), name.as_bytes());
    }
}

#[tokio::test]
async fn without_its_bucket_a_complete_copy_will_do() {
    let stage = Stage::new();
    let sha = stage.model("mini", 10).await;
    let cache = stage.cache(PART);
    stage.store.away.store(true, Ordering::SeqCst);
    let error = stage.get(&cache, "mini", &sha).await.unwrap_err();
    assert!(matches!(error, WeightsError::Unreachable { .. }), "{error}");
    stage.store.away.store(false, Ordering::SeqCst);
    let model = stage.get(&cache, "mini", &sha).await.unwrap();
    stage.store.away.store(true, Ordering::SeqCst);
    assert_eq!(stage.get(&cache, "mini", &sha).await.unwrap().directory, model.directory);
}

#[tokio::test(start_paused = true)]
async fn parts_that_fail_are_asked_for_again_and_those_that_came_are_not() {
    let stage = Stage::new();
    let sha = stage.model("mini", 6 * PART).await;
    let cache = stage.cache(100 * PART);
    // Seven parts; all but the first two fail for good.
    stage.fail(&[&[false, false][..], &[true; 60]].concat());
    let error = stage.get(&cache, "mini", &sha).await.unwrap_err();
    assert!(matches!(error, WeightsError::Unreachable { .. }), "{error}");
    stage.fail(&[true, false, true]);
    let before = stage.ranges();
    stage.get(&cache, "mini", &sha).await.unwrap();
    assert!(stage.ranges() - before <= 7, "five parts were missing, and two failed once");
}

#[tokio::test]
async fn another_content_than_the_registry_says_is_never_loaded() {
    let stage = Stage::new();
    stage.model("mini", 100).await;
    let cache = stage.cache(PART);
    let wrong = "0".repeat(64);
    let error = stage.get(&cache, "mini", &wrong).await.unwrap_err();
    assert!(matches!(error, WeightsError::Digest { .. }), "{error}");
    assert_eq!(stage.blobs(), 0);
    let models = fs::read_dir(stage.folder.path().join("cache/models")).unwrap();
    assert_eq!(models.count(), 0);
}

#[tokio::test]
async fn a_pickle_is_refused_before_it_is_downloaded_whatever_its_name() {
    let stage = Stage::new();
    let mut pickle = b"PK\x03\x04".to_vec();
    pickle.resize(usize::try_from(3 * PART).unwrap(), 0);
    stage.put("evil/model.safetensors", pickle).await;
    let cache = stage.cache(100 * PART);
    let error = stage.get(&cache, "evil", &"0".repeat(64)).await.unwrap_err();
    let WeightsError::Refused { source: Refused::Pickle { .. }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(stage.ranges(), 0);
}

#[tokio::test]
async fn what_was_not_used_for_longest_leaves_and_what_is_in_use_stays() {
    let stage = Stage::new();
    let cache = stage.cache(5_000);
    let mut digests = Vec::new();
    for name in ["a", "b", "c"] {
        digests.push(stage.model(name, 2_000).await);
    }
    let a = stage.get(&cache, "a", &digests[0]).await.unwrap();
    let b = stage.get(&cache, "b", &digests[1]).await.unwrap();
    let error = stage.get(&cache, "c", &digests[2]).await.unwrap_err();
    assert!(matches!(error, WeightsError::NoRoom { .. }), "both are in use: {error}");
    let kept = a.directory.clone();
    drop(b);
    let c = stage.get(&cache, "c", &digests[2]).await.unwrap();
    assert!(kept.is_dir() && c.directory.is_dir());
    drop((a, c));
    // `a` was asked for first of the two that are left.
    let b = stage.get(&cache, "b", &digests[1]).await.unwrap();
    assert!(!kept.is_dir() && b.directory.is_dir());
}

#[tokio::test]
async fn models_share_what_they_have_in_common() {
    let stage = Stage::new();
    let cache = stage.cache(PART);
    let sha = stage.model("a", 100).await;
    stage.put("b/model.safetensors", weights_of("a", 100)).await;
    stage.put("b/config.json", b"{\"other\":1}".to_vec()).await;
    let _a = stage.get(&cache, "a", &sha).await.unwrap();
    let before = stage.ranges();
    let b = stage.get(&cache, "b", &sha).await.unwrap();
    assert_eq!(stage.ranges(), before, "the weights are here");
    assert_eq!(fs::read(b.directory.join("config.json")).unwrap(), b"{\"other\":1}");
    assert_eq!(stage.blobs(), 4, "weights, two descriptions and an empty one");
}

#[tokio::test]
async fn a_description_that_changed_makes_another_model() {
    let stage = Stage::new();
    let cache = stage.cache(PART);
    let sha = stage.model("a", 100).await;
    let first = stage.get(&cache, "a", &sha).await.unwrap();
    stage.put("a/config.json", b"{\"new\":1}".to_vec()).await;
    let second = stage.get(&cache, "a", &sha).await.unwrap();
    assert_ne!(first.directory, second.directory);
    assert_eq!(fs::read(second.directory.join("config.json")).unwrap(), b"{\"new\":1}");
    assert!(first.directory.is_dir(), "whoever uses it keeps it");
}

#[tokio::test]
async fn processes_that_want_the_same_model_share_one_download() {
    let stage = Stage::new();
    let sha = stage.model("mini", 6 * PART).await;
    let caches = [stage.cache(100 * PART), stage.cache(100 * PART), stage.cache(100 * PART)];
    let getting = caches.iter().map(|cache| stage.get(cache, "mini", &sha));
    let models = futures::future::try_join_all(getting).await.unwrap();
    assert_eq!(stage.ranges(), 7, "each part came once");
    assert!(models.iter().all(|model| model.directory == models[0].directory));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_the_disk_lost_is_found_and_all_of_it_comes_again() {
    let stage = Stage::new();
    let sha = stage.model("mini", 6 * PART).await;
    let cache = stage.cache(100 * PART);
    stage.fail(&[&[false, false][..], &[true; 60]].concat());
    stage.get(&cache, "mini", &sha).await.unwrap_err();
    // As after a machine that failed: the list says that the parts are there.
    let partial = stage.folder.path().join("cache/partial").join(&sha);
    let bytes = fs::metadata(&partial).unwrap().len();
    fs::write(&partial, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
    stage.fail(&[]);
    let model = stage.get(&cache, "mini", &sha).await.unwrap();
    let weights = fs::read(model.directory.join("model.safetensors")).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&weights)), sha);
}

#[tokio::test]
async fn a_file_that_changes_while_it_comes_is_never_two_halves() {
    let stage = Stage::new();
    let sha = stage.model("mini", 3 * PART).await;
    let bucket = stage.bucket("mini");
    let listed = bucket.list().await.unwrap();
    let weights = listed.into_iter().find(|file| file.name == "model.safetensors").unwrap();
    stage.put("mini/model.safetensors", weights_of("other", 3 * PART)).await;
    let error = download::read(&bucket, &weights, 0..PART).await.unwrap_err();
    let WeightsError::Unreachable { source, .. } = error else { panic!("{error}") };
    assert!(matches!(source, object_store::Error::Precondition { .. }), "{source}");
    let error = stage.get(&stage.cache(100 * PART), "mini", &sha).await.unwrap_err();
    assert!(matches!(error, WeightsError::Digest { .. }), "{error}");
}

fn listed(size: u64) -> Listed {
    Listed { name: "model.safetensors".to_owned(), size, tag: None }
}

#[test]
fn downloads_that_go_on_keep_their_room_and_those_that_were_given_up_do_not() {
    let stage = Stage::new();
    let cache = stage.cache(1_000);
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let turn = cache.disk.try_turn(&a).unwrap().unwrap();
    assert!(cache.disk.try_turn(&a).unwrap().is_none(), "there is one turn");
    cache.disk.prepare(&a, &listed(600), 600).unwrap();
    let _other = cache.disk.try_turn(&b).unwrap();
    let error = cache.disk.prepare(&b, &listed(600), 600).unwrap_err();
    assert!(matches!(error, WeightsError::NoRoom { need: 600, free: 400, .. }), "{error}");
    // Its process ended.
    drop(turn);
    fs::write(cache.disk.partial(&a), [1; 600]).unwrap();
    assert_eq!(cache.disk.prepare(&b, &listed(600), 600).unwrap(), Prepared::Missing);
    assert!(!cache.disk.partial(&a).exists());
    // Its own remains are part of its need.
    assert_eq!(cache.disk.prepare(&b, &listed(900), 900).unwrap(), Prepared::Missing);
}

#[tokio::test]
async fn what_a_process_left_that_ended_in_the_middle_goes() {
    let stage = Stage::new();
    let cache = stage.cache(PART);
    let partial = stage.folder.path().join("cache/partial");
    let dead = "d".repeat(64);
    fs::create_dir_all(partial.join(format!("{dead}.model/1_Pooling"))).unwrap();
    fs::write(partial.join(format!("{dead}.new")), b"half").unwrap();
    fs::write(stage.folder.path().join("cache/blobs").join(&dead), b"nobody's").unwrap();
    let sha = stage.model("a", 100).await;
    stage.get(&cache, "a", &sha).await.unwrap();
    assert_eq!(fs::read_dir(&partial).unwrap().count(), 0);
    assert_eq!(stage.blobs(), 3, "weights and two descriptions");
}
