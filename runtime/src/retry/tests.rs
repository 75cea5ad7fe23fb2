use std::future::pending;
use std::io;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy(max_elapsed: Option<Duration>) -> RetryPolicy {
    RetryPolicy { initial: SECOND, max_interval: 4 * SECOND, multiplier: 2.0, max_elapsed }
}

fn transient(_: &io::Error) -> Retryable {
    Retryable::Transient
}

fn refused() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionRefused)
}

#[tokio::test(start_paused = true)]
async fn success_after_failures_is_success() {
    let mut failures_left = 3;
    let outcome = retry(
        policy(None),
        "reach the store",
        &CancellationToken::new(),
        || {
            let fails = failures_left > 0;
            failures_left -= 1;
            async move { if fails { Err(refused()) } else { Ok("done") } }
        },
        transient,
    )
    .await;
    assert_eq!(outcome.unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_never_works_ends_within_the_bound() {
    let started = Instant::now();
    let bound = 60 * SECOND;
    let outcome: Result<(), _> = retry(
        policy(Some(bound)),
        "reach the store",
        &CancellationToken::new(),
        || async { Err(refused()) },
        transient,
    )
    .await;
    let error = outcome.unwrap_err();
    assert!(started.elapsed() <= bound, "{:?}", started.elapsed());
    let RetryError::Exhausted { attempts, source: Some(_), .. } = &error else {
        panic!("{error:?}")
    };
    // 4 s at most between two tries, so at least one per 4 s until the last delay would not fit.
    assert!(*attempts >= 14, "{attempts}");
    assert!(error.to_string().starts_with("cannot reach the store: gave up after "), "{error}");
    assert_eq!(error.into_source().unwrap().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_policy_without_a_bound_gets_the_default_one() {
    let started = Instant::now();
    let outcome: Result<(), _> = retry(
        policy(None),
        "reach the store",
        &CancellationToken::new(),
        || async { Err(refused()) },
        transient,
    )
    .await;
    assert!(matches!(outcome, Err(RetryError::Exhausted { .. })));
    assert!(started.elapsed() <= DEFAULT_MAX_ELAPSED);
    assert!(started.elapsed() + 8 * SECOND >= DEFAULT_MAX_ELAPSED);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_hangs_ends_at_the_bound() {
    let started = Instant::now();
    let outcome: Result<(), RetryError<io::Error>> = retry(
        policy(Some(10 * SECOND)),
        "reach the store",
        &CancellationToken::new(),
        pending,
        transient,
    )
    .await;
    assert!(matches!(outcome, Err(RetryError::Exhausted { attempts: 1, source: None, .. })));
    assert_eq!(started.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_endless_bound_does_not_overflow() {
    let outcome = retry(
        policy(Some(Duration::MAX)),
        "reach the store",
        &CancellationToken::new(),
        || async { Ok::<_, io::Error>(1) },
        transient,
    )
    .await;
    assert_eq!(outcome.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_ends_at_once() {
    let started = Instant::now();
    let outcome: Result<(), _> = retry(
        policy(None),
        "log in",
        &CancellationToken::new(),
        || async { Err(refused()) },
        |_| Retryable::Permanent,
    )
    .await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, RetryError::Permanent { .. }));
    assert_eq!(error.to_string(), "cannot log in");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_other_side_can_ask_for_more_patience() {
    let started = Instant::now();
    let mut tries = 0;
    let outcome = retry(
        policy(None),
        "submit",
        &CancellationToken::new(),
        || {
            tries += 1;
            let first = tries == 1;
            async move { if first { Err(refused()) } else { Ok(()) } }
        },
        |_| Retryable::After(30 * SECOND),
    )
    .await;
    outcome.unwrap();
    assert!(started.elapsed() >= 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_wait_and_a_try() {
    let shutdown = CancellationToken::new();
    let failing = retry(
        policy(None),
        "reach the store",
        &shutdown,
        || {
            shutdown.cancel();
            async { Err::<(), _>(refused()) }
        },
        transient,
    );
    let error = failing.await.unwrap_err();
    assert!(matches!(error, RetryError::Shutdown { source: Some(_), .. }), "{error:?}");

    let shutdown = CancellationToken::new();
    let hanging = retry(
        policy(None),
        "reach the store",
        &shutdown,
        pending::<Result<(), io::Error>>,
        transient,
    );
    let (outcome, ()) = tokio::join!(hanging, async { shutdown.cancel() });
    assert!(matches!(outcome, Err(RetryError::Shutdown { source: None, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_loop_waits_until_shutdown() {
    let shutdown = CancellationToken::new();
    let mut delays = Delays::new(SECOND, 4 * SECOND);
    assert!(delays.wait(&shutdown).await);
    shutdown.cancel();
    assert!(!delays.wait(&shutdown).await);
}

#[test]
fn delays_grow_to_the_cap_and_start_over_on_reset() {
    let mut delays = Delays::new(SECOND, 60 * SECOND);
    // With full jitter single delays are small now and then; of 200, some come near the cap.
    let longest = (0..200).map(|_| delays.next_delay()).max().unwrap();
    assert!(longest > 30 * SECOND && longest <= 60 * SECOND, "{longest:?}");
    delays.reset();
    assert!(delays.next_delay() <= SECOND);
    assert!(delays.next_delay() <= 2 * SECOND);
}

proptest! {
    #[test]
    fn no_delay_leaves_its_limits(
        initial in 0_u64..100_000,
        cap in 0_u64..100_000,
        multiplier in proptest::num::f64::ANY,
    ) {
        let policy = RetryPolicy {
            initial: Duration::from_millis(initial),
            max_interval: Duration::from_millis(cap),
            multiplier,
            max_elapsed: None,
        };
        let mut delays = Delays::of(&policy);
        let cap = policy.max_interval.max(SHORTEST_LIMIT);
        prop_assert!(delays.next_delay() <= policy.initial.max(SHORTEST_LIMIT));
        for _ in 0..50 {
            prop_assert!(delays.next_delay() <= cap);
        }
    }
}
