//! The tokens of those who change the fleet, on the wire.

use stoker_coordinator::config::{BrokerChoice, Config};
use stoker_proto::status::Reason;
use stoker_proto::token::Credentials;
use stoker_proto::v1;
use stoker_proto::v1::admin_service_client::AdminServiceClient;
use stoker_proto::v1::fleet_service_client::FleetServiceClient;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_runtime::ids;
use stoker_runtime::secret::Secret;
use tonic::Code;

use crate::fixture::{Coordinator, config, echo, refused};

const OPERATOR: &str = "0123456789abcdef-operator";
const AUTOSCALER: &str = "0123456789abcdef-autoscaler";

fn freeze() -> v1::SetSwitchRequest {
    let mode = v1::FleetMode::Freeze.into();
    v1::SetSwitchRequest { mode, by: "ann".into(), why: "drill".into() }
}

fn lead() -> v1::LeadRequest {
    let holder = ids::event_id().as_uuid().to_string();
    v1::LeadRequest { holder, term: None, resign: true }
}

#[tokio::test]
async fn only_operators_and_autoscalers_change_a_fleet_that_asks_for_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let plain = config(&folder, "", BrokerChoice::Embedded);
    let (operator, autoscaler) = (Some(Secret::new(OPERATOR)), Some(Secret::new(AUTOSCALER)));
    let guarded = Config { operator_token: operator, autoscaler_token: autoscaler, ..plain };
    let coordinator = Coordinator::start_with(folder, guarded).await;
    let channel = coordinator.channel().await;
    let fleet = |token: Option<&str>| {
        FleetServiceClient::with_interceptor(channel.clone(), Credentials::new(token))
    };
    let admin = |token: Option<&str>| {
        AdminServiceClient::with_interceptor(channel.clone(), Credentials::new(token))
    };

    for stranger in [None, Some("0123456789abcdef-stranger")] {
        let explained = refused(fleet(stranger).set_switch(freeze()).await);
        assert_eq!(explained.code, Code::Unauthenticated);
        assert_eq!(explained.reason, Some(Reason::OperatorTokenWrong));
        assert_eq!(refused(fleet(stranger).lead(lead()).await).code, Code::Unauthenticated);
        let discard = v1::DiscardDeadLettersRequest::default();
        let explained = refused(admin(stranger).discard_dead_letters(discard).await);
        assert_eq!(explained.reason, Some(Reason::OperatorTokenWrong));
    }
    let ledger = || v1::ReadLedgerRequest::default();
    let untouched = fleet(None).read_ledger(ledger()).await.unwrap().into_inner();
    assert_eq!(untouched.switch.unwrap().mode, i32::from(v1::FleetMode::Run));

    // Looking, and jobs, need none; what is shown all the same is not in the way.
    let status = admin(None).fleet_status(v1::FleetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.changes_need_token);
    coordinator.submit(&["a"]).await;
    let mut jobs =
        JobServiceClient::with_interceptor(channel.clone(), Credentials::new(Some(OPERATOR)));
    jobs.submit(v1::SubmitRequest { job: Some(echo(&["b"])) }).await.unwrap();

    fleet(Some(OPERATOR)).set_switch(freeze()).await.unwrap();
    let explained = refused(fleet(Some(OPERATOR)).lead(lead()).await);
    assert_eq!(explained.reason, Some(Reason::AutoscalerTokenWrong));
    fleet(Some(AUTOSCALER)).lead(lead()).await.unwrap();
    let frozen = fleet(None).read_ledger(ledger()).await.unwrap().into_inner();
    assert_eq!(frozen.switch.unwrap().mode, i32::from(v1::FleetMode::Freeze));
}

#[tokio::test]
async fn a_fleet_without_tokens_is_open_and_says_so() {
    let coordinator = Coordinator::start("").await;
    let mut admin = coordinator.admin().await;
    let status = admin.fleet_status(v1::FleetStatusRequest {}).await.unwrap().into_inner();
    assert!(!status.changes_need_token);
    let mut fleet = FleetServiceClient::new(coordinator.channel().await);
    fleet.set_switch(freeze()).await.unwrap();
}
