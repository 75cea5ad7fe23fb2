//! Models from a real S3 server, over a network that misbehaves.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod network;
mod stage;

use std::fs;

use stoker_weights::{Refused, WeightsError};

use network::{Faults, Network};
use stage::{MIB, Process, Stage, entries, sha256, weights};

#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_whole_from_a_real_server() {
    let stage = Stage::set(20);
    let model = stage.get(stage.address()).await.unwrap();
    assert_eq!(sha256(&fs::read(model.directory.join("model.safetensors")).unwrap()), stage.sha256);
    assert_eq!(fs::read(model.directory.join("1_Pooling/config.json")).unwrap(), b"{\"a\":1}");
    assert!(!model.directory.join("other.json").exists(), "another folder's");
    assert_eq!(stage.told(), (0, stage.bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_urls_write_otherwise_are_names() {
    let stage = Stage::set(1);
    stage.put("mini/v1/a%5B1%5D%20100%25%20%C3%BC.json", b"{\"odd\":1}");
    let model = stage.get(stage.address()).await.unwrap();
    let odd = model.directory.join("a[1] 100% \u{fc}.json");
    assert_eq!(fs::read(odd).unwrap(), b"{\"odd\":1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_path_is_named() {
    let stage = Stage::set(1);
    stage.put("mini/v1//lost.json", b"{}");
    let error = stage.get(stage.address()).await.unwrap_err();
    let WeightsError::Refused { source: Refused::Key { reason }, .. } = &error else {
        panic!("{error}")
    };
    assert!(reason.contains("mini/v1//lost.json"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_asked_again() {
    let stage = Stage::set(20);
    let network = Network::start(stage.address()).await.unwrap();
    network.set(Faults { busy: 5, ..Faults::default() });
    stage.get(network.address()).await.unwrap();
    assert_eq!(network.left().busy, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_break_off_come_again() {
    let stage = Stage::set(40);
    let network = Network::start(stage.address()).await.unwrap();
    network.set(Faults { cut: 7, ..Faults::default() });
    let model = stage.get(network.address()).await.unwrap();
    assert_eq!(network.left().cut, 0);
    assert_eq!(sha256(&fs::read(model.directory.join("model.safetensors")).unwrap()), stage.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_bit_is_found_and_nothing_of_it_is_used() {
    let stage = Stage::set(20);
    let network = Network::start(stage.address()).await.unwrap();
    network.set(Faults { wrong: 1, ..Faults::default() });
    let error = stage.get(network.address()).await.unwrap_err();
    assert!(matches!(error, WeightsError::Digest { .. }), "{error}");
    assert_eq!(network.left().wrong, 0);
    for folder in ["models", "blobs"] {
        assert_eq!(entries(&stage.cache().join(folder)), 0, "{folder}");
    }
    stage.get(network.address()).await.unwrap();
    assert_eq!(stage.told(), (0, stage.bytes), "from the beginning");
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_other_than_the_registry_s_are_refused() {
    let mut stage = Stage::set(1);
    let right = std::mem::replace(&mut stage.sha256, "0".repeat(64));
    let error = stage.get(stage.address()).await.unwrap_err();
    let WeightsError::Digest { found, .. } = &error else { panic!("{error}") };
    assert_eq!(*found, right);
    assert_eq!(entries(&stage.cache().join("models")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pickle_on_a_real_server_is_refused_by_its_first_bytes() {
    let mut stage = Stage::set(1);
    let pickle = [b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", &*weights(3 * MIB)].concat();
    stage.put("pickled/model.safetensors", &pickle);
    stage.put("pickled/config.json", b"{}");
    stage.url = "s3://models/pickled";
    let network = Network::start(stage.address()).await.unwrap();
    let error = stage.get(network.address()).await.unwrap_err();
    let refused = matches!(error, WeightsError::Refused { source: Refused::Pickle { .. }, .. });
    assert!(refused, "{error}");
    assert!(network.carried() < MIB, "its weights did not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_in_a_download_costs_what_was_under_way() {
    let stage = Stage::set(40);
    let network = Network::start(stage.address()).await.unwrap();
    // Of five parts two come.
    network.set(Faults { come: Some(2), ..Faults::default() });
    let mut killed = Process::start(&stage, network.address());
    let arrived = killed.until_bytes(16 * MIB).await;
    assert!(arrived < stage.bytes);
    killed.kill();
    network.set(Faults::default());
    let before = network.carried();
    stage.get(network.address()).await.unwrap();
    let (first, last) = stage.told();
    assert!(first >= arrived, "{first} of {arrived} bytes were kept");
    assert_eq!(last, stage.bytes);
    assert!(network.carried() - before < stage.bytes - arrived + MIB, "and did not come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_one_machine_share_a_download() {
    let stage = Stage::set(40);
    let network = Network::start(stage.address()).await.unwrap();
    network.set(Faults { come: Some(0), ..Faults::default() });
    let mut first = Process::start(&stage, network.address());
    first.until_bytes(0).await;
    // It waits for its turn, or comes when all is done.
    let mut second = Process::start(&stage, network.address());
    network.release();
    let folders = (first.until_done().await, second.until_done().await);
    assert_eq!(folders.0, folders.1);
    assert!(network.carried() < stage.bytes + MIB, "{} bytes came", network.carried());
    assert_eq!(second.told(), Vec::<u64>::new(), "the second one downloaded nothing");
}
