//! Why the planner does what it does, and why not: data first, and sentences made from it.

mod room;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ClassName, InstanceName, ModelName, OfferingName, PoolName};
use crate::time::Timestamp;
use crate::units::HumanDuration;

use super::caps::Cap;
use super::check::DisruptionBudget;
use super::demand::quiet::BreakEven;
use super::input::Hold;
use super::spec::DisruptionReason;
use super::wait::Prediction;
pub use room::NoRoom;

/// What was found and decided, per pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[must_use]
pub struct Report {
    pub pools: BTreeMap<PoolName, PoolReport>,
}

/// What was found and decided for one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolReport {
    /// Nothing is done until this is settled.
    Held(Hold),
    Planned(Box<Findings>),
}

/// The numbers behind a pool's plan, and what was not done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Expected load over the next minutes, in workers of speed 1, and its standard deviation.
    pub load: f64,
    pub deviation: f64,
    /// Deviations above the load that are staffed for, for the class that needs the most.
    pub margin: f64,
    /// Share of jobs that were late of those that started lately, over all classes.
    pub late_share: f64,
    /// Measured mean service time, and the time from launch to work.
    pub service: Duration,
    pub boot: Duration,
    /// Capacity in workers of speed 1.
    pub wanted: u32,
    pub ready: f64,
    pub booting: f64,
    pub waiting: u64,
    /// Of the class whose promise is kept worst, if nothing is done.
    pub prediction: Prediction,
    /// The classes that are staffed for, by wait.
    #[serde(default)]
    pub classes: Vec<ClassFindings>,
    pub notes: Vec<Note>,
}

/// The numbers of one class that is staffed for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassFindings {
    pub class: ClassName,
    pub max_wait: Duration,
    /// Share of jobs that are to start within it.
    pub objective: f64,
    /// Deviations above the load that are staffed for.
    pub margin: f64,
    /// Share of its jobs that were late of those that started lately.
    pub late_share: f64,
    /// Workers of speed 1 that keep its promise at the expected load, without what waits already.
    pub wanted: u32,
    /// Its jobs of the next minutes if nothing is done, and with this plan.
    pub prediction: Prediction,
    pub planned: Prediction,
}

/// Why capacity is added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchReason {
    /// Fewer workers than are wanted for the load that is expected.
    Load { wanted: u32, have: f64 },
    /// Jobs wait that the present workers cannot start in time.
    Backlog { waiting: u64, wanted: u32 },
    /// Spot capacity was refused, so on-demand bridges.
    Bridge { refused: u32 },
    /// What is about to be lost or replaced needs a successor.
    Replacement { of: u32 },
    /// A backlog that may wait is worked off where it is cheapest.
    Bulk { seconds: f64 },
    /// Takes the place of so many machines of other sizes, for so many dollars an hour less.
    Resize { of: u32, saving: f64 },
}

/// Why an instance is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemoveReason {
    /// More workers than are wanted, and it is idle.
    Empty { wanted: u32, have: f64 },
    /// More workers than are wanted for so long, all of them busy, and it has the least to finish.
    Spare { wanted: u32, have: f64, span: Duration },
    /// More workers than are wanted, and it is not ready yet.
    CalledOff { wanted: u32, have: f64 },
    /// The provider takes it back.
    Interrupted { lost_at: Option<Timestamp> },
    /// It never became ready, or was silent for this long.
    Dead { silent: Duration },
    /// A cheaper one has taken its place.
    Cheaper,
    /// Machines of another size have taken its place, which cost less for what is needed.
    Resized,
    /// It runs an old configuration, and a new one takes its place.
    Outdated,
    /// It is older than it may be, and a new one takes its place.
    Expired { age: Duration },
    /// It was to be empty by now.
    DrainOverdue { since: Timestamp },
}

