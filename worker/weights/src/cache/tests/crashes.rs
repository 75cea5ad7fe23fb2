//! What is on the disk after a process or its machine ended in the middle.

use std::fs;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::stage::Stage;
use crate::error::WeightsError;
use crate::parts::PART;

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

fn key(letter: &str) -> String {
    letter.repeat(64)
}

fn names(folder: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
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

#[tokio::test]
async fn a_model_that_leaves_is_gone_before_its_files_are() {
    let stage = Stage::new();
    let cache = stage.cache(5_000);
    let sha = stage.model("a", 2_000).await;
    let a = stage.get(&cache, "a", &sha).await.unwrap().directory;
    // A process was killed when it had removed some of a model's files.
    let gone = stage.path("partial").join(format!("{}.gone", key("e")));
    fs::create_dir_all(gone.join("1_Pooling")).unwrap();
    fs::hard_link(a.join("model.safetensors"), gone.join("model.safetensors")).unwrap();
    let model = a.file_name().unwrap().to_str().unwrap();
    // Where it cannot be moved, none of its files goes.
    let aside = stage.path("aside");
    fs::rename(stage.path("partial"), &aside).unwrap();
    assert!(matches!(cache.disk.evict(model), Err(WeightsError::Io { .. })));
    assert_eq!(names(a.clone()).len(), 3);
    fs::rename(&aside, stage.path("partial")).unwrap();
    cache.disk.evict(model).unwrap();
    assert!(cache.disk.find(model, &key("5")).unwrap().is_none());
    let other = stage.model("b", 4_000).await;
    stage.get(&cache, "b", &other).await.unwrap();
    assert_eq!(names(stage.path("partial")), [""; 0]);
    assert_eq!(stage.blobs(), 3, "one model's");
}

#[tokio::test]
async fn locks_turns_and_memories_of_what_is_not_here_go() {
    let stage = Stage::new();
    let cache = stage.cache(PART);
    let sha = stage.model("a", 100).await;
    let held = cache.disk.try_turn(&key("b")).unwrap().unwrap();
    fs::write(stage.path("turns").join(key("c")), b"").unwrap();
    fs::write(stage.path("models").join(format!("{}.lock", key("d"))), b"").unwrap();
    fs::write(stage.path("sources").join(key("e")), key("f")).unwrap();
    fs::write(stage.path("partial").join(format!("{}.parts", key("0"))), b"65536 7 -\n0\n")
        .unwrap();
    let model = stage.get(&cache, "a", &sha).await.unwrap().directory;
    let model = model.file_name().unwrap().to_str().unwrap().to_owned();
    let mut turns = names(stage.path("turns"));
    turns.sort();
    let mut expected = vec![key("b"), sha];
    expected.sort();
    assert_eq!(turns, expected, "those that are held, and our own");
    let mut models = names(stage.path("models"));
    models.sort();
    assert_eq!(models, [model.clone(), format!("{model}.lock")]);
    let sources = names(stage.path("sources"));
    assert_eq!(sources.len(), 1);
    assert_eq!(cache.disk.remembered(&sources[0]), Some(model));
    assert_eq!(names(stage.path("partial")), [""; 0]);
    assert!(cache.disk.try_turn(&key("b")).unwrap().is_none(), "it stays a turn");
    drop(held);
}

#[tokio::test]
async fn a_turn_lasts_as_long_as_the_work_that_was_begun_under_it() {
    let stage = Stage::new();
    let cache = stage.cache(100 * PART);
    let sha = stage.model("mini", 3 * PART).await;
    // A list of parts that does not come to its end until somebody writes it: the work that reads it waits.
    fs::write(stage.path("partial").join(&sha), b"").unwrap();
    let list = stage.path("partial").join(format!("{sha}.parts"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &list, rustix::fs::Mode::RWXU).unwrap();
    let getting = stage.get(&cache, "mini", &sha);
    let reader_is_there = async {
        let how = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
        loop {
            // Refused until it is open for reading.
            if let Ok(writer) = rustix::fs::open(&list, how, rustix::fs::Mode::empty()) {
                return writer;
            }
            tokio::task::yield_now().await;
        }
    };
    let writer = tokio::select! {
        writer = reader_is_there => writer,
        result = getting => panic!("it came without its list: {result:?}"),
    };
    assert!(cache.disk.try_turn(&sha).unwrap().is_none(), "the work goes on");
    fs::remove_file(&list).unwrap();
    drop(writer);
    while cache.disk.try_turn(&sha).unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    stage.get(&cache, "mini", &sha).await.unwrap();
}

#[tokio::test]
async fn a_download_that_did_not_get_its_name_is_still_one() {
    let stage = Stage::new();
    let cache = stage.cache(100 * PART);
    let sha = stage.model("mini", 3 * PART).await;
    // In the way of its name, so that all ends between the digest and that.
    let blob = stage.path("blobs").join(&sha);
    fs::create_dir_all(blob.join("in-the-way")).unwrap();
    let error = stage.get(&cache, "mini", &sha).await.unwrap_err();
    assert!(matches!(error, WeightsError::Io { what: "keep", .. }), "{error}");
    let came = stage.ranges();
    let partial = stage.path("partial").join(&sha);
    assert!(!fs::metadata(&partial).unwrap().permissions().readonly(), "it can be opened again");
    fs::remove_dir_all(&blob).unwrap();
    let model = stage.get(&cache, "mini", &sha).await.unwrap();
    assert_eq!(stage.ranges(), came, "nothing of it came again");
    let weights = fs::metadata(model.directory.join("model.safetensors")).unwrap();
    assert!(weights.permissions().readonly());
    assert!(!partial.with_extension("parts").exists());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_outlived_its_download_says_nothing_of_the_next() {
    let stage = Stage::new();
    let cache = stage.cache(100 * PART);
    let sha = stage.model("mini", 3 * PART).await;
    stage.fail(&[&[false, false][..], &[true; 60]].concat());
    stage.get(&cache, "mini", &sha).await.unwrap_err();
    // As after a process that ended when the content had its name, which left the cache since.
    fs::remove_file(stage.path("partial").join(&sha)).unwrap();
    stage.fail(&[]);
    let before = stage.ranges();
    stage.get(&cache, "mini", &sha).await.unwrap();
    assert_eq!(stage.ranges() - before, 4, "all of it, and once");
}
