//! The executor keeps its rules under faults, and the referee would see it if it did not.

use stoker_sim::machines::{Rule, Sabotage, Tally, run};

/// Worlds of the test, and virtual hours of each. `stoker-sim machines` runs ten thousand hours.
const WORLDS: u64 = 4;
const HOURS: u64 = 30;

/// Worlds within which every seeded bug has to show.
const SABOTAGE_WORLDS: u64 = 12;

#[test]
fn two_autoscalers_under_faults_keep_every_rule() {
    let mut tally = Tally::default();
    for seed in 0..WORLDS {
        let outcome = run(seed, HOURS, None);
        assert_eq!(outcome.violation, None, "seed {seed}");
        tally.merge(&outcome.tally);
    }
    assert!(tally.launched > 100 && tally.call_faults > 400 && tally.crashes > 40, "{tally:?}");
    assert!(tally.reigns > 20 && tally.unsure > 0 && tally.refused_writes > 0, "{tally:?}");
}

#[test]
fn every_seeded_bug_of_an_autoscaler_is_found() {
    let found = |bug| (0..SABOTAGE_WORLDS).find_map(|seed| run(seed, HOURS, Some(bug)).violation);
    let missed: Vec<&str> =
        Sabotage::ALL.into_iter().filter(|bug| found(*bug).is_none()).map(Sabotage::name).collect();
    assert_eq!(missed, [""; 0]);
}

#[test]
fn a_world_without_caps_breaks_the_cap_and_tells_the_same_story_twice() {
    let broken = run(0, HOURS, Some(Sabotage::NoCaps));
    let rule = broken.violation.as_ref().map(|violation| violation.rule);
    assert!(matches!(rule, Some(Rule::Instances | Rule::Launches | Rule::Budget)), "{broken:?}");
    assert_eq!(broken, run(0, HOURS, Some(Sabotage::NoCaps)));
    assert_eq!(run(1, HOURS, None), run(1, HOURS, None));
}
