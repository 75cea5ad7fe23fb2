//! The cache against a store in memory that fails on request.

mod crashes;
mod stage;

use std::fs;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::*;
use crate::error::Refused;
use crate::parts::PART;
use crate::selection::Listed;
use stage::{Stage, weights_of};

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
async fn weights_that_are_others_are_not_downloaded_again_and_again() {
    let stage = Stage::new();
    let cache = stage.cache(100 * PART);
    stage.model("mini", 3 * PART).await;
    let right = weights_of("right", 3 * PART);
    let sha = hex::encode(Sha256::digest(&right));
    let mut came = Vec::new();
    for _ in 0..4 {
        let before = stage.ranges();
        let error = stage.get(&cache, "mini", &sha).await.unwrap_err();
        assert!(matches!(error, WeightsError::Digest { .. }), "{error}");
        came.push(stage.ranges() - before);
    }
    // The first may have been the fault of the connection.
    assert_eq!(came, [4, 4, 0, 0]);
    stage.put("mini/model.safetensors", right).await;
    stage.get(&cache, "mini", &sha).await.unwrap();
}

#[tokio::test]
async fn a_note_of_other_weights_goes_when_it_is_old() {
    let stage = Stage::new();
    let cache = stage.cache(PART);
    let sha = stage.model("mini", 100).await;
    let notes = ["a", "b"]
        .map(|letter| stage.path("partial").join(format!("{}.strange", letter.repeat(64))));
    let ages = [6, 8].map(|days| SystemTime::now() - Duration::from_hours(24 * days));
    for (note, written) in notes.iter().zip(ages) {
        fs::write(note, b"").unwrap();
        fs::File::options().write(true).open(note).unwrap().set_modified(written).unwrap();
    }
    stage.get(&cache, "mini", &sha).await.unwrap();
    assert_eq!(notes.map(|note| note.exists()), [true, false]);
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
async fn nothing_leaves_for_a_model_that_is_refused_by_its_first_bytes() {
    let stage = Stage::new();
    let cache = stage.cache(5_000);
    let sha = stage.model("a", 2_000).await;
    let kept = stage.get(&cache, "a", &sha).await.unwrap().directory;
    stage.put("page/model.safetensors", [&b"<html>"[..], &[b' '; 4_000]].concat()).await;
    stage.put("page/tokenizer.json", vec![b' '; 500]).await;
    let before = stage.ranges();
    let error = stage.get(&cache, "page", &"0".repeat(64)).await.unwrap_err();
    assert!(matches!(error, WeightsError::Refused { .. }), "{error}");
    assert!(kept.is_dir());
    assert_eq!(stage.ranges(), before, "no description came either");
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

#[test]
fn work_of_a_runtime_that_ended_is_no_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let _entered = handle.enter();
    let work = std::pin::pin!(blocking(|| Ok(())));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(work.poll(&mut context).is_pending());
}
