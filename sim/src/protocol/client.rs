//! Clients: they submit until they are answered, watch until the end, cancel, retry and pry.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::ids::JobId;
use stoker_core::job::StateKind;

use super::invariants::Invariant;
use super::setup::Fault;
use super::types::{Answer, Ask, Caller, Nature, Purpose, Spec, Tenant, number};
use super::world::{Event, World};

/// How long a client waits for an answer.
const LIMIT: Duration = Duration::from_secs(5);

/// What a client does next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    Submit,
    ReuseKey,
    Watch(JobId),
    Cancel(JobId),
    Retry(JobId),
    Pry(JobId),
}

/// One client with one submit, and the jobs that came of it.
#[derive(Debug)]
pub(super) struct Client {
    tenant: Tenant,
    key: u64,
    specs: Vec<Spec>,
    accepted: bool,
    /// Jobs whose end it has not seen.
    watched: BTreeMap<JobId, Watched>,
    cancels_after: Option<Duration>,
    retries: bool,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    reads_left: u32,
}

impl Client {
    /// What it still waits for, for people; `None` when it has seen all ends.
    pub(super) fn left(&self) -> Option<String> {
        if !self.accepted {
            return Some(format!("tenant {} has no answer to key {}", self.tenant, self.key));
        }
        let job = self.watched.keys().next()?;
        Some(format!("tenant {} has not seen the end of job {}", self.tenant, number(*job)))
    }
}

impl World {
    pub(super) fn plan_clients(&mut self) {
        let span = u64::try_from(self.setup.trouble.as_millis()).unwrap_or(u64::MAX);
        // A tenant may come in a flood.
        let flood = self.random.chance(0.3);
        let mut jobs = 0;
        while jobs < self.setup.jobs {
            let client = self.plan_client();
            jobs += client.specs.len();
            let late = if flood && client.tenant == 0 { span / 20 } else { span * 9 / 10 };
            let at = self.random.millis(0, late);
            let index = self.clients.len();
            self.clients.push(client);
            self.schedule.after(at, Event::Client(index, Turn::Submit));
            if self.random.chance(0.1) {
                let at = at + self.random.millis(100, 20_000);
                self.schedule.after(at, Event::Client(index, Turn::ReuseKey));
            }
        }
    }

    /// How long the rest may take after everything is healed: every timer a few times, and all work
    /// twice, one job after the other, since jobs may be made anew.
    pub(super) fn patience(&self) -> Duration {
        let lease = &self.setup.policy.lease;
        let work = |spec: &Spec| {
            let once = Duration::from_millis(spec.item_millis * u64::from(spec.items));
            match spec.nature {
                Nature::Endless => (lease.max_runtime + lease.ttl * 2) * 3,
                Nature::Lethal(times) => (once + lease.ttl) * (times + 1),
                Nature::Fine | Nature::Broken | Nature::Flaky(_) | Nature::Crashing(_) => once * 4,
            }
        };
        let work: Duration = self.clients.iter().flat_map(|client| &client.specs).map(work).sum();
        Duration::from_mins(15) + work * 2
    }

    fn plan_client(&mut self) -> Client {
        let tenant = self.random.index(self.setup.tenants);
        let count = if self.random.chance(0.2) { 2 } else { 1 };
        let specs = (0..count).map(|_| self.plan_job(tenant)).collect();
        let cancels = self.random.chance(0.3) && self.setup.rate(Fault::ClientCancels) > 0.0;
        let after = self.random.millis(0, 40_000);
        let retries = self.random.chance(0.5);
        Client {
            tenant,
            key: self.fresh(),
            specs,
            accepted: false,
            watched: BTreeMap::new(),
            cancels_after: cancels.then_some(after),
            retries,
        }
    }

    fn plan_job(&mut self, tenant: Tenant) -> Spec {
        let bad = self.setup.rate(Fault::BadJob) * 0.3;
        let nature = if self.random.chance(bad) { self.bad_nature() } else { Nature::Fine };
        let deadline = self.random.between(5, 300);
        let has_deadline = self.random.chance(0.15) && !self.setup.is_calm();
        let slow = self.random.chance(0.2);
        Spec {
            tenant,
            lane: self.random.index(self.setup.lanes),
            input: self.random.between(1, u64::MAX),
            items: self.random.number(1, 40),
            item_millis: if slow {
                self.random.between(500, 2_000)
            } else {
                self.random.between(1, 300)
            },
            nature,
            deadline_secs: has_deadline.then_some(deadline),
            max_wait_secs: if self.random.chance(0.5) { 10 } else { 300 },
        }
    }

    fn bad_nature(&mut self) -> Nature {
        match self.random.index(9) {
            0 | 1 => Nature::Flaky(1),
            2 => Nature::Flaky(2),
            3 => Nature::Flaky(9),
            4 => Nature::Broken,
            5 => Nature::Crashing(1),
            6 => Nature::Crashing(u32::MAX),
            7 => Nature::Lethal(2),
            _ => Nature::Endless,
        }
    }

