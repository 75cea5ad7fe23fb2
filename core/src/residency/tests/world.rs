//! A device that follows the rule, moment by moment, with a referee beside it.
//!
//! It does one thing at a time: a load or a job. What is checked:
//! - The models that are loaded never need more than the budget.
//! - A model that was loaded for somebody stays until its load is paid for.
//! - While the device has work, a switch follows another only after the first is paid for.
//! - The model whose first job has the least slack of all begins to load, once that slack is spent, within a
//!   load, the time in which it pays, and two jobs.
//! - Every job is done.

use std::collections::BTreeMap;

use proptest::test_runner::TestCaseError;

use super::*;

/// Length of a moment.
const MOMENT: Duration = Duration::from_millis(100);
/// No world of the tests lasts longer.
const LAST: u64 = 50_000;

/// A model; times are in moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) need_bytes: u64,
    pub(super) load: u64,
    pub(super) service: u64,
}

/// A job of a model, that has to start `slack` moments after it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) at: u64,
    pub(super) model: usize,
    pub(super) slack: u64,
}

/// What the device does until a moment.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Nothing,
    Load { model: usize, from: u64, until: u64 },
    Run { model: usize, until: u64 },
}

/// A load that waits until the device is free and the others have left.
#[derive(Debug)]
struct Ordered {
    model: usize,
    leave: Vec<usize>,
    reason: Reason,
}

#[derive(Debug)]
pub(super) struct World {
    policy: Policy,
    budget_bytes: u64,
    kinds: Vec<Kind>,
    here: BTreeMap<usize, Stay>,
    /// When each waiting job has to start, by model.
    waiting: BTreeMap<usize, Vec<u64>>,
    doing: Doing,
    ordered: Option<Ordered>,
    reason: Reason,
    last_load: Option<Load>,
    /// Since when the model with the least slack of all has been absent, with none left.
    overdue: Option<(usize, u64)>,
    now: u64,
}

fn at(moment: u64) -> Timestamp {
    Timestamp::from_unix_millis(0).after(span(moment))
}

fn span(moments: u64) -> Duration {
    MOMENT * u32::try_from(moments).unwrap()
}

impl World {
    pub(super) fn new(policy: Policy, budget_bytes: u64, kinds: Vec<Kind>) -> Self {
        Self {
            policy,
            budget_bytes,
            kinds,
            here: BTreeMap::new(),
            waiting: BTreeMap::new(),
            doing: Doing::Nothing,
            ordered: None,
            reason: Reason::Room,
            last_load: None,
            overdue: None,
            now: 0,
        }
    }

    /// Lives until every job is done.
    pub(super) fn live(mut self, mut arrivals: Vec<Arrival>) -> Result<(), TestCaseError> {
        arrivals.sort_by_key(|arrival| arrival.at);
        let mut arrivals = arrivals.into_iter().peekable();
        loop {
            while let Some(Arrival { at, model, slack }) =
                arrivals.next_if(|arrival| arrival.at <= self.now)
            {
                self.waiting.entry(model).or_default().push(at + slack);
            }
            self.finish();
            if self.ordered.is_none() && !matches!(self.doing, Doing::Load { .. }) {
                self.decide()?;
            }
            self.begin();
            self.watch()?;
            let idle = matches!(self.doing, Doing::Nothing) && self.ordered.is_none();
            if arrivals.peek().is_none() && self.waiting.values().all(Vec::is_empty) && idle {
                return Ok(());
            }
            prop_assert!(self.now < LAST, "jobs are never done: {:?}", self);
            self.now += 1;
        }
    }

    /// What ends now.
    fn finish(&mut self) {
        match self.doing {
            Doing::Load { model, from, until } if until <= self.now => {
                let needed_at = (self.reason != Reason::Spare).then_some(at(self.now));
                let stay = Stay { since: at(self.now), needed_at, activity: Activity::Idle };
                self.here.insert(model, stay);
                self.last_load = Some(Load { ended_at: at(self.now), took: span(until - from) });
                self.doing = Doing::Nothing;
            }
            Doing::Run { model, until } if until <= self.now => {
                if let Some(stay) = self.here.get_mut(&model) {
                    stay.activity = Activity::Idle;
                    stay.needed_at = Some(at(self.now));
                }
                self.doing = Doing::Nothing;
            }
            Doing::Nothing | Doing::Load { .. } | Doing::Run { .. } => {}
        }
    }

    fn models(&self) -> Vec<Model<usize>> {
        let model = |(id, kind): (usize, &Kind)| {
            let waiting = self.waiting.get(&id).map_or(&[][..], Vec::as_slice);
            let demand = Demand {
                jobs: u64::try_from(waiting.len()).unwrap(),
                work: span(kind.service * u64::try_from(waiting.len()).unwrap()),
                start_by: waiting.iter().min().map(|moment| at(*moment)),
                every: None,
            };
            let place = self.here.get(&id).map_or(Place::Absent, |stay| Place::Resident(*stay));
            let (need_bytes, load) = (kind.need_bytes, span(kind.load));
            Model { id, need_bytes, load, place, demand, barred_until: None }
        };
        self.kinds.iter().enumerate().map(model).collect()
    }

