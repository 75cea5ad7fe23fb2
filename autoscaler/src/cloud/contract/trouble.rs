//! Promises about calls that are refused or lost.

use super::{Harness, Support, launched, live_of, names, never_more_than, region, spot};
use crate::cloud::error::{CloudError, ErrorClass, Verb};
use crate::cloud::memory::Fault;
use crate::cloud::provider::Terminated;
use crate::cloud::request::Launch;

/// The class of a launch that brought nothing, wherever the cloud says it.
async fn class_of(harness: &dyn Harness, launch: &Launch) -> ErrorClass {
    match harness.cloud().launch(launch).await {
        Err(error) => error.class,
        Ok(answer) => {
            assert_eq!(answer.machines, [], "it was refused");
            let refusal = answer.refusals.first().expect("a reason for what is missing");
            refusal.error.class
        }
    }
}

pub async fn a_refused_launch_has_its_class_and_leaves_nothing(harness: &dyn Harness) {
    use ErrorClass::{Auth, Capacity, Invalid, Quota};
    for class in [Capacity, Quota, Auth, Invalid] {
        if harness.fail_next(Verb::Launch, Fault::Refused(class)).await == Support::Impossible {
            continue;
        }
        let launch = spot(harness, 1);
        assert_eq!(class_of(harness, &launch).await, class);
        never_more_than(harness, &launch, 0).await;
    }
}

pub async fn a_launch_that_was_not_looked_at_can_be_repeated(harness: &dyn Harness) {
    for class in [ErrorClass::Throttle, ErrorClass::Transient] {
        if harness.fail_next(Verb::Launch, Fault::Refused(class)).await == Support::Impossible {
            continue;
        }
        let launch = spot(harness, 2);
        // It may be repeated inside, too.
        if let Err(error) = harness.cloud().launch(&launch).await {
            assert_eq!(error.class, class, "{error}");
        }
        launched(harness, &launch).await;
        live_of(harness, &launch, 2).await;
        never_more_than(harness, &launch, 2).await;
    }
}

pub async fn a_launch_whose_answer_is_lost_can_be_found_and_repeated(harness: &dyn Harness) {
    if harness.fail_next(Verb::Launch, Fault::LostAfter).await == Support::Impossible {
        return;
    }
    let launch = spot(harness, 2);
    let error = harness.cloud().launch(&launch).await.expect_err("the answer is lost");
    assert_eq!(error.class, ErrorClass::Unknown, "{error}");
    let found = live_of(harness, &launch, 2).await;
    let repeated = launched(harness, &launch).await;
    assert_eq!(names(&repeated.machines), names(&found));
    never_more_than(harness, &launch, 2).await;
}

pub async fn a_launch_that_never_arrived_can_be_repeated(harness: &dyn Harness) {
    if harness.fail_next(Verb::Launch, Fault::LostBefore).await == Support::Impossible {
        return;
    }
    let launch = spot(harness, 2);
    let error = harness.cloud().launch(&launch).await.expect_err("the call is lost");
    assert_eq!(error.class, ErrorClass::Unknown, "{error}");
    never_more_than(harness, &launch, 0).await;
    launched(harness, &launch).await;
    live_of(harness, &launch, 2).await;
}

pub async fn a_list_is_whole_or_an_error_and_never_in_doubt(harness: &dyn Harness) {
    let launch = spot(harness, 2);
    launched(harness, &launch).await;
    live_of(harness, &launch, 2).await;
    let mut faults: Vec<Fault> = vec![Fault::LostBefore, Fault::LostAfter];
    faults.extend([ErrorClass::Auth, ErrorClass::Throttle].map(Fault::Refused));
    for fault in faults {
        if harness.fail_next(Verb::List, fault).await == Support::Impossible {
            continue;
        }
        match harness.cloud().list(&region(harness)).await {
            Err(error) => assert_ne!(error.class, ErrorClass::Unknown, "{error}"),
            // It was repeated inside.
            Ok(machines) => assert_eq!(names(&machines).len(), 2, "{machines:?}"),
        }
        live_of(harness, &launch, 2).await;
    }
}

pub async fn an_end_whose_answer_is_lost_can_be_repeated(harness: &dyn Harness) {
    for fault in [Fault::LostBefore, Fault::LostAfter] {
        let launch = spot(harness, 2);
        let ours = names(&launched(harness, &launch).await.machines);
        live_of(harness, &launch, 2).await;
        if harness.fail_next(Verb::Terminate, fault).await == Support::Impossible {
            return;
        }
        for (name, end) in harness.cloud().terminate(&region(harness), &ours).await {
            let class = end.map_err(|error: CloudError| error.class);
            assert_eq!(class, Err(ErrorClass::Unknown), "{name}, {fault:?}");
        }
        for (name, end) in harness.cloud().terminate(&region(harness), &ours).await {
            assert_eq!(end, Ok(Terminated::Accepted), "{name}, {fault:?}");
        }
        live_of(harness, &launch, 0).await;
    }
}
