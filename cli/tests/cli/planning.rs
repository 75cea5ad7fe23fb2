//! What the autoscaler would do, and what scaling would cost: `plan` and `simulate`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use stoker_proto::v1;
use stoker_proto::well_known;
use tonic::Status;

use crate::fake::{Fake, NOW, State, job};
use crate::process::{Run, stoker, stoker_at, stoker_with_input};

pub(crate) const FLEET: &str = "fleet = 'fake'\n[classes.standard]\nmax-wait = '60s'\n\
    [models.echo]\ntask = 'echo'\n[pools.default]\nmodels = ['echo']\n\
    [[pools.default.offerings]]\ninstance-type = 'g5'\nzone = 'a'\nprice = 1\n";
pub(crate) const SPOT: &str = "[[pools.default.offerings]]\ninstance-type = 'g5'\nzone = 'a'\ncapacity = 'spot'\nprice = 0.4\n";

fn seconds(seconds: i64) -> well_known::Timestamp {
    well_known::Timestamp { seconds, nanos: 0 }
}

/// `waiting` jobs that may wait another 10 s, after an hour with a job of `run` seconds each 15 s.
fn demand(waiting: u64, run: f64) -> v1::Demand {
    let slot = |n: i64| v1::DemandSlot {
        begins_at: Some(seconds(NOW - 15 * n)),
        accepted: 1,
        started: 1,
        measured: 1,
        run_seconds: run,
        run_seconds_squared: run * run,
        ..v1::DemandSlot::default()
    };
    v1::Demand {
        pool: "default".into(),
        model: "echo".into(),
        class: "standard".into(),
        running: 0,
        waiting: vec![v1::WaitingJobs { start_by: Some(seconds(NOW + 10)), jobs: waiting }],
        slots: (1..=240).rev().map(slot).collect(),
    }
}

pub(crate) fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Compares with a file of `tests/expected`, or writes it.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(name);
    if std::env::var_os("STOKER_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name}; bless it if the change is meant");
}

async fn plan(state: State, fleet: &str, more: &[&str]) -> (Fake, Run) {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "fleet.toml", fleet);
    let fake = Fake::start(state).await;
    let arguments = [&["plan", "--fleet", path.to_str().unwrap()], more].concat();
    let run = stoker_at(&fake.url, &arguments).await;
    (fake, run)
}

#[tokio::test]
async fn a_plan_says_what_it_would_do_and_what_it_does_not_know() {
    let state = State { demands: vec![demand(90, 120.0)], ..State::default() };
    let (fake, run) = plan(state, FLEET, &[]).await;
    let text = run.expect(0).out().replace(&fake.url, "http://coordinator");
    golden("plan.txt", &text);
    let asked = ["status", "demand Some(86400)", "workers", "ledger \"\""];
    fake.with(|state| assert_eq!(state.requests, asked));
}

