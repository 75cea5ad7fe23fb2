//! One download, start to end, on a thread of its own. Blocking.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hf_hub::api::sync::{Api, ApiError, ApiRepo};
use hf_hub::api::{Progress, RepoInfo};

use super::turns::{DownloadTurn, Others};
use super::{
    Downloaded, FIRST_PAUSE, Hub, HubError, log_downloaded, log_offline, log_started, log_waiting,
    repo,
};
use crate::weights::{Layout, MODULES, OPTIONAL, PICKLED, WEIGHTS, WEIGHTS_INDEX, modules};

pub(super) struct Fetch {
    pub(super) hub: Hub,
    pub(super) repository: String,
    pub(super) revision: String,
    pub(super) layout: Layout,
    /// Bytes so far, and a sign of life.
    pub(super) arrived: Arc<AtomicU64>,
}

impl Fetch {
    pub(super) fn run(self) -> Result<Downloaded, HubError> {
        let api = self.hub.api()?;
        let info = api.repo(repo(&self.repository, &self.revision)).info();
        self.alive();
        let result = match info {
            Ok(info) => self.download(&api, &info),
            Err(error) => Err(self.hub.explain(&error)),
        };
        match result {
            Err(error @ (HubError::Unreachable { .. } | HubError::Status { .. })) => {
                let Some(cached) = self.cached() else { return Err(error) };
                log_offline(&self.repository, &error);
                Ok(cached)
            }
            other => other,
        }
    }

    fn alive(&self) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }

    fn download(&self, api: &Api, info: &RepoInfo) -> Result<Downloaded, HubError> {
        let names: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let small = wanted(&names, self.layout)?;
        let _turn = self.wait_for_turn()?;
        log_started(&self.repository, &info.sha);
        // By commit, so that all files are of one revision even when it moves meanwhile.
        let source = api.repo(repo(&self.repository, &info.sha));
        let mut files = 0;
        let mut get = |name: &str| {
            files += 1;
            self.get(&source, &info.sha, name)
        };
        for name in small {
            get(name)?;
        }
        // The weights last: what the small files rule out costs little.
        for file in module_files(&self.snapshot(&info.sha), self.layout)? {
            if names.contains(&file.name.as_str()) {
                get(&file.name)?;
            } else if file.required {
                return Err(HubError::FileMissing { file: file.name });
            }
        }
        get(WEIGHTS)?;
        let cached = self.hub.cache.repo(repo(&self.repository, &self.revision));
        cached
            .create_ref(&info.sha)
            .map_err(|error| HubError::Cache { reason: error.to_string() })?;
        log_downloaded(&self.repository, &info.sha, files);
        Ok(self.downloaded(&info.sha))
    }

    fn wait_for_turn(&self) -> Result<DownloadTurn, HubError> {
        let mut told = false;
        let waiting = |progress| {
            if !told {
                log_waiting(&self.repository);
                told = true;
            }
            if progress {
                self.alive();
            }
        };
        DownloadTurn::wait(&self.repository_cache(), waiting)
            .map_err(|error| HubError::Cache { reason: error.to_string() })
    }

    fn get(&self, source: &ApiRepo, commit: &str, name: &str) -> Result<PathBuf, HubError> {
        let cached = self.snapshot(commit).join(name);
        if cached.exists() {
            return Ok(cached);
        }
        let size = Arc::new(AtomicU64::new(0));
        let Some(path) = self.download_file(source, name, &size, &cached)? else {
            return Ok(cached);
        };
        let expected = size.load(Ordering::Relaxed);
        let got = fs::metadata(&path).map_or(0, |file| file.len());
        if got != expected {
            discard(&path);
            return Err(HubError::Incomplete { file: name.to_owned(), got, expected });
        }
        Ok(path)
    }

    /// Downloads one file, in several tries that each go on where the last one broke off. (The
    /// client's own tries begin at the start of a file that it had resumed, and double it.) `None` when
    /// another process has put it at its place, `cached`, meanwhile.
    fn download_file(
        &self,
        source: &ApiRepo,
        name: &str,
        size: &Arc<AtomicU64>,
        cached: &Path,
    ) -> Result<Option<PathBuf>, HubError> {
        let mut tries = 1;
        let mut others = Others::new(&self.repository_cache());
        loop {
            let error = match source.download_with_progress(name, self.watch(size)) {
                Ok(path) => return Ok(Some(path)),
                Err(error) => error,
            };
            if is_locked(&error) {
                // Other software of the hub has it; the client has waited for some seconds. How long
                // to go on is the silence limit's to say.
                log_waiting(&self.repository);
                if others.made_progress() {
                    self.alive();
                }
                if cached.exists() {
                    return Ok(None);
                }
                continue;
            }
            let explained = self.hub.explain(&error);
            if tries >= self.hub.tries {
                return Err(explained);
            }
            if is_beyond_the_end(&error) {
                // All of it arrived before, only the last step is missing: that can't be resumed.
                self.discard_parts();
            } else if explained.is_final() {
                return Err(explained);
            }
            thread::sleep(FIRST_PAUSE * 2_u32.pow(tries - 1));
            self.alive();
            tries += 1;
        }
    }

    fn watch(&self, size: &Arc<AtomicU64>) -> Watch {
        Watch { arrived: Arc::clone(&self.arrived), size: Arc::clone(size) }
    }

    fn discard_parts(&self) {
        let blobs = self.repository_cache().join("blobs");
        for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                // What cannot be removed makes the next try fail with its own reason.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// A complete copy of the revision from an earlier run.
    fn cached(&self) -> Option<Downloaded> {
        let reference = self.repository_cache().join("refs").join(&self.revision);
        // A commit needs no reference to be found.
        let commit = fs::read_to_string(reference).unwrap_or_else(|_| self.revision.clone());
        let found = self.downloaded(commit.trim());
        let has = |name: &str| found.directory.join(name).exists();
        let modules = module_files(&found.directory, self.layout)
            .is_ok_and(|files| files.iter().all(|file| !file.required || has(&file.name)));
        let required = self.layout.required();
        (modules && has(WEIGHTS) && required.iter().all(|name| has(name))).then_some(found)
    }

    fn downloaded(&self, commit: &str) -> Downloaded {
        let directory = self.snapshot(commit);
        // The cache names a large file after its SHA-256.
        let blob = fs::canonicalize(directory.join(WEIGHTS)).ok();
        let name = blob.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        let is_digest =
            |name: &&str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        Downloaded { sha256: name.filter(is_digest).map(str::to_ascii_lowercase), directory }
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.hub.cache.repo(repo(&self.repository, &self.revision)).pointer_path(commit)
    }

    fn repository_cache(&self) -> PathBuf {
        self.hub.cache.path().join(repo(&self.repository, &self.revision).folder_name())
    }
}

