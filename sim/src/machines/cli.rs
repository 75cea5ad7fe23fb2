//! The command that runs simulations of the executor, and what it prints.

use std::fmt::Write as _;

use clap::Args;

use super::run::run;
use super::sabotage::Sabotage;
use super::tally::Tally;
use crate::verdict::Verdict;

/// Simulates two autoscalers on one ledger, with a provider that fails, and checks what becomes of the machines.
#[derive(Debug, Clone, Args)]
pub struct MachinesArgs {
    /// Virtual hours, in worlds of 50 hours each
    #[arg(long, default_value_t = 10_000)]
    hours: u64,
    /// Seed of the first world
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Seed a bug, to see it found
    #[arg(long, value_parser = sabotage)]
    sabotage: Option<Sabotage>,
    /// Check that every seeded bug is found, within the hours each
    #[arg(long, conflicts_with = "sabotage")]
    all_sabotages: bool,
}

/// Hours of one world.
const WORLD: u64 = 50;

fn sabotage(name: &str) -> Result<Sabotage, String> {
    let known = Sabotage::ALL.map(Sabotage::name);
    let found = Sabotage::ALL.into_iter().find(|sabotage| sabotage.name() == name);
    found.ok_or_else(|| format!("no such bug; there are {}", known.join(", ")))
}

impl MachinesArgs {
    /// Runs what was asked for.
    pub fn run(&self) -> Verdict {
        if self.all_sabotages {
            return self.sabotages();
        }
        let (hours, tally, broken) = self.worlds(self.sabotage);
        let mut text = format!("{hours} virtual hours\n");
        for (count, what) in tally.lines() {
            let _ = writeln!(text, "{count:>9}  {what}");
        }
        if let Some((seed, what)) = &broken {
            let _ = writeln!(text, "seed {seed}: {what}");
            let _ = writeln!(text, "replay it:  stoker-sim machines --hours {WORLD} --from {seed}");
            return Verdict { text, is_well: false };
        }
        let missing = if hours >= 1_000 { tally.missing() } else { Vec::new() };
        for what in &missing {
            let _ = writeln!(text, "never happened: {what}");
        }
        text.push_str("all rules hold\n");
        Verdict { text, is_well: missing.is_empty() }
    }

    fn worlds(&self, bug: Option<Sabotage>) -> (u64, Tally, Option<(u64, String)>) {
        let mut tally = Tally::default();
        let worlds = self.hours.div_ceil(WORLD);
        for seed in (self.from..).take(usize::try_from(worlds).unwrap_or(usize::MAX)) {
            let outcome = run(seed, WORLD.min(self.hours), bug);
            tally.merge(&outcome.tally);
            if let Some(violation) = outcome.violation {
                let hours = (seed - self.from + 1) * WORLD;
                return (hours, tally, Some((seed, violation.to_string())));
            }
        }
        (worlds * WORLD.min(self.hours), tally, None)
    }

    fn sabotages(&self) -> Verdict {
        let mut text = String::new();
        let mut missed = 0;
        for bug in Sabotage::ALL {
            let (hours, _, broken) = self.worlds(Some(bug));
            let found = broken.map_or_else(|| "MISSED".to_owned(), |(_, what)| what);
            missed += usize::from(found == "MISSED");
            let _ = writeln!(text, "{:<23} {hours:>6} h  {found}", bug.name());
        }
        let all = Sabotage::ALL.len();
        let _ = writeln!(text, "{} of {all} found", all - missed);
        Verdict { text, is_well: missed == 0 }
    }
}
