//! The commands that run simulations of the protocol, and what they print.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;

use super::campaign::{Campaign, Reduced, campaign, shrink};
use super::log::Trace;
use super::run::{Outcome, run};
use super::sabotage::Sabotage;
use super::setup::Fault;
use super::tally::Bite;
use crate::verdict::Verdict;

/// Simulates the job protocol under faults and checks its invariants.
#[derive(Debug, Clone, Args)]
pub struct ProtocolArgs {
    /// How many seeds to simulate
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Simulate this seed only
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Print the whole log of the seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Leave these faults out of the seed
    #[arg(long, value_delimiter = ',', requires = "seed", value_parser = fault)]
    without: Vec<Fault>,
    /// Submit so many jobs in the seed
    #[arg(long, requires = "seed")]
    jobs: Option<usize>,
    /// Seed a bug, to see it found
    #[arg(long, value_parser = sabotage)]
    sabotage: Option<Sabotage>,
}

/// Checks that every seeded bug is found.
#[derive(Debug, Clone, Args)]
pub struct SabotageArgs {
    /// Most seeds to try with each bug
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
}

fn fault(name: &str) -> Result<Fault, String> {
    let known = Fault::ALL.map(Fault::name);
    let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
    found.ok_or_else(|| format!("no such fault; there are {}", known.join(", ")))
}

fn sabotage(name: &str) -> Result<Sabotage, String> {
    let known = Sabotage::ALL.map(Sabotage::name);
    let found = Sabotage::ALL.into_iter().find(|sabotage| sabotage.name() == name);
    found.ok_or_else(|| format!("no such bug; there are {}", known.join(", ")))
}

impl ProtocolArgs {
    /// Runs what was asked for.
    pub fn run(&self) -> Verdict {
        match self.seed {
            Some(seed) => self.one(seed),
            None => self.many(),
        }
    }

