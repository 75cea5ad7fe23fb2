//! A worker's state with its time, without engines or a network.

use stoker_core::residency::Estimate;
use stoker_core::zero_shot::ZeroShot;

use super::*;

#[derive(Debug)]
struct NoAcker;

#[async_trait]
impl Acker for NoAcker {
    async fn ack(self: Box<Self>) -> Result<(), AckError> {
        Ok(())
    }

    async fn reject(self: Box<Self>) -> Result<(), AckError> {
        Ok(())
    }
}

/// A state with its time and the effects since the last look.
pub(super) struct Probe {
    task: TaskKind,
    pub(super) state: State,
    pub(super) now: Timestamp,
    pub(super) effects: Vec<Effect>,
}

impl Probe {
    pub(super) fn new() -> Self {
        Self::with(OnRebalance::CarryOn, None)
    }

    pub(super) fn with(on_rebalance: OnRebalance, dead_man: Option<DeadMan>) -> Self {
        Self::of(TaskKind::Echo, on_rebalance, dead_man)
    }

    pub(super) fn of(task: TaskKind, on_rebalance: OnRebalance, dead_man: Option<DeadMan>) -> Self {
        let plan = WorkerPlan { on_rebalance, dead_man, ..plan(task, &["echo"], 10) };
        Self::planned(task, plan)
    }

    /// With echo models that need 10 bytes each, and that much memory for all of them.
    pub(super) fn sharing(models: &[&str], memory_budget: u64) -> Self {
        Self::planned(TaskKind::Echo, plan(TaskKind::Echo, models, memory_budget))
    }

    fn planned(task: TaskKind, plan: WorkerPlan) -> Self {
        let now = Timestamp::from_unix_millis(1_000_000);
        let state = State::new(stoker_runtime::ids::worker_id(), plan, now);
        Self { task, state, now, effects: Vec::new() }
    }

    /// Registered and with a warm engine.
    pub(super) fn ready() -> Self {
        Self::ready_with(OnRebalance::CarryOn, None)
    }

    pub(super) fn ready_with(on_rebalance: OnRebalance, dead_man: Option<DeadMan>) -> Self {
        let mut probe = Self::with(on_rebalance, dead_man);
        probe.register();
        probe.engine_ready();
        probe.intake(Ok(()));
        probe.answer(|_| HeartbeatOutcome::Continue);
        probe
    }

    pub(super) fn apply(&mut self, event: Event) {
        self.state.apply(event, self.now);
        self.look();
    }

    pub(super) fn look(&mut self) {
        self.state.advance(self.now);
        self.effects.extend(self.state.take_effects());
    }

    pub(super) fn later(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.look();
    }

    pub(super) fn register(&mut self) {
        let registration = Registration {
            fleet: "test".to_owned(),
            heartbeat_interval: INTERVAL,
            max_message_bytes: 3 << 20,
        };
        self.apply(Event::Session(SessionNews::Registered(registration)));
    }

    pub(super) fn intake(&mut self, open: Result<(), &str>) {
        self.apply(Event::Intake { index: 0, open: open.map_err(str::to_owned) });
    }

    pub(super) fn engine(&mut self, what: EngineNews) {
        self.engine_of(0, what);
    }

    pub(super) fn engine_of(&mut self, index: usize, what: EngineNews) {
        self.apply(Event::Engine(EngineEvent { index, generation: 1, what }));
    }

    pub(super) fn engine_ready(&mut self) {
        self.engine_ready_of(0);
    }

    pub(super) fn engine_ready_of(&mut self, index: usize) {
        let info = EngineInfo {
            model: "echo".to_owned(),
            task: self.task,
            output_dimensions: None,
            labels: None,
            max_tokens: 100,
            max_batch_tokens: 100,
            weights_bytes: 0,
            weights_sha256: None,
            lanes: if self.task == TaskKind::TextGeneration { 2 } else { 1 },
            device: "cpu".to_owned(),
            load: LoadSeconds::default(),
        };
        let handle = EngineHandle::detached();
        self.engine_of(index, EngineNews::Ready { info: Box::new(info), handle });
    }

    pub(super) fn grant(&mut self, job: u8, texts: &[&str]) {
        let inputs = texts.iter().map(|text| ItemInput::Text((*text).to_owned())).collect();
        self.grant_inputs(job, inputs);
    }

