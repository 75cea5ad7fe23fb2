//! Explaining a job, adding up the bill, looking for what is wrong.

use stoker_proto::v1;
use stoker_proto::well_known;

use crate::fake::{Fake, Ledger, NOW, State, job};
use crate::fleet::ready;
use crate::process::{stoker_at, stoker_in};

#[tokio::test]
async fn a_job_is_explained_with_the_verdict_first() {
    let waiting = v1::Job {
        state: v1::JobState::Queued.into(),
        pool: "default".into(),
        tenant: "acme".into(),
        ..job("job-1", 3)
    };
    let share = v1::QueueShare {
        tenant: "acme".into(),
        class: "standard".into(),
        queued: 4,
        weight: 2,
        ..Default::default()
    };
    let ahead = vec![v1::JobsAhead { tenant: "acme".into(), jobs: 3 }];
    let queue =
        v1::JobQueue { slots: 2, in_flight: 4, ahead, shares: vec![share], ..Default::default() };
    let fake = Fake::start(State {
        jobs: [("job-1".to_owned(), waiting)].into(),
        queue: Some(queue),
        ..State::default()
    })
    .await;
    let run = stoker_at(&fake.url, &["explain", "job-1"]).await.expect(0);
    let out = run.out();
    let first =
        "It waits for its turn: 3 jobs go first; 4 jobs are with its workers, which have 2 slots.";
    assert!(out.starts_with(first), "{out}");
    assert!(out.contains("acme    standard       2       4          0               3"), "{out}");
    assert!(out.contains("crashed"), "{out}");
    let run = stoker_at(&fake.url, &["explain", "job-1", "-o", "json"]).await.expect(0);
    assert_eq!(
        (&run.json()["cause"], &run.json()["queue"]["ahead"]),
        (&"in_line".into(), &3.into())
    );
    let run = stoker_at(&fake.url, &["explain", "job-2"]).await.expect(3);
    assert!(run.err.contains("cannot explain the job: no job `job-2`"), "{}", run.err);
}

#[tokio::test]
async fn the_bill_is_shared_by_what_ran() {
    let minutes = |minutes: i64| Some(well_known::Duration { seconds: minutes * 60, nanos: 0 });
    let usage = |tenant: &str, taken, busy| v1::Usage {
        day: NOW / 86_400,
        pool: "default".into(),
        model: "mini".into(),
        tenant: tenant.into(),
        attempts: 1,
        taken: minutes(taken),
        busy: minutes(busy),
    };
    // $2 an hour, there for an hour, ready all the time.
    let mut entry = ready(1, 60);
    entry.times.ready = entry.times.requested;
    let fake = Fake::start(State {
        ledger: Ledger { entries: vec![entry], ..Ledger::default() },
        usage: vec![usage("a", 60, 20), usage("b", 20, 10)],
        ..State::default()
    })
    .await;
    let run = stoker_at(&fake.url, &["cost", "--by", "tenant", "-o", "json"]).await.expect(0);
    let rows = &run.json()["rows"];
    assert_eq!((&rows[0]["tenant"], &rows[0]["idle"]), (&serde_json::Value::Null, &1.0.into()));
    assert_eq!((&rows[1]["tenant"], &rows[1]["run"]), (&"a".into(), &0.75.into()));
    assert_eq!((&rows[2]["tenant"], &rows[2]["run"]), (&"b".into(), &0.25.into()));
    let run = stoker_at(&fake.url, &["cost"]).await.expect(0);
    assert!(
        run.out().contains("default  $1.00  $1.00  $0.00  $0.00  $2.00   100%"),
        "{}",
        run.out()
    );
    let run = stoker_at(&fake.url, &["cost", "--since", "90d"]).await.expect(2);
    assert!(run.err.contains("at most 62d"), "{}", run.err);
}

#[tokio::test]
async fn the_doctor_ends_with_1_if_anything_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let text = "fleet = \"fake\"\n[classes.standard]\nmax-wait = \"60s\"\n\
                [models.echo]\ntask = \"echo\"\n[pools.default]\nmodels = [\"echo\"]\n";
    std::fs::write(folder.path().join("fleet.toml"), text).unwrap();
    let state = State { broker_problem: "connection refused".into(), ..State::default() };
    let fake = Fake::start(state).await;
    let run = stoker_in(folder.path(), &["--server", &fake.url, "doctor"]).await.expect(1);
    for line in [
        "ok         fleet file    fleet.toml is valid\n",
        "warning    version       this command is 0.1.0, the coordinator 9.9.9\n",
        "PROBLEM    broker        embedded: connection refused\n",
        "                         -> mend the broker;",
    ] {
        assert!(run.out().contains(line), "`{line}`: {}", run.out());
    }
    let run = stoker_in(folder.path(), &["--server", &fake.url, "doctor", "-o", "json"]).await;
    let json = run.expect(1).json();
    assert_eq!(json["healthy"], false);
    let away =
        stoker_in(folder.path(), &["--server", "http://127.0.0.1:1", "doctor"]).await.expect(1);
    assert!(away.out().contains("PROBLEM    coordinator"), "{}", away.out());
    std::fs::write(folder.path().join("fleet.toml"), "fleet = 3").unwrap();
    let run = stoker_in(folder.path(), &["--server", &fake.url, "doctor"]).await.expect(1);
    assert!(run.out().contains("PROBLEM    fleet file"), "{}", run.out());
}

#[tokio::test]
async fn without_a_terminal_the_dashboard_is_one_frame_of_text() {
    let ledger = Ledger { entries: vec![ready(1, 60)], ..Ledger::default() };
    let fake = Fake::start(State { ledger, workers_ready: 1, ..State::default() }).await;
    for arguments in [&["top"][..], &["top", "--once"]] {
        let out = stoker_at(&fake.url, arguments).await.expect(0).out();
        for part in
            ["Classes ─", "Pools ─", "Machines ─", "i-1 ", "g5.spot spot", "$2.000/h", "buy"]
        {
            assert!(out.contains(part), "`{part}`: {out}");
        }
        assert!(!out.contains('\x1b'), "no terminal is there to obey: {out:?}");
    }
    let run = stoker_at(&fake.url, &["top", "-o", "json"]).await.expect(2);
    assert!(run.err.contains("`stoker top` is for people"), "{}", run.err);
    assert_eq!(run.out(), "");
}
