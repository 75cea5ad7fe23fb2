//! The protocol holds under faults, and the checks would see it if it did not.

use std::collections::BTreeSet;

use stoker_sim::protocol::{
    Bite, Fault, Invariant, Outcome, Reduced, Sabotage, Setup, Trace, campaign, run, shrink,
};

/// Seeds of the test of the promise: some seconds on one core.
const SEEDS: u64 = 4_000;

/// Seeds within which every seeded bug has to show; the slowest needs some hundred.
const SABOTAGE_SEEDS: u64 = 3_000;

fn story(seed: u64, without: &[Fault]) -> Outcome {
    let without: BTreeSet<Fault> = without.iter().copied().collect();
    run(Setup::of(seed, &without), None, Trace::Keep)
}

#[test]
fn the_invariants_hold_in_thousands_of_worlds_and_faults_bite_in_them() {
    let campaign = campaign(0..SEEDS, None);
    if let Some(failure) = &campaign.failure {
        panic!(
            "{}\nreplay it:  cargo run -p stoker-sim -- protocol --seed {} --trace",
            failure.violation.as_ref().map_or_else(String::new, ToString::to_string),
            failure.seed
        );
    }
    assert_eq!(campaign.seeds, SEEDS);
    assert_eq!(campaign.tally.too_rare(SEEDS), []);
}

#[test]
fn every_seeded_bug_is_found_and_every_invariant_finds_one() {
    let mut missed = Vec::new();
    let mut silent: BTreeSet<Invariant> = Invariant::ALL.iter().copied().collect();
    for bug in Sabotage::ALL {
        match campaign(0..SABOTAGE_SEEDS, Some(bug)).failure.and_then(|seed| seed.violation) {
            Some(found) => {
                silent.remove(&found.invariant);
            }
            None => missed.push(bug.what()),
        }
    }
    assert_eq!(missed, [""; 0]);
    assert_eq!(silent, BTreeSet::new());
}

#[test]
fn a_seed_tells_the_same_story_every_time_and_its_own() {
    let mut hashes = BTreeSet::new();
    for seed in 0..50 {
        let first = story(seed, &[]);
        assert_eq!(first, story(seed, &[]));
        let untraced = run(Setup::of(seed, &BTreeSet::new()), None, Trace::Hash);
        assert_eq!(untraced.hash, first.hash);
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 50);
}

/// Times and names of the faults in a log.
fn strikes(outcome: &Outcome) -> Vec<&String> {
    outcome.lines.iter().filter(|line| line.contains("  fault: ")).collect()
}

#[test]
fn leaving_a_fault_out_does_not_move_the_others() {
    let mut compared = 0;
    for seed in 0..40 {
        let whole = story(seed, &[]);
        let fewer = story(seed, &[Fault::WorkerKilled]);
        let mut rest = strikes(&whole);
        rest.retain(|line| !line.ends_with(&Fault::WorkerKilled.name()));
        compared += rest.len();
        assert_eq!(strikes(&fewer), rest);
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn without_faults_nothing_is_repeated() {
    let every: BTreeSet<Fault> = Fault::ALL.into_iter().collect();
    for seed in 0..100 {
        let outcome = run(Setup::of(seed, &every), None, Trace::Hash);
        assert_eq!(outcome.violation, None);
        for bite in [Bite::ExpiredLeases, Bite::Resumed, Bite::Redelivered, Bite::UnknownAnswers] {
            assert_eq!(outcome.tally.get(bite), 0, "seed {seed}: {}", bite.text());
        }
    }
}

#[test]
fn a_failing_seed_is_made_shorter_and_fails_in_the_same_way() {
    let bug = Sabotage::NoMandatory;
    let failure = campaign(0..SABOTAGE_SEEDS, Some(bug)).failure.expect("it is found");
    let reduced = shrink(&failure, Some(bug));
    assert_ne!(reduced, Reduced::default());
    let again = run(reduced.setup(failure.seed), Some(bug), Trace::Keep);
    let invariant = |outcome: &Outcome| outcome.violation.as_ref().map(|found| found.invariant);
    assert_eq!(invariant(&again), invariant(&failure));
    assert!(again.lines.last().is_some_and(|line| line.contains("P1")), "{:?}", again.lines.last());
}

#[test]
fn names_on_the_command_line_are_words_and_unique() {
    let faults = Fault::ALL.map(Fault::name);
    let bugs = Sabotage::ALL.map(Sabotage::name);
    assert_eq!(Fault::StoreAnswerLost.name(), "store-answer-lost");
    assert_eq!(Sabotage::NoTokenCheck.name(), "no-token-check");
    assert_eq!(faults.iter().collect::<BTreeSet<_>>().len(), Fault::ALL.len());
    assert_eq!(bugs.iter().collect::<BTreeSet<_>>().len(), Sabotage::ALL.len());
}