    pub(super) fn grant_inputs(&mut self, job: u8, inputs: Vec<ItemInput>) {
        self.grant_of(0, job, inputs);
    }

    pub(super) fn grant_of(&mut self, index: usize, job: u8, inputs: Vec<ItemInput>) {
        let slots = Arc::new(Semaphore::new(1));
        let fence = Fence {
            job: JobId::from_bytes([job; 16]),
            attempt: Attempt::FIRST,
            token: LeaseToken::from_bytes([job; 16]),
        };
        self.apply(Event::Granted(vec![Granted {
            index,
            fence,
            work: Some(Work { task: self.task, prompt: String::new(), inputs }),
            first_item: 0,
            alone: false,
            slack: Duration::ZERO,
            trace: TraceContext::default(),
            ticket: Ticket::new(Box::new(NoAcker), slots.try_acquire_owned().unwrap()),
        }]));
    }

    /// Lets the pretend engine prepare what it was given and run `batches` batches.
    pub(super) fn run(&mut self, batches: usize) {
        self.run_of(0, batches);
    }

    pub(super) fn run_of(&mut self, index: usize, batches: usize) {
        for message in self.messages() {
            if let ToEngine::Prepare { items } = message {
                let items = items.iter().map(|(key, _)| (*key, Ok(100))).collect();
                self.engine_of(index, EngineNews::Prepared { items });
            }
        }
        for _ in 0..batches {
            let next = self.effects.iter().position(|effect| {
                matches!(effect, Effect::Message { message: ToEngine::Run { .. }, .. })
            });
            let Effect::Message { message: ToEngine::Run { batch, items }, .. } =
                self.effects.remove(next.expect("a batch is under way"))
            else {
                unreachable!("it was found by its form")
            };
            let outputs = items.iter().map(|ItemKey(key)| ItemOutput::Text(key.to_string()));
            let (outputs, busy) = (outputs.collect(), Duration::from_secs(1));
            self.engine_of(index, EngineNews::Done { batch, outputs, busy });
        }
    }

    pub(super) fn messages(&mut self) -> Vec<ToEngine> {
        let mut messages = Vec::new();
        let mut others = Vec::new();
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Message { message: message @ ToEngine::Prepare { .. }, .. } => {
                    messages.push(message);
                }
                other => others.push(other),
            }
        }
        self.effects = others;
        messages
    }

    pub(super) fn reports(&mut self) -> Vec<Verdict> {
        let mut reports = Vec::new();
        let mut others = Vec::new();
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Report(report) => reports.push(report.verdict),
                other => others.push(other),
            }
        }
        self.effects = others;
        reports
    }

    pub(super) fn heartbeat(&mut self) -> Option<(v1::HeartbeatRequest, Vec<JobKey>)> {
        let at = self.effects.iter().position(|e| matches!(e, Effect::Heartbeat { .. }))?;
        match self.effects.remove(at) {
            Effect::Heartbeat { request, keys } => Some((request, keys)),
            _ => None,
        }
    }

    /// Answers the heartbeat under way, and those that follow at once.
    pub(super) fn answer(&mut self, outcome: impl Fn(usize) -> HeartbeatOutcome) {
        while let Some((_, keys)) = self.heartbeat() {
            let outcomes = (0..keys.len()).map(|index| outcome(index).into()).collect();
            let result = Ok(HeartbeatResponse { outcomes, register_again: false });
            self.apply(Event::Heartbeat(HeartbeatAnswer { keys, result }));
        }
    }

    pub(super) fn gates(&mut self) -> Vec<bool> {
        let mut gates = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Gate { open, .. } => {
                gates.push(*open);
                false
            }
            _ => true,
        });
        gates
    }

    pub(super) fn ended(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::End(Ok(_))))
    }
}

fn plan(task: TaskKind, models: &[&str], memory_budget: u64) -> WorkerPlan {
    let model = |name: &&str| ModelPlan {
        name: ModelName::new(name).unwrap(),
        task,
        max_batch_tokens: None,
        prompts: Prompts::default(),
        zero_shot: ZeroShot::default(),
        estimate: Estimate::of(0, 10),
    };
    WorkerPlan {
        fleet: FleetName::new("test").unwrap(),
        models: models.iter().map(model).collect(),
        memory_budget,
        grace: Duration::from_secs(30),
        on_rebalance: OnRebalance::CarryOn,
        dead_man: None,
    }
}
