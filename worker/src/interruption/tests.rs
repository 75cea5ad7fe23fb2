use std::time::Duration;

use stoker_runtime::clock::SystemClock;

use super::mock::{Fault, MockImds};
use super::*;

fn imds(mock: &MockImds) -> Imds {
    Imds::new(mock.url().parse().unwrap())
}

#[tokio::test]
async fn nothing_is_announced_until_something_is() {
    let mock = MockImds::start().unwrap();
    let mut imds = imds(&mock);
    let seen = imds.ask().await.unwrap();
    assert!(seen.interruption.is_none() && !seen.rebalance);
    mock.recommend_rebalance();
    assert!(imds.ask().await.unwrap().rebalance);
    mock.interrupt_in(Duration::from_mins(2));
    let notice = imds.ask().await.unwrap().interruption.unwrap().unwrap();
    assert_eq!(notice.action, Action::Terminate);
    assert!(notice.left > Duration::from_mins(1) && notice.left <= Duration::from_mins(2));
    assert_eq!((mock.tokens_made(), mock.refused()), (1, 0), "one token is enough");
}

#[tokio::test]
async fn a_token_that_ended_early_is_replaced_at_once() {
    let mock = MockImds::start().unwrap();
    let mut imds = imds(&mock);
    imds.ask().await.unwrap();
    mock.expire_tokens();
    mock.recommend_rebalance();
    assert!(imds.ask().await.unwrap().rebalance);
    assert_eq!((mock.tokens_made(), mock.refused()), (2, 1));
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let mock = MockImds::start().unwrap();
    let mut imds = imds(&mock);
    for tokens in 1..=3 {
        imds.ask().await.unwrap();
        imds.ask().await.unwrap();
        assert_eq!((mock.tokens_made(), mock.refused()), (tokens, 0));
        imds.age_token();
    }
}

#[tokio::test]
async fn every_fault_is_an_error_and_the_next_question_is_answered() {
    let mock = MockImds::start().unwrap();
    let mut imds = imds(&mock);
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Status(403), Fault::Torn] {
        mock.set_fault(fault);
        let error = imds.ask().await.unwrap_err();
        mock.set_fault(Fault::None);
        imds.ask().await.unwrap_or_else(|after| panic!("{fault:?}: {error}, then {after}"));
    }
    mock.set_fault(Fault::Silent);
    assert!(matches!(imds.ask().await, Err(ImdsError::TimedOut { .. })));
    mock.set_fault(Fault::None);
    imds.ask().await.unwrap();
}

#[tokio::test]
async fn a_document_that_is_no_notice_is_told_apart_from_one() {
    let mock = MockImds::start().unwrap();
    let mut imds = imds(&mock);
    mock.interrupt_in(Duration::from_mins(2));
    mock.set_fault(Fault::Garbage);
    assert!(matches!(imds.ask().await.unwrap().interruption, Some(Err(_))));
    mock.set_fault(Fault::None);
    assert!(matches!(imds.ask().await.unwrap().interruption, Some(Ok(_))));
}

#[tokio::test]
async fn what_is_not_there_cannot_be_connected_to() {
    let address = MockImds::start().unwrap().url();
    // The port is free again.
    let mut imds = Imds::new(address.parse().unwrap());
    let error = imds.ask().await.unwrap_err();
    assert!(!matches!(error, ImdsError::Status { .. }), "{error}");
}