/// Why something was not done, or what else an operator should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// As many as are wanted are there.
    Enough { wanted: u32, have: f64 },
    /// The want is that of a moment ago, in case the load comes back.
    HeldWant { now: u32, held: u32 },
    /// The last worker of a silent pool: kept or given up.
    Silence(BreakEven),
    /// The last worker of a silent pool: kept, as jobs of this class may not wait for a boot.
    KeptWarm { class: ClassName },
    /// Wanted more than a bound of the pool.
    Bounded { wanted: u32, bound: u32 },
    /// The pool is as large as it may be.
    NoRoom(NoRoom),
    /// Launches that a cap forbids.
    Capped { cap: Cap, wanted: u32, allowed: u32 },
    /// An offering is not tried.
    Paused { offering: OfferingName, until: Timestamp },
    /// Nothing can be bought at the moment.
    NothingAvailable { shortage: f64 },
    /// So much work may wait longer, and nothing is launched for it yet.
    Patient { seconds: f64 },
    /// More than are wanted, but they are busy or have just been paid for.
    Surplus { busy: u32, paid: u32 },
    /// To be replaced later, as others are being replaced.
    Waits { instance: InstanceName, behind: u32 },
    /// So many machines stay for now, as a budget of the fleet file is used up.
    Withheld { machines: u32, reason: DisruptionReason, budget: DisruptionBudget },
    /// To be replaced for this reason once its successor is ready.
    Marked { instance: InstanceName, reason: RemoveReason },
    /// Machines of other sizes would cost so many dollars an hour less. The move costs more than what has been missed
    /// so far, so that it is too early to say that it pays.
    OtherSizes { saving: f64, missed: f64, cost: f64 },
    /// A counter shrank, so that what happened since is not known.
    CounterReset,
    /// A count of a class's jobs grew by more than can be. It is left out.
    ManyJobs { class: ClassName, jobs: u64 },
    /// A model's jobs are said to have run for longer than can be. Their run times are left out.
    LongRuns { model: ModelName },
    /// A worker says that it needs longer for what it holds than can be. Its work is estimated instead.
    EndlessWork { instance: InstanceName, told: Duration },
    /// An instance of an offering that the fleet file does not name.
    UnknownOffering { instance: InstanceName },
    /// More dead than may be removed at a time without an operator.
    MassRemoval { dead: u32, allowed: u32 },
}

fn time(duration: Duration) -> HumanDuration {
    HumanDuration::new(Duration::from_secs(duration.as_secs()))
}

/// `1 job`, `2 jobs`.
fn counted(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Zero is said without a sign: a sum of nothing is `-0.0`.
fn tenths(workers: f64) -> String {
    let said = format!("{workers:.1}");
    if said == "-0.0" { "0.0".to_owned() } else { said }
}

impl LaunchReason {
    /// Its name for programs: metrics, filters and JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Load { .. } => "load",
            Self::Backlog { .. } => "backlog",
            Self::Bridge { .. } => "bridge",
            Self::Replacement { .. } => "replacement",
            Self::Bulk { .. } => "bulk",
            Self::Resize { .. } => "resize",
        }
    }
}

impl RemoveReason {
    /// Its name for programs: metrics, filters and JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "empty",
            Self::Spare { .. } => "spare",
            Self::CalledOff { .. } => "called-off",
            Self::Interrupted { .. } => "interrupted",
            Self::Dead { .. } => "dead",
            Self::Cheaper => "cheaper",
            Self::Resized => "resized",
            Self::Outdated => "outdated",
            Self::Expired { .. } => "expired",
            Self::DrainOverdue { .. } => "drain-overdue",
        }
    }
}

impl fmt::Display for LaunchReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { wanted, have } => {
                write!(
                    f,
                    "the expected load needs {} and there are {}",
                    counted(*wanted, "worker"),
                    tenths(*have)
                )
            }
            Self::Backlog { waiting, wanted } => {
                let wait = if *waiting == 1 { "waits" } else { "wait" };
                write!(
                    f,
                    "{} {wait}; starting in time needs {}",
                    counted(*waiting, "job"),
                    counted(*wanted, "worker")
                )
            }
            Self::Bridge { refused } => {
                let refused = counted(*refused, "spot offering");
                write!(f, "{refused} refused lately, so on-demand bridges")
            }
            Self::Replacement { of } => write!(f, "{of} instances leave and need successors"),
            Self::Bulk { seconds } => {
                write!(f, "{seconds:.0} s of work may wait and are cheapest here")
            }
            Self::Resize { of, saving } => write!(
                f,
                "takes the place of {of} instances of another size, for ${saving:.2} an hour less"
            ),
        }
    }
}

impl RemoveReason {
    /// What will be so when it is taken out, said while it is still needed.
    fn why_marked(&self) -> String {
        match self {
            Self::Cheaper => "a cheaper one can be had".to_owned(),
            Self::Resized => "instances of another size cost less".to_owned(),
            Self::Outdated => "its configuration is not the present one".to_owned(),
            Self::Expired { age } => format!("it is {} old", time(*age)),
            Self::Empty { .. }
            | Self::Spare { .. }
            | Self::CalledOff { .. }
            | Self::Interrupted { .. }
            | Self::Dead { .. }
            | Self::DrainOverdue { .. } => self.to_string(),
        }
    }
}