    fn decide(&mut self) -> Result<(), TestCaseError> {
        let device = Device { budget_bytes: self.budget_bytes, last_load: self.last_load };
        let models = self.models();
        let Decision { action, .. } = decide(&self.policy, &device, &models, at(self.now));
        match action {
            Action::Stay => {}
            Action::Shrink { .. } => prop_assert!(false, "the budget was exceeded"),
            Action::Load { model, leave, reason } => {
                self.check_payment(&models, &leave)?;
                self.ordered = Some(Ordered { model, leave, reason });
            }
        }
        Ok(())
    }

    /// Nobody leaves before its load is paid for, and no switch follows another too early.
    fn check_payment(&self, models: &[Model<usize>], leave: &[usize]) -> Result<(), TestCaseError> {
        let times = self.policy.pays_urgent;
        for id in leave {
            let stay = self.here[id];
            let paid_at = stay.since.after(span(self.kinds[*id].load) * times);
            prop_assert!(stay.needed_at.is_none() || paid_at <= at(self.now), "{id} leaves unpaid");
        }
        let works = |model: &Model<usize>| match model.place {
            Place::Resident(stay) => stay.activity == Activity::Busy || model.demand.jobs > 0,
            Place::Absent | Place::Loading | Place::Leaving => false,
        };
        if let Some(last) = self.last_load.filter(|_| !leave.is_empty() && models.iter().any(works))
        {
            prop_assert!(last.ended_at.after(last.took * times) <= at(self.now), "a hasty switch");
        }
        Ok(())
    }

    /// What begins now.
    fn begin(&mut self) {
        if !matches!(self.doing, Doing::Nothing) {
            return;
        }
        if let Some(Ordered { model, leave, reason }) = self.ordered.take() {
            self.here.retain(|id, _| !leave.contains(id));
            self.reason = reason;
            let until = self.now + self.kinds[model].load;
            self.doing = Doing::Load { model, from: self.now, until };
            return;
        }
        let waiting = self.waiting.iter().filter(|(model, _)| self.here.contains_key(model));
        let first = waiting.filter_map(|(model, jobs)| Some((*jobs.iter().min()?, *model))).min();
        if let Some((start_by, model)) = first {
            let jobs = self.waiting.get_mut(&model).unwrap();
            let place = jobs.iter().position(|job| *job == start_by).unwrap();
            jobs.remove(place);
            let stay = self.here.get_mut(&model).unwrap();
            stay.activity = Activity::Busy;
            stay.needed_at = Some(at(self.now));
            self.doing = Doing::Run { model, until: self.now + self.kinds[model].service };
        }
    }

    fn watch(&mut self) -> Result<(), TestCaseError> {
        let loading = match self.doing {
            Doing::Load { model, .. } => Some(model),
            Doing::Nothing | Doing::Run { .. } => None,
        };
        let held = self.here.keys().copied().chain(loading);
        let used: u64 = held.map(|model| self.kinds[model].need_bytes).sum();
        prop_assert!(used <= self.budget_bytes, "{used} bytes are in use");
        self.watch_starvation(loading)
    }

    fn watch_starvation(&mut self, loading: Option<usize>) -> Result<(), TestCaseError> {
        let firsts = self.waiting.iter().filter_map(|(id, jobs)| Some((*jobs.iter().min()?, *id)));
        let mut firsts: Vec<(u64, usize)> = firsts.collect();
        firsts.sort_unstable();
        let alone = match firsts.as_slice() {
            [(first, _), (second, _), ..] => first < second,
            [_] => true,
            [] => false,
        };
        let suffers = firsts.first().filter(|_| alone).copied().filter(|(start_by, model)| {
            let begin = start_by.saturating_sub(self.kinds[*model].load);
            begin <= self.now && !self.here.contains_key(model) && loading != Some(*model)
        });
        self.overdue = match (suffers, self.overdue) {
            (Some((_, model)), Some((before, since))) if before == model => Some((model, since)),
            (Some((_, model)), _) => Some((model, self.now)),
            (None, _) => None,
        };
        if let Some((model, since)) = self.overdue {
            let most = |of: fn(&Kind) -> u64| self.kinds.iter().map(of).max().unwrap_or(0);
            let times = u64::from(self.policy.pays_urgent);
            let bound = most(|kind| kind.load) * (1 + times) + 2 * most(|kind| kind.service) + 3;
            prop_assert!(self.now - since <= bound, "{model} starves since {since}: {:?}", self);
        }
        Ok(())
    }
}
