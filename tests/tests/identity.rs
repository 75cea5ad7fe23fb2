//! Workers that prove on which machine they run, over real processes: what the metadata service answers, what the
//! coordinator makes of it, and what a worker does that is not let in.

use std::path::{Path, PathBuf};

use stoker_proto::v1::{ListWorkersRequest, Worker};
use stoker_tests::fleet::{Fleet, Options, PATIENCE};
use stoker_tests::poll;
use stoker_worker::interruption::mock::MockImds;

const INSTANCE: &str = "i-0123456789abcdef0";

/// Documents, signatures and certificates as AWS makes them.
fn file(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coordinator/tests/identity");
    beside.join(name)
}

/// The metadata service of the machine, with the document and the signature of these names.
fn machine(document: &str, signature: &str) -> anyhow::Result<MockImds> {
    let imds = MockImds::start()?;
    let document = std::fs::read_to_string(file(&format!("{document}.json")))?;
    let signature = std::fs::read_to_string(file(&format!("{signature}.rsa2048")))?;
    imds.sign_machine(&document, &signature);
    imds.name_machine(INSTANCE);
    Ok(imds)
}

/// A fleet whose workers have to prove that they run on machines of an account.
async fn strict(name: &str) -> anyhow::Result<Fleet> {
    let mut fleet = Fleet::start(Options::echo(name, "0ms")).await?;
    fleet.coordinator().kill9();
    let certificates = file("trusted.pem").display().to_string();
    let environment = [
        ("STOKER_IDENTITY_ACCOUNTS", "123456789012"),
        ("STOKER_IDENTITY_CERTIFICATES", certificates.as_str()),
        ("STOKER_IDENTITY_REGIONS", "us-east-1,eu-west-1"),
        ("STOKER_IDENTITY_NAMELESS", "refuse"),
    ];
    fleet.start_coordinator_with(&environment).await?;
    Ok(fleet)
}

async fn workers(fleet: &Fleet) -> anyhow::Result<Vec<Worker>> {
    Ok(fleet.admin().await?.list_workers(ListWorkersRequest {}).await?.into_inner().workers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_proves_its_machine_with_what_the_metadata_service_answers() -> anyhow::Result<()>
{
    let mut fleet = strict("proven").await?;
    let imds = machine("good", "good")?;
    fleet.add_worker_with(&[("STOKER_IMDS", &imds.url())])?;
    fleet.ready(1).await?;
    let workers = workers(&fleet).await?;
    assert_eq!(workers[0].instance, INSTANCE, "{workers:?}");
    let job = fleet.submit(vec!["a text".to_owned()]).await?;
    fleet.wait_for(&job, &[stoker_proto::v1::JobState::Succeeded]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_not_let_in_says_why_and_comes_in_when_that_is_mended()
-> anyhow::Result<()> {
    let mut fleet = strict("unproven").await?;
    // Somebody else's signature, and no machine at all.
    let imds = machine("good", "signer")?;
    let stranger = fleet.add_worker_with(&[("STOKER_IMDS", &imds.url())])?;
    let nameless = fleet.add_worker_with(&[("STOKER_IMDS", "off")])?;
    for (worker, said) in
        [(stranger, "none of those that the coordinator trusts"), (nameless, "names no machine")]
    {
        let program = &*fleet.worker(worker);
        poll::until(&format!("the log to say `{said}`"), PATIENCE, || async {
            let log = program.log();
            Ok(if log.contains(said) { Ok(()) } else { Err(log) })
        })
        .await?;
    }
    assert_eq!(workers(&fleet).await?, [], "nobody is let in");
    // The fleet that asks for nothing takes both, and they have waited for it.
    fleet.coordinator().kill9();
    fleet.start_coordinator().await?;
    fleet.ready(2).await?;
    Ok(())
}