    fn one(&self, seed: u64) -> Verdict {
        let reduced = Reduced { without: self.without.iter().copied().collect(), jobs: self.jobs };
        let trace = if self.trace { Trace::Keep } else { Trace::Hash };
        let setup = reduced.setup(seed);
        let mut text = format!(
            "seed {seed}: {:?}, {} jobs of {} tenants, {} machines with {} slots, faults: {}\n",
            setup.shape,
            setup.jobs,
            setup.tenants,
            setup.machines,
            setup.slots,
            names(setup.faults.keys().copied()),
        );
        let outcome = run(setup, self.sabotage, trace);
        for line in &outcome.lines {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(
            text,
            "{} events in {} virtual seconds, hash {:016x}",
            outcome.events,
            outcome.lasted.as_secs(),
            outcome.hash
        );
        match &outcome.violation {
            Some(violation) => {
                let _ = writeln!(text, "does not hold: {violation}");
            }
            None => text.push_str("all invariants hold\n"),
        }
        Verdict { text, is_well: outcome.violation.is_none() }
    }

    fn many(&self) -> Verdict {
        let end = self.from.saturating_add(self.seeds);
        let campaign = campaign(self.from..end, self.sabotage);
        let mut text = summary(&campaign);
        if let Some(failure) = &campaign.failure {
            text.push_str(&failed(failure, self.sabotage));
            return Verdict { text, is_well: false };
        }
        let rare = campaign.tally.too_rare(campaign.seeds);
        for (bite, least) in &rare {
            let count = campaign.tally.get(*bite);
            let _ = writeln!(text, "too rare to count: {} ({count} of {least})", bite.text());
        }
        Verdict { text, is_well: rare.is_empty() }
    }
}

fn summary(campaign: &Campaign) -> String {
    let mut text = format!(
        "{} seeds, {} events, {} of virtual time\n",
        campaign.seeds,
        campaign.events,
        hours(campaign.lasted)
    );
    for bite in Bite::ALL {
        let _ = writeln!(text, "{:>9}  {}", campaign.tally.get(*bite), bite.text());
    }
    text
}

fn hours(time: Duration) -> String {
    format!("{} hours", time.as_secs() / 3_600)
}

fn names(faults: impl Iterator<Item = Fault>) -> String {
    let names: Vec<String> = faults.map(Fault::name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

/// What to tell of a seed that failed, with the command that shows it again.
fn failed(failure: &Outcome, sabotage: Option<Sabotage>) -> String {
    let seed = failure.seed;
    let reduced = shrink(failure, sabotage);
    let mut command = format!("stoker-sim protocol --seed {seed} --trace");
    if let Some(sabotage) = sabotage {
        let _ = write!(command, " --sabotage {}", sabotage.name());
    }
    let mut text = String::new();
    if let Some(violation) = &failure.violation {
        let _ = writeln!(text, "seed {seed}: {violation}");
    }
    let _ = writeln!(text, "replay it:  {command}");
    if !reduced.without.is_empty() {
        let _ = write!(command, " --without {}", names(reduced.without.iter().copied()));
    }
    if let Some(jobs) = reduced.jobs {
        let _ = write!(command, " --jobs {jobs}");
    }
    let _ = writeln!(text, "shortened:  {command}");
    text
}

impl SabotageArgs {
    /// Runs the checks against each bug.
    pub fn run(&self) -> Verdict {
        let mut text = String::new();
        let mut missed = 0;
        let width = Sabotage::ALL.iter().map(|bug| bug.name().len()).max().unwrap_or(0);
        for bug in Sabotage::ALL {
            let end = self.from.saturating_add(self.seeds);
            let campaign = campaign(self.from..end, Some(bug));
            let (name, what) = (bug.name(), bug.what());
            let found = campaign.failure.as_ref().and_then(|failure| failure.violation.as_ref());
            missed += usize::from(found.is_none());
            let (number, seeds) =
                (found.map_or("MISSED", |f| f.invariant.number()), campaign.seeds);
            let _ = writeln!(text, "{name:<width$}  {number:<6} {seeds:>5} seeds  {what}");
        }
        let _ = writeln!(text, "{} of {} found", Sabotage::ALL.len() - missed, Sabotage::ALL.len());
        Verdict { text, is_well: missed == 0 }
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    fn parse<A: Args + clap::FromArgMatches>(line: &str) -> Result<A, clap::Error> {
        let command = A::augment_args(Command::new("test"));
        let words = std::iter::once("test").chain(line.split_whitespace());
        command.try_get_matches_from(words).and_then(|matches| A::from_arg_matches(&matches))
    }

    #[test]
    fn a_failing_seed_is_told_with_the_command_that_shows_it_again() {
        let asked: ProtocolArgs = parse("--seeds 3000 --sabotage no-mandatory").unwrap();
        let verdict = asked.run();
        assert!(!verdict.is_well);
        let shorter = verdict.text.lines().find_map(|line| line.strip_prefix("shortened:  "));
        let arguments = shorter.unwrap().strip_prefix("stoker-sim protocol ").unwrap();
        let replayed = parse::<ProtocolArgs>(arguments).unwrap().run();
        assert!(!replayed.is_well);
        assert!(replayed.text.contains("does not hold: P1"), "{}", replayed.text);
        assert!(replayed.text.contains("Unroutable"), "{}", replayed.text);
    }

    #[test]
    fn a_good_seed_is_said_to_hold() {
        let verdict = parse::<ProtocolArgs>("--seed 1").unwrap().run();
        assert!(verdict.is_well && verdict.text.ends_with("all invariants hold\n"), "{verdict:?}");
    }

    #[test]
    fn unknown_faults_and_bugs_are_answered_with_those_there_are() {
        let error = parse::<ProtocolArgs>("--seed 1 --without rain").unwrap_err().to_string();
        assert!(error.contains("broker-killed"), "{error}");
        let error = parse::<ProtocolArgs>("--sabotage rain").unwrap_err().to_string();
        assert!(error.contains("no-sweeper"), "{error}");
    }

    #[test]
    fn a_bug_that_no_seed_shows_is_missed() {
        let verdict = parse::<SabotageArgs>("--seeds 1").unwrap().run();
        assert!(!verdict.is_well && verdict.text.contains("MISSED"), "{}", verdict.text);
    }
}