#[tokio::test]
async fn a_plan_is_data_for_programs() {
    let state = State { demands: vec![demand(90, 120.0)], ..State::default() };
    let (_fake, run) = plan(state, FLEET, &["-o", "json", "--history", "7d"]).await;
    let plan = run.expect(0).json();
    let pool = &plan["pools"][0];
    assert_eq!((pool["pool"].as_str(), pool["waiting"].as_u64()), (Some("default"), Some(90)));
    let action = &pool["actions"][0];
    assert_eq!(
        (action["action"].as_str(), action["offering"].as_str()),
        (Some("launch"), Some("g5.a.on-demand"))
    );
    assert_eq!(action["reason"]["kind"], "backlog");
    assert_eq!(plan["history_seconds"], 7 * 86400);
    assert!(!plan["not_known"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn an_idle_pool_without_a_past_is_said_to_be_one() {
    let (_fake, run) = plan(State { no_workers: true, ..State::default() }, FLEET, &[]).await;
    let text = run.expect(0).out();
    assert!(text.contains("so nothing is learned"), "{text}");
    assert!(text.contains("nothing would be done"), "{text}");
}

#[tokio::test]
async fn a_plan_is_held_when_a_reading_is_missing() {
    // The status is answered, the demand is not.
    let failures = [Status::unimplemented("an older version")].into();
    let state = State { failures, answer_first: 1, ..State::default() };
    let (_fake, run) = plan(state, FLEET, &[]).await;
    let text = run.expect(0).out();
    assert!(text.contains("pool default: HOLD, nothing would be done\n"), "{text}");
    assert!(text.contains("waits for the queues: cannot observe the demand"), "{text}");
}

#[tokio::test]
async fn workers_of_an_unknown_offering_hold_the_plan_until_it_is_said() {
    let fleet = format!("{FLEET}{SPOT}");
    let state = || State { demands: vec![demand(1, 1.0)], ..State::default() };
    let (_fake, run) = plan(state(), &fleet, &[]).await;
    let text = run.expect(0).out();
    assert!(
        text.contains("HOLD") && text.contains("--workers-are default=g5.a.on-demand"),
        "{text}"
    );
    let (_fake, run) = plan(state(), &fleet, &["--workers-are", "default=g5.a.on-demand"]).await;
    assert!(!run.expect(0).out().contains("HOLD"));
    let (_fake, run) = plan(state(), &fleet, &["--workers-are", "default=g6.a.spot"]).await;
    let err = run.expect(2).err;
    assert!(err.contains("has no offering `g6.a.spot`") && err.contains("it has: g5.a"), "{err}");
}

#[tokio::test]
async fn a_fleet_without_offerings_has_nothing_to_plan() {
    let bare = &FLEET[..FLEET.find("[[").unwrap()];
    let (fake, run) = plan(State::default(), bare, &[]).await;
    assert!(run.expect(2).err.contains("has offerings, so there is nothing to plan"));
    fake.with(|state| assert!(state.requests.is_empty()));
    let run = stoker_at("http://127.0.0.1:1", &["plan", "--fleet", "/no/such/file"]).await;
    assert!(run.expect(2).err.contains("/no/such/file"));
}

/// Four hours of jobs of 20 s, one a minute, and 30 more in the third hour.
fn arrivals() -> String {
    let steady = (0..240).map(|minute| minute * 60);
    let burst = (0..30).map(|n| 9000 + n * 2);
    let mut times: Vec<u32> = steady.chain(burst).collect();
    times.sort_unstable();
    let rows = times.into_iter().map(|time| format!("{time},20\n"));
    std::iter::once("t_s,service_s\n".to_owned()).chain(rows).collect()
}

#[tokio::test]
async fn a_simulation_answers_serverless_always_on_or_spot() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "arrivals.csv", &arrivals());
    let plot = folder.path().join("plot.svg");
    let (path, plot_path) = (path.to_str().unwrap(), plot.to_str().unwrap());
    let arguments = [
        "simulate",
        path,
        "--spot-price",
        "0.4",
        "--serverless-price",
        "0.0005",
        "--plot",
        plot_path,
    ];
    let run = stoker(&arguments).await.expect(0);
    golden("simulate.txt", &run.out());
    assert_eq!(run.err, format!("wrote {plot_path}\n"));
    let svg = fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    assert!(svg.matches("<polyline").count() >= 8, "load, capacity, wait and cost");
    // The same again, to the letter.
    assert_eq!(stoker(&arguments).await.expect(0).out(), run.out());
}

#[tokio::test]
async fn a_simulation_is_data_for_programs() {
    let input = arrivals();
    let arguments =
        ["simulate", "-", "-o", "json", "--policy", "knative", "--wait", "5m", "--boot", "30s"];
    let run = stoker_with_input(&arguments, input.as_bytes()).await.expect(0);
    let document = run.json();
    assert_eq!(document["workload"]["jobs"], 270);
    assert_eq!(document["classes"][0]["max_wait_seconds"], 300.0);
    assert_eq!(document["boot_seconds"], 30.0);
    let ways = document["ways"].as_array().unwrap();
    assert_eq!(ways[0]["name"], "Stoker");
    assert!(ways.iter().any(|way| way["name"].as_str().unwrap().starts_with("Knative")));
    assert!(ways[0]["cost_dollars"].as_f64().unwrap() > 0.0);
    let of = |what: &str| ways[0]["by_offering"][0][what].clone();
    assert_eq!((of("offering"), of("capacity")), ("gpu.a.on-demand".into(), "on-demand".into()));
    assert_eq!(of("cost_dollars"), ways[0]["cost_dollars"]);
    assert_eq!(ways[0]["by_capacity"]["on_demand"]["gpu_hours"], ways[0]["gpu_hours"]);
    assert_eq!(ways[0]["by_capacity"]["spot"]["launches"], 0);
}

#[tokio::test]
async fn policies_are_told_settings_and_tuned_in_hindsight() {
    let input = arrivals();
    let arguments = [
        "simulate",
        "-",
        "-o",
        "json",
        "--tuned",
        "--policy",
        "keda-queue-length:target=4,min=1",
        "--policy",
        "knative",
    ];
    let document = stoker_with_input(&arguments, input.as_bytes()).await.expect(0).json();
    let ways = document["ways"].as_array().unwrap();
    let names: Vec<&str> = ways.iter().filter_map(|way| way["name"].as_str()).collect();
    assert!(names.contains(&"KEDA queue length 4.0, min 1"), "{names:?}");
    assert!(names.contains(&"Knative 0.7, min 0"), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.ends_with(", tuned")).count(), 2, "{names:?}");
}