/// Which of a repository's files to fetch before the weights: those that describe the model.
fn wanted<'a>(names: &[&'a str], layout: Layout) -> Result<Vec<&'a str>, HubError> {
    let find = |wanted: &str| names.iter().copied().find(|name| *name == wanted);
    if find(WEIGHTS).is_none() {
        let is_pickled = |name: &&&str| {
            let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
            !name.contains('/') && extension.is_some_and(|extension| PICKLED.contains(&extension))
        };
        return Err(match names.iter().find(is_pickled) {
            _ if find(WEIGHTS_INDEX).is_some() => HubError::Sharded,
            Some(found) => HubError::Pickled { found: (*found).to_owned() },
            None => HubError::FileMissing { file: WEIGHTS.to_owned() },
        });
    }
    let optional = OPTIONAL.iter().filter(|name| !layout.required().contains(name));
    let mut small: Vec<&str> = optional.filter_map(|name| find(name)).collect();
    for name in layout.required() {
        let missing = || HubError::FileMissing { file: (*name).to_owned() };
        let file = find(name).ok_or_else(missing)?;
        small.push(file);
    }
    Ok(small)
}

/// What the modules of a model in this directory need besides.
fn module_files(directory: &Path, layout: Layout) -> Result<Vec<modules::ModuleFile>, HubError> {
    if !layout.has_modules() {
        return Ok(Vec::new());
    }
    let invalid = |reason| HubError::Invalid { file: MODULES.to_owned(), reason };
    let json = fs::read(directory.join(MODULES)).map_err(|error| invalid(error.to_string()))?;
    modules::files(&json).map_err(invalid)
}

fn is_locked(error: &ApiError) -> bool {
    match error {
        ApiError::LockAcquisition(_) => true,
        ApiError::TooManyRetries(inner) => is_locked(inner),
        _ => false,
    }
}

fn is_beyond_the_end(error: &ApiError) -> bool {
    match error {
        ApiError::RequestError(request) => matches!(**request, ureq::Error::StatusCode(416)),
        ApiError::TooManyRetries(inner) => is_beyond_the_end(inner),
        ApiError::InvalidResume => true,
        _ => false,
    }
}

/// Removes a file of the cache and what it points to.
fn discard(pointer: &Path) {
    if let Ok(blob) = fs::canonicalize(pointer) {
        // The pointer is gone either way; a blob that stays is only found by its digest.
        let _ = fs::remove_file(blob);
    }
    let _ = fs::remove_file(pointer);
}

/// Counts what arrives and remembers how much it should be.
struct Watch {
    arrived: Arc<AtomicU64>,
    size: Arc<AtomicU64>,
}

impl Progress for Watch {
    fn init(&mut self, size: usize, _filename: &str) {
        self.size.store(u64::try_from(size).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }

    fn update(&mut self, size: usize) {
        self.arrived.fetch_add(u64::try_from(size).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn finish(&mut self) {}
}
