//! A cache with a store in memory that fails on request.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use sha2::{Digest as _, Sha256};

use crate::Progress;
use crate::bucket::Bucket;
use crate::cache::{Cache, CachedModel};
use crate::error::WeightsError;
use crate::format::Format;
use crate::selection::Needs;

type Outcome<T> = Result<T, object_store::Error>;

/// A store that counts and fails.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) inner: InMemory,
    /// Of the requests for ranges that come next: which fail.
    fail: Mutex<VecDeque<bool>>,
    pub(super) away: AtomicBool,
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

/// The models of this stage have it.
const NEEDS: Needs = Needs { files: &[], gguf: true };

/// A cache with a store, and the models in that.
pub(super) struct Stage {
    pub(super) store: Arc<Store>,
    pub(super) folder: tempfile::TempDir,
    pub(super) told: Arc<AtomicU64>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Arc::default(), folder, told: Arc::default() }
    }

    pub(super) fn cache(&self, limit: u64) -> Cache {
        Cache::open(self.folder.path().join("cache"), limit).unwrap()
    }

    /// A folder of the cache.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("cache").join(name)
    }

    pub(super) fn bucket(&self, name: &str) -> Bucket {
        let store: Arc<dyn ObjectStore> = Arc::<Store>::clone(&self.store);
        Bucket::of(&format!("s3://bucket/{name}"), store, name)
    }

    pub(super) async fn put(&self, path: &str, bytes: Vec<u8>) {
        self.store.inner.put(&Path::from(path), bytes.into()).await.unwrap();
    }

    /// Puts a model with so many bytes of weights into the store; answers their digest.
    pub(super) async fn model(&self, name: &str, bytes: u64) -> String {
        let weights = weights_of(name, bytes);
        let digest = hex::encode(Sha256::digest(&weights));
        self.put(&format!("{name}/config.json"), format!("{{\"{name}\":1}}").into_bytes()).await;
        self.put(&format!("{name}/1_Pooling/config.json"), b"{}".to_vec()).await;
        self.put(&format!("{name}/model.safetensors"), weights).await;
        digest
    }

    pub(super) async fn get(
        &self,
        cache: &Cache,
        name: &str,
        sha: &str,
    ) -> Result<CachedModel, WeightsError> {
        let told = Arc::clone(&self.told);
        let progress: Progress = Arc::new(move |bytes, _| told.store(bytes, Ordering::SeqCst));
        cache.get(&self.bucket(name), sha, NEEDS, &progress).await
    }

    pub(super) fn fail(&self, next: &[bool]) {
        *self.store.fail.lock().unwrap() = next.iter().copied().collect();
    }

    pub(super) fn ranges(&self) -> usize {
        self.store.ranges.load(Ordering::SeqCst)
    }

    pub(super) fn blobs(&self) -> usize {
        fs::read_dir(self.folder.path().join("cache/blobs")).unwrap().count()
    }
}

pub(super) fn weights_of(name: &str, bytes: u64) -> Vec<u8> {
    let mut weights = 2_u64.to_le_bytes().to_vec();
    weights.extend_from_slice(b"{}");
    let filler = name.bytes().cycle().take(usize::try_from(bytes).unwrap());
    weights.extend(filler);
    weights
}