#[tokio::test]
async fn rates_and_service_times_by_model_and_type_are_simulated() {
    let folder = tempfile::tempdir().unwrap();
    let rates = file(folder.path(), "rates.csv", "t_s,rate\n0,0.05\n7200,0.01\n14400,0.1\n");
    let rates = rates.to_str().unwrap();
    let run =
        async |seed: &str| stoker_with(&["simulate", rates, "-o", "json", "--seed", seed]).await;
    let (first, second) = (run("1").await, run("2").await);
    assert_eq!(first["workload"]["days"], 0.25);
    assert_ne!(first["workload"]["jobs"], second["workload"]["jobs"]);
    assert_eq!(first, run("1").await);

    let mut jobs = "t_s,service_s,model\n".to_owned();
    for n in 0..240 {
        let _ = writeln!(jobs, "{},20,{}", 60 * n, if n % 2 == 0 { "bert" } else { "llama" });
    }
    let jobs = file(folder.path(), "jobs.csv", &jobs);
    let times =
        "model,instance_type,times,mean_s,cv,batch\nbert,gpu,0.1,,,\nllama,gpu,,300,0.5,2\n";
    let times = file(folder.path(), "times.csv", times);
    let (jobs, times) = (jobs.to_str().unwrap(), times.to_str().unwrap());
    let plain = stoker_with(&["simulate", jobs, "-o", "json"]).await;
    let other = stoker_with(&["simulate", jobs, "-o", "json", "--service-times", times]).await;
    assert_eq!(other["workload"]["models"], 2);
    let hours = |document: &serde_json::Value| document["ways"][0]["gpu_hours"].as_f64().unwrap();
    assert!(hours(&other) > 1.5 * hours(&plain), "{plain} {other}");
}

async fn stoker_with(arguments: &[&str]) -> serde_json::Value {
    stoker(arguments).await.expect(0).json()
}