impl fmt::Display for RemoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { wanted, have } => {
                write!(f, "idle; {wanted} workers are wanted and there are {}", tenths(*have))
            }
            Self::Spare { wanted, have, span } => write!(
                f,
                "{wanted} workers are wanted and there have been {} for {}, all busy; it has the \
                 least to finish",
                tenths(*have),
                time(*span)
            ),
            Self::CalledOff { wanted, have } => {
                write!(
                    f,
                    "not ready yet; {wanted} workers are wanted and there are {}",
                    tenths(*have)
                )
            }
            Self::Interrupted { lost_at: Some(at) } => {
                write!(f, "the provider takes it back at {at}")
            }
            Self::Interrupted { lost_at: None } => {
                f.write_str("the provider is likely to take it back")
            }
            Self::Dead { silent } => write!(f, "no sign of life for {}", time(*silent)),
            Self::Cheaper => f.write_str("a cheaper one has taken its place"),
            Self::Resized => {
                f.write_str("instances of another size have taken its place and cost less")
            }
            Self::Outdated => f.write_str("one with the present configuration takes its place"),
            Self::Expired { age } => write!(f, "{} old; a new one takes its place", time(*age)),
            Self::DrainOverdue { since } => write!(f, "draining since {since}, longer than it may"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enough { wanted, have } => {
                write!(f, "{wanted} workers are wanted and there are {}", tenths(*have))
            }
            Self::HeldWant { now, held } => {
                write!(f, "{now} would do now; {held} are kept in case the load comes back")
            }
            Self::Silence(BreakEven { idle, cold_start }) => write!(
                f,
                "no jobs: idling is expected to cost {idle:.0} s of a worker, a cold start {cold_start:.0} s"
            ),
            Self::KeptWarm { class } => {
                write!(f, "no jobs: one worker is kept, as class {class} may not wait for a boot")
            }
            Self::Bounded { wanted, bound } => {
                write!(f, "{wanted} workers are wanted, the pool's bound is {bound}")
            }
            Self::NoRoom(room) => room.fmt(f),
            Self::Capped { cap, wanted, allowed } => {
                write!(f, "{wanted} launches are wanted, {cap} allows {allowed}")
            }
            Self::Paused { offering, until } => write!(f, "{offering} is not tried until {until}"),
            Self::NothingAvailable { shortage } => {
                write!(f, "{} workers are missing and no offering can be tried", tenths(*shortage))
            }
            Self::Patient { seconds } => patient(f, *seconds),
            Self::Surplus { busy, paid } => {
                write!(f, "more than are wanted: {busy} are busy, {paid} are paid for already")
            }
            Self::Waits { instance, behind } => {
                let others = counted(*behind, "other");
                write!(f, "{instance} is to be replaced, behind {others}")
            }
            Self::Withheld { machines, reason, budget } => {
                withheld(f, *machines, (*reason, budget))
            }
            Self::Marked { instance, reason } => write!(
                f,
                "{instance} is marked and waits for its successor: {}",
                reason.why_marked()
            ),
            Self::OtherSizes { saving, missed, cost } => other_sizes(f, [*saving, *missed, *cost]),
            Self::CounterReset => f.write_str("a counter was reset; the time since is not known"),
            Self::ManyJobs { class, jobs } => {
                write!(f, "{jobs} new jobs of class {class} at a look cannot be; they are left out")
            }
            Self::LongRuns { model } => {
                write!(f, "the run times of {model} cannot be right; they are left out")
            }
            Self::EndlessWork { instance, told } => endless_work(f, instance, *told),
            Self::UnknownOffering { instance } => {
                write!(f, "{instance} is of an offering that the fleet file does not name")
            }
            Self::MassRemoval { dead, allowed } => write!(
                f,
                "{dead} instances give no sign of life; only {allowed} are removed without an operator"
            ),
        }
    }
}

fn withheld(
    f: &mut fmt::Formatter<'_>,
    machines: u32,
    (reason, budget): (DisruptionReason, &DisruptionBudget),
) -> fmt::Result {
    let are = if machines == 1 { " is" } else { "s are" };
    write!(
        f,
        "{machines} machine{are} not taken out yet ({reason}): the disruption budget is {budget}"
    )
}

fn endless_work(
    f: &mut fmt::Formatter<'_>,
    instance: &InstanceName,
    told: Duration,
) -> fmt::Result {
    let told = time(told);
    write!(f, "{instance} cannot need {told} for what it has; its work is estimated")
}

fn patient(f: &mut fmt::Formatter<'_>, seconds: f64) -> fmt::Result {
    write!(
        f,
        "{seconds:.0} s of work may wait longer: it is launched for when there is more, when what is cheapest \
         can be had, or when time gets short"
    )
}

fn other_sizes(f: &mut fmt::Formatter<'_>, [saving, missed, cost]: [f64; 3]) -> fmt::Result {
    write!(
        f,
        "instances of other sizes would cost ${saving:.2} an hour less; they are worth the move, which costs \
         ${cost:.2}, once that has lasted: ${missed:.2} so far"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_said_without_a_sign() {
        let have = std::iter::empty::<f64>().sum();
        let said = LaunchReason::Load { wanted: 1, have }.to_string();
        assert_eq!(said, "the expected load needs 1 worker and there are 0.0");
        let said = LaunchReason::Backlog { waiting: 1, wanted: 2 }.to_string();
        assert_eq!(said, "1 job waits; starting in time needs 2 workers");
    }
}
