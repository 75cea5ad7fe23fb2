//! Instance identity: who may register as the worker of a machine of EC2.

use std::path::PathBuf;

use stoker_coordinator::config::{BrokerChoice, Config, IdentitySettings, NamelessChoice};
use stoker_core::identity::AccountId;
use stoker_core::ids::RegionName;
use stoker_proto::status::Reason;
use stoker_proto::v1;
use stoker_runtime::ids;
use tonic::Code;

use crate::fixture::{Coordinator, config, next, refused, registration};

const INSTANCE: &str = "i-0123456789abcdef0";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/identity").join(name)
}

/// What the metadata service of the machine of this document answers.
fn identity(document: &str, signature: &str) -> v1::InstanceIdentity {
    let text = |name: String| std::fs::read_to_string(file(&name)).unwrap();
    let (document, signature) = (format!("{document}.json"), format!("{signature}.rsa2048"));
    v1::InstanceIdentity { document: text(document), signature: text(signature) }
}

async fn strict(nameless: Option<NamelessChoice>) -> Coordinator {
    let folder = tempfile::tempdir().unwrap();
    let settings = IdentitySettings {
        accounts: Some(vec![AccountId::new("123456789012").unwrap()]),
        certificates: Some(vec![file("trusted.pem")]),
        regions: Some(vec![RegionName::new("us-east-1").unwrap()]),
        nameless,
    };
    let plain = config(&folder, "", BrokerChoice::Embedded);
    let identity = settings.check().unwrap();
    Coordinator::start_with(folder, Config { identity, ..plain }).await
}

fn on(instance: &str, identity: Option<v1::InstanceIdentity>) -> v1::RegisterRequest {
    let registration = registration(&ids::worker_id().to_string(), 1);
    v1::RegisterRequest { instance: instance.to_owned(), identity, ..registration }
}

#[tokio::test]
async fn a_worker_that_names_its_machine_has_to_prove_it() {
    let coordinator = strict(None).await;
    let mut workers = coordinator.workers().await;
    let (unproven, denied) = (Code::Unauthenticated, Code::PermissionDenied);
    for (request, code, said) in [
        (on(INSTANCE, None), unproven, "proves it with nothing"),
        (
            on(INSTANCE, Some(identity("good", "signer"))),
            unproven,
            "none of those that the coordinator",
        ),
        (on(INSTANCE, Some(identity("account", "good"))), unproven, "another document"),
        (on("i-other", Some(identity("good", "good"))), denied, "is of `i-0123456789abcdef0`"),
        (
            on(INSTANCE, Some(identity("instance", "instance"))),
            denied,
            "is of `i-0fedcba9876543210`",
        ),
        (on(INSTANCE, Some(identity("account", "account"))), denied, "account 999999999999"),
        (on(INSTANCE, Some(identity("region", "region"))), denied, "region us-west-2"),
    ] {
        let explained = refused(workers.register(request).await.map(drop));
        let reason =
            if code == unproven { Reason::InstanceNotProven } else { Reason::InstanceNotAllowed };
        assert_eq!((explained.code, explained.reason), (code, Some(reason)), "{explained}");
        assert!(explained.message.contains(said), "{explained}");
    }
    let mut admin = coordinator.admin().await;
    let list = admin.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner();
    assert!(list.workers.is_empty(), "{list:?}");

    // Whoever was refused is told to register when it claims all the same.
    let claims = vec![crate::fixture::claim(&coordinator.submit(&["a"]).await, 1)];
    let worker_id = ids::worker_id().to_string();
    let claimed = workers.claim(v1::ClaimRequest { worker_id, claims }).await;
    assert_eq!(refused(claimed.map(drop)).reason, Some(Reason::WorkerNotRegistered));

    let request = on(INSTANCE, Some(identity("good", "good")));
    let mut commands = workers.register(request).await.unwrap().into_inner();
    next(&mut commands).await;
    // One that runs elsewhere names no machine.
    let mut commands = workers.register(on("", None)).await.unwrap().into_inner();
    next(&mut commands).await;
    let list = admin.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner();
    assert_eq!(list.workers.len(), 2, "{list:?}");
}

#[tokio::test]
async fn a_fleet_of_machines_only_takes_no_worker_that_names_none() {
    let coordinator = strict(Some(NamelessChoice::Refuse)).await;
    let mut workers = coordinator.workers().await;
    let explained =
        refused(workers.register(on("", Some(identity("good", "good")))).await.map(drop));
    assert_eq!(explained.code, Code::PermissionDenied);
    assert_eq!(explained.reason, Some(Reason::InstanceNotAllowed));
    assert!(explained.message.contains("--identity-nameless"), "{explained}");
    workers.register(on(INSTANCE, Some(identity("good", "good")))).await.unwrap();
}

#[tokio::test]
async fn a_fleet_that_asks_for_no_proof_takes_whatever_comes_with_one() {
    let coordinator = Coordinator::start("").await;
    let mut workers = coordinator.workers().await;
    for shown in [None, Some(identity("good", "good")), Some(identity("account", "signer"))] {
        let mut commands = workers.register(on(INSTANCE, shown)).await.unwrap().into_inner();
        next(&mut commands).await;
    }
    let status = coordinator.admin().await.fleet_status(v1::FleetStatusRequest {}).await;
    assert_eq!(status.unwrap().into_inner().identity_check, None);
}

#[tokio::test]
async fn the_status_tells_what_is_checked_and_until_when_the_certificates_are_good() {
    let coordinator = strict(None).await;
    let status = coordinator.admin().await.fleet_status(v1::FleetStatusRequest {}).await;
    let check = status.unwrap().into_inner().identity_check.unwrap();
    assert_eq!(check.accounts, ["123456789012"]);
    assert_eq!(check.regions, ["us-east-1"]);
    let [certificate] = check.certificates.as_slice() else { panic!("{check:?}") };
    assert!(certificate.file.ends_with("trusted.pem"), "{certificate:?}");
    assert_eq!(certificate.serial.len(), 40);
    // 2195-01-01
    assert_eq!(certificate.expires_at.unwrap().seconds, 7_100_352_000);
}