#[tokio::test]
async fn the_past_of_a_fleet_is_simulated_with_its_file() {
    let at = |n: i64| v1::Job {
        accepted_at: Some(seconds(NOW - 7200 + 60 * n)),
        started_at: Some(seconds(NOW - 7200 + 60 * n + 1)),
        finished_at: Some(seconds(NOW - 7200 + 60 * n + 21)),
        class: "standard".into(),
        pool: "default".into(),
        ..job(&format!("job-{n:03}"), 1)
    };
    let jobs = (0..60).map(|n| (format!("job-{n:03}"), at(n))).collect();
    let fake = Fake::start(State { jobs, ..State::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "fleet.toml", &format!("{FLEET}{SPOT}"));
    let arguments = ["simulate", "--fleet", path.to_str().unwrap()];
    let run = stoker_at(&fake.url, &arguments).await.expect(0);
    let text = run.out();
    assert!(text.starts_with("60 jobs in 59m50s, 20.0 s on average"), "{text}");
    assert!(text.contains("class standard: 99 % start within 1m00s"), "{text}");
    assert!(text.contains("offering g5.a.spot: $0.4/h"), "{text}");
    assert!(text.contains("Stoker, spot only"), "{text}");
    // What `list` prints says the same.
    let list = stoker_at(&fake.url, &["list", "--all", "-o", "json"]).await.expect(0);
    let export = file(folder.path(), "jobs.json", &list.out());
    let arguments = ["simulate", export.to_str().unwrap(), "--fleet", path.to_str().unwrap()];
    assert_eq!(stoker(&arguments).await.expect(0).out(), text);
}

#[tokio::test]
async fn what_cannot_be_simulated_is_said_with_what_to_do() {
    let fake = Fake::start(State::default()).await;
    let run = stoker_at(&fake.url, &["simulate"]).await.expect(1);
    assert!(
        run.err.contains("has no jobs of the last 7days") || run.err.contains("of the last 7d"),
        "{}",
        run.err
    );
    let folder = tempfile::tempdir().unwrap();
    let fleet = file(folder.path(), "fleet.toml", FLEET);
    let csv = file(folder.path(), "arrivals.csv", &arrivals());
    let odd = file(folder.path(), "odd.csv", "when,what\n1,2\n");
    let zones = file(folder.path(), "zones.csv", "t_s,z\n0,1\n");
    let spot = file(folder.path(), "spot.toml", &format!("{FLEET}{SPOT}"));
    let rates = file(folder.path(), "rates.csv", "t_s,rate\n0,1\n60,x\n");
    let times = file(folder.path(), "times.csv", "model,instance_type\nbert,gpu\n");
    let other = file(folder.path(), "other.csv", "model,instance_type,times\n*,h100,0.5\n");
    let [fleet, csv, odd, zones, spot, rates, times, other] =
        [&fleet, &csv, &odd, &zones, &spot, &rates, &times, &other]
            .map(|path| path.to_str().unwrap());
    for (arguments, said) in [
        (&["simulate", odd][..], "has the columns when, what; write CSV"),
        (&["simulate", "/no/such/file"], "there is no such file"),
        (&["simulate", csv, "--fleet", fleet, "--pool", "x"], "has no pool `x`"),
        (&["simulate", csv, "--price=-1"], "must be a number above 0"),
        (&["simulate", csv, "--objective", "99"], "must be between 0 and 1"),
        (&["simulate", csv, "--wait", "0s"], "--wait must be above 0s"),
        (
            &["simulate", csv, "--policy", "magic"],
            "no policy is called `magic`; there are stoker, always-on",
        ),
        (
            &["simulate", csv, "--policy", "knative:size=1"],
            "knative has no `size`; its settings are target=0.7 (0.01 to 1000000), min=0 (0 to 1000)",
        ),
        (
            &["simulate", csv, "--policy", "knative:min=-1"],
            "`min` must be a whole number from 0 to 1000",
        ),
        (&["simulate", rates], "rates.csv, line 3: `x` is not a number"),
        (
            &["simulate", csv, "--service-times", times],
            "times.csv, line 2: it has neither times nor mean_s",
        ),
        (
            &["simulate", csv, "--service-times", other],
            "the instance type `h100`, of which the pool has no offering; it has: gpu",
        ),
        (&["simulate", csv, "--spot-capacity", zones], "--spot-capacity needs a price"),
        (
            &["simulate", csv, "--fleet", spot, "--spot-capacity", zones],
            "no column for zone `a`; it has: z",
        ),
        (&["simulate", csv, "--since", "1h"], "cannot be used with"),
    ] {
        let run = stoker(arguments).await.expect(2);
        assert!(run.err.contains(said), "{arguments:?}: {}", run.err);
    }
}