#[tokio::test]
async fn what_is_announced_reaches_whoever_listens_and_ends_the_watch() {
    let mock = MockImds::start().unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let url = mock.url().parse().unwrap();
    let mut announced = start(Some(&url), None, Arc::clone(&clock), &tasks).announced;
    mock.recommend_rebalance();
    announced.wait_for(|announced| announced.rebalance).await.unwrap();
    mock.interrupt_in(Duration::from_mins(2));
    let lost_at = announced.wait_for(Announced::is_interrupted).await.unwrap().lost_at.unwrap();
    assert!(lost_at.since(clock.now()) > Duration::from_mins(1));
    assert!(announced.changed().await.is_err(), "nothing more can come");
    tasks.close_and_wait(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_off_is_not_asked() {
    let tasks = Tasks::new(CancellationToken::new());
    let mut cloud = start(None, None, Arc::new(SystemClock::new()), &tasks);
    assert!(cloud.announced.changed().await.is_err());
    assert_eq!(*cloud.announced.borrow(), Announced::default());
    assert!(cloud.instance.changed().await.is_err(), "nothing can name the machine");
}

#[tokio::test]
async fn the_machines_name_is_asked_for_until_it_is_known() {
    let mock = MockImds::start().unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let url = mock.url().parse().unwrap();
    mock.name_machine("No Name");
    let mut cloud = start(Some(&url), None, Arc::new(SystemClock::new()), &tasks);
    while mock.asked() < 3 {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*cloud.instance.borrow(), None, "that was no name");
    mock.name_machine("i-0abc\n");
    let name = cloud.instance.wait_for(Option::is_some).await.unwrap().clone();
    let name = name.unwrap();
    assert_eq!((name.name.as_str(), name.identity), ("i-0abc", None), "nothing is signed");
    assert!(cloud.instance.changed().await.is_err(), "it is asked for no more");
    mock.recommend_rebalance();
    cloud.announced.wait_for(|announced| announced.rebalance).await.unwrap();
    tasks.close_and_wait(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_given_is_not_asked_for() {
    let mock = MockImds::start().unwrap();
    mock.name_machine("i-other");
    mock.recommend_rebalance();
    let tasks = Tasks::new(CancellationToken::new());
    let url = mock.url().parse().unwrap();
    let name = InstanceName::new("given").unwrap();
    let clock = Arc::new(SystemClock::new());
    let mut cloud = start(Some(&url), Some(name.clone()), clock, &tasks);
    cloud.announced.wait_for(|announced| announced.rebalance).await.unwrap();
    assert!(cloud.instance.changed().await.is_err());
    assert_eq!(*cloud.instance.borrow(), Some(Instance { name, identity: None }));
    tasks.close_and_wait(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn the_machines_identity_is_told_with_its_name_to_the_last_byte() {
    let mock = MockImds::start().unwrap();
    mock.name_machine("i-0abc");
    mock.sign_machine("{\n  \"instanceId\" : \"i-0abc\"\n}\n", "MIAG\nAAAA\n");
    let tasks = Tasks::new(CancellationToken::new());
    let url = mock.url().parse().unwrap();
    for given in [None, Some(InstanceName::new("i-0abc").unwrap())] {
        let clock = Arc::new(SystemClock::new());
        let mut cloud = start(Some(&url), given, clock, &tasks);
        let known = |instance: &Option<Instance>| {
            instance.as_ref().is_some_and(|instance| instance.identity.is_some())
        };
        let instance = cloud.instance.wait_for(known).await.unwrap().clone().unwrap();
        assert!(!format!("{instance:?}").contains("MIAG"), "{instance:?}");
        assert_eq!(instance.name.as_str(), "i-0abc");
        let sent = instance.identity.unwrap().for_coordinator();
        assert_eq!(sent.document, "{\n  \"instanceId\" : \"i-0abc\"\n}\n");
        assert_eq!(sent.signature, "MIAG\nAAAA\n");
        assert!(cloud.instance.changed().await.is_err(), "it is asked for no more");
    }
    tasks.shutdown_token().cancel();
    tasks.close_and_wait(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn an_identity_that_is_not_answered_is_asked_for_again_while_the_name_is_told() {
    let mock = MockImds::start().unwrap();
    let mut imds = imds(&mock);
    mock.name_machine("i-0abc");
    mock.sign_machine("{}", "MIAG");
    let (naming, mut instance) = Naming::new(Some(InstanceName::new("i-0abc").unwrap()));
    mock.set_fault(Fault::Status(500));
    let naming = naming.ask(&mut imds).await.expect("there is more to ask");
    assert_eq!(instance.borrow_and_update().as_ref().unwrap().identity, None);
    assert!(!instance.has_changed().unwrap());
    mock.set_fault(Fault::None);
    assert!(naming.ask(&mut imds).await.is_none(), "all is known");
    assert!(instance.borrow().as_ref().unwrap().identity.is_some());
}

#[tokio::test]
async fn an_identity_that_no_coordinator_reads_is_left_out() {
    let mock = MockImds::start().unwrap();
    let mut imds = imds(&mock);
    mock.name_machine("i-0abc");
    for (document, signature) in [(4097, 4), (2, 8193)] {
        mock.sign_machine(&"{".repeat(document), &"M".repeat(signature));
        let (naming, instance) = Naming::new(None);
        assert!(naming.ask(&mut imds).await.is_none(), "it will not be shorter");
        let instance = instance.borrow().clone().unwrap();
        assert_eq!((instance.name.as_str(), instance.identity), ("i-0abc", None));
    }
}