    pub(super) fn client_turn(&mut self, index: usize, turn: Turn) {
        let Some(client) = self.clients.get(index) else { return };
        let (tenant, key) = (client.tenant, client.key);
        let (purpose, ask) = match turn {
            Turn::Submit => {
                let jobs = client.specs.clone();
                self.checker.submits(tenant, key, &jobs);
                (Purpose::Submit, Ask::Submit { tenant, key, jobs })
            }
            Turn::ReuseKey => {
                if !client.accepted {
                    return;
                }
                let mut jobs = client.specs.clone();
                if let Some(first) = jobs.first_mut() {
                    first.input ^= 1;
                }
                (Purpose::ReuseKey, Ask::Submit { tenant, key, jobs })
            }
            Turn::Watch(job) => (Purpose::Watch { job }, Ask::Read { tenant, job }),
            Turn::Cancel(job) => (Purpose::Cancel { job }, Ask::Cancel { tenant, job }),
            Turn::Retry(job) => (Purpose::Retry { job }, Ask::Retry { tenant, job }),
            Turn::Pry(job) => {
                let tenant = (tenant + 1) % self.setup.tenants;
                (Purpose::Pry, Ask::Read { tenant, job })
            }
        };
        let prefer = self.random.index(self.coordinators.len());
        let to = self.any_coordinator(prefer);
        self.call((Caller::Client(index), to), purpose, ask, LIMIT);
    }

    pub(super) fn client_answered(&mut self, index: usize, purpose: &Purpose, answer: Answer) {
        match *purpose {
            Purpose::Submit => self.submit_answered(index, answer),
            Purpose::Watch { job } => self.watch_answered(index, job, answer),
            Purpose::Retry { job } => self.retry_answered(index, job, &answer),
            Purpose::Cancel { job } if answer == Answer::None => {
                self.client_later(index, (200, 3_000), Turn::Cancel(job));
            }
            Purpose::ReuseKey => {
                if let Answer::Submitted(_) = answer {
                    self.checker.fail(Invariant::NothingUnexpected, || {
                        "a key was taken for another request".to_owned()
                    });
                }
            }
            Purpose::Pry => {
                if let Answer::Seen(Some(view)) = answer {
                    let job = number(view.job.id);
                    self.checker.fail(Invariant::TenantsAreApart, || {
                        format!("job {job} was shown to another tenant")
                    });
                }
            }
            Purpose::Cancel { .. }
            | Purpose::Register
            | Purpose::Claim { .. }
            | Purpose::Beat { .. }
            | Purpose::Report { .. } => {}
        }
    }

    fn client_later(&mut self, index: usize, (least, most): (u64, u64), turn: Turn) {
        let delay = self.random.millis(least, most);
        self.schedule.after(delay, Event::Client(index, turn));
    }

    fn submit_answered(&mut self, index: usize, answer: Answer) {
        let jobs = match answer {
            Answer::Submitted(jobs) => jobs,
            Answer::Shed { retry_after } => {
                let delay = retry_after + self.random.millis(0, 2_000);
                return self.schedule.after(delay, Event::Client(index, Turn::Submit));
            }
            _ => return self.client_later(index, (200, 3_000), Turn::Submit),
        };
        let Some(client) = self.clients.get_mut(index) else { return };
        let repeated = std::mem::replace(&mut client.accepted, true);
        let (tenant, key, cancels) = (client.tenant, client.key, client.cancels_after);
        self.checker.accepted((tenant, key), &jobs, &self.store);
        if repeated {
            return;
        }
        for job in jobs {
            self.watch(index, job);
            if let Some(after) = cancels {
                self.schedule.after(after, Event::Client(index, Turn::Cancel(job)));
            }
            if self.setup.tenants > 1 && self.random.chance(0.2) {
                self.client_later(index, (0, 30_000), Turn::Pry(job));
            }
        }
        // A client whose answer was lost on its own side asks again with the same key.
        if self.random.chance(0.1) {
            self.client_later(index, (100, 20_000), Turn::Submit);
        }
    }

    fn watch(&mut self, index: usize, job: JobId) {
        if let Some(client) = self.clients.get_mut(index) {
            client.watched.insert(job, Watched { reads_left: 2 });
        }
        self.client_later(index, (100, 5_000), Turn::Watch(job));
    }

    fn watch_answered(&mut self, index: usize, job: JobId, answer: Answer) {
        let view = match answer {
            Answer::Seen(Some(view)) => view,
            Answer::Seen(None) => {
                return self.checker.fail(Invariant::AcceptedIsKept, || {
                    format!("job {} was accepted and is unknown", number(job))
                });
            }
            _ => return self.client_later(index, (500, 5_000), Turn::Watch(job)),
        };
        self.checker.read(&view);
        let kind = view.job.state.kind();
        if !kind.is_terminal() {
            return self.client_later(index, (1_000, 15_000), Turn::Watch(job));
        }
        let Some(client) = self.clients.get_mut(index) else { return };
        let Some(watched) = client.watched.get_mut(&job) else { return };
        watched.reads_left -= 1;
        // Read once more, later: it must be the same.
        if watched.reads_left > 0 {
            return self.client_later(index, (500, 20_000), Turn::Watch(job));
        }
        client.watched.remove(&job);
        let retries = client.retries && !self.healed && kind != StateKind::Succeeded;
        if retries {
            self.client_later(index, (100, 5_000), Turn::Retry(job));
        }
    }

    fn retry_answered(&mut self, index: usize, job: JobId, answer: &Answer) {
        match answer {
            &Answer::Retried(Some(new)) => {
                if let Some(client) = self.clients.get_mut(index) {
                    // Not for ever.
                    client.retries = false;
                }
                self.watch(index, new);
            }
            Answer::Retried(None) => {}
            _ => self.client_later(index, (500, 5_000), Turn::Retry(job)),
        }
    }
}
