//! Names, labels and meaning of everything that a worker counts.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use stoker_core::departure::Cause;
use stoker_core::ids::ModelName;
use stoker_core::residency::Reason;
use stoker_engine_api::LoadSeconds;

use crate::gpu::{Fitness, Sight, Usage};

const JOBS: &str = "stoker_worker_jobs_total";
const ITEMS: &str = "stoker_worker_items_total";
const CLAIMS: &str = "stoker_worker_claims_total";
const CLAIM_SECONDS: &str = "stoker_worker_claim_seconds";
const QUEUE_WAIT_SECONDS: &str = "stoker_worker_queue_wait_seconds";
const BATCH_ITEMS: &str = "stoker_worker_batch_items";
const BATCH_TOKENS: &str = "stoker_worker_batch_tokens";
const BATCH_SIZE: &str = "stoker_worker_batch_tokens_limit";
const BATCH_SECONDS: &str = "stoker_worker_batch_seconds";
const REPORT_SECONDS: &str = "stoker_worker_report_seconds";
const ENGINE_RESTARTS: &str = "stoker_worker_engine_restarts_total";
const ENGINE_READY: &str = "stoker_worker_engine_ready";
const BOOT_SECONDS: &str = "stoker_worker_boot_seconds";
const COLD_START_SECONDS: &str = "stoker_worker_cold_start_seconds";
const MEMORY_BUDGET: &str = "stoker_worker_memory_budget_bytes";
const MODEL_MEMORY: &str = "stoker_worker_model_memory_bytes";
const MODEL_LOAD_SECONDS: &str = "stoker_worker_model_load_seconds";
const MODEL_EVICTIONS: &str = "stoker_worker_model_evictions_total";
const RESIDENT_MODELS: &str = "stoker_worker_resident_models";
const BUSY_RATIO: &str = "stoker_worker_busy_ratio";
const HELD_JOBS: &str = "stoker_worker_held_jobs";
const CONNECTED: &str = "stoker_worker_coordinator_connected";
const ANNOUNCED: &str = "stoker_worker_cloud_notices_total";
const DRAINING: &str = "stoker_worker_draining";
const HANDED_OVER: &str = "stoker_worker_handed_over_jobs_total";
const IMDS_FAULTS: &str = "stoker_worker_imds_faults_total";
const IMDS_WATCHED: &str = "stoker_worker_imds_watched";
const GPU_BUSY_RATIO: &str = "stoker_worker_gpu_busy_ratio";
const GPU_MEMORY_USED: &str = "stoker_worker_gpu_memory_used_bytes";
const GPU_MEMORY_TOTAL: &str = "stoker_worker_gpu_memory_total_bytes";
const GPU_POWER: &str = "stoker_worker_gpu_power_watts";
const GPU_TEMPERATURE: &str = "stoker_worker_gpu_temperature_celsius";
const GPU_ERRORS: &str = "stoker_worker_gpu_uncorrected_errors";
const GPU_FIT: &str = "stoker_worker_gpu_fit";
const SPOOLED: &str = "stoker_worker_spooled_results_total";

/// How an attempt ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    Completed,
    Failed,
    Crashed,
    Released,
    /// The coordinator did not want the result: the job had ended, or another attempt has it.
    Discarded,
}

impl JobOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::Released => "released",
            Self::Discarded => "discarded",
        }
    }
}

/// How a claim was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimLabel {
    Granted,
    Busy,
    Terminal,
    Stale,
    Unknown,
    Deferred,
}

impl ClaimLabel {
    const fn label(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Busy => "busy",
            Self::Terminal => "terminal",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Deferred => "deferred",
        }
    }
}

/// Registers the descriptions; call once per process, after the recorder is installed.
pub fn describe() {
    describe_counter!(JOBS, "Attempts that ended on this worker, by outcome");
    describe_counter!(ITEMS, "Items that were computed, by model");
    describe_counter!(CLAIMS, "Claims, by the coordinator's answer");
    describe_histogram!(CLAIM_SECONDS, Unit::Seconds, "Time of a claim call, retries included");
    describe_histogram!(
        QUEUE_WAIT_SECONDS,
        Unit::Seconds,
        "Time from the grant of a job to the start of its first batch"
    );
    describe_histogram!(BATCH_ITEMS, "Items of a batch");
    describe_histogram!(BATCH_TOKENS, "Tokens of a batch");
    describe_gauge!(BATCH_SIZE, "Most tokens of a batch, as learned from how fast batches were");
    describe_histogram!(BATCH_SECONDS, Unit::Seconds, "Time that the engine computed for a batch");
    describe_histogram!(REPORT_SECONDS, Unit::Seconds, "Time of a call that reports results");
    describe_counter!(ENGINE_RESTARTS, "Engine processes that ended unbidden, by cause");
    describe_gauge!(ENGINE_READY, "1 while the engine of a model is loaded and warm");
    describe_gauge!(
        BOOT_SECONDS,
        Unit::Seconds,
        "Time from the machine's boot to the start of this worker, if it began with the machine"
    );
    describe_gauge!(
        COLD_START_SECONDS,
        Unit::Seconds,
        "Time of each phase of a model's last start; the engine's own phases overlap, and `engine` is all of them"
    );
    describe_memory();
    describe_gauge!(BUSY_RATIO, "Share of the last heartbeat interval in which engines computed");
    describe_gauge!(HELD_JOBS, "Jobs held now, results on their way included");
    describe_gauge!(GPU_BUSY_RATIO, "Share of the last second in which anything ran on the GPU");
    describe_gauge!(GPU_MEMORY_USED, Unit::Bytes, "Memory of the GPU in use, by anybody");
    describe_gauge!(GPU_MEMORY_TOTAL, Unit::Bytes, "Memory of the GPU");
    describe_gauge!(GPU_POWER, "Watts that the GPU draws");
    describe_gauge!(GPU_TEMPERATURE, "Temperature of the GPU in degrees Celsius");
    describe_gauge!(
        GPU_ERRORS,
        "Memory errors since the driver was loaded that were not corrected"
    );
    describe_gauge!(GPU_FIT, "1 while the GPU is fit, 0 while it is quarantined");
    describe_gauge!(CONNECTED, "1 while this worker is registered with the coordinator");
    describe_counter!(ANNOUNCED, "What the cloud announced about this machine, by kind");
    describe_gauge!(DRAINING, "1 while this worker goes, by cause");
    describe_counter!(
        HANDED_OVER,
        "Jobs given back because they would not have ended before the worker had to, by cause"
    );
    describe_counter!(
        IMDS_FAULTS,
        "Questions that an instance metadata service, once found, left without a readable answer"
    );
    describe_gauge!(IMDS_WATCHED, "1 while an instance metadata service answers");
    describe_counter!(SPOOLED, "Results written to the spool because they could not be delivered");
}

fn describe_memory() {
    describe_gauge!(MEMORY_BUDGET, Unit::Bytes, "Memory for the engines of all models together");
    describe_gauge!(
        MODEL_MEMORY,
        Unit::Bytes,
        "Memory that the engine of a model uses, as measured; 0 without one"
    );
    describe_histogram!(
        MODEL_LOAD_SECONDS,
        Unit::Seconds,
        "Time from the start of a model's engine until it was warm, by model and why it was loaded"
    );
    describe_counter!(MODEL_EVICTIONS, "Models that left memory for others, by model");
    describe_gauge!(RESIDENT_MODELS, "Models in memory");
}

pub(crate) fn job_ended(model: &ModelName, outcome: JobOutcome) {
    counter!(JOBS, "model" => model.to_string(), "outcome" => outcome.label()).increment(1);
}

pub(crate) fn claimed(answer: ClaimLabel) {
    counter!(CLAIMS, "answer" => answer.label()).increment(1);
}

pub(crate) fn claim_took(took: Duration) {
    histogram!(CLAIM_SECONDS).record(took.as_secs_f64());
}

pub(crate) fn waited(model: &ModelName, wait: Duration) {
    histogram!(QUEUE_WAIT_SECONDS, "model" => model.to_string()).record(wait.as_secs_f64());
}

#[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 items")]
pub(crate) fn batch_done(model: &ModelName, items: usize, tokens: u64, busy: Duration) {
    let model = model.to_string();
    counter!(ITEMS, "model" => model.clone()).increment(u64::try_from(items).unwrap_or(u64::MAX));
    histogram!(BATCH_ITEMS, "model" => model.clone()).record(items as f64);
    histogram!(BATCH_TOKENS, "model" => model.clone()).record(tokens as f64);
    histogram!(BATCH_SECONDS, "model" => model).record(busy.as_secs_f64());
}

pub(crate) fn batch_size(model: &ModelName, tokens: u32) {
    gauge!(BATCH_SIZE, "model" => model.to_string()).set(f64::from(tokens));
}

pub(crate) fn reported(call: &'static str, took: Duration) {
    histogram!(REPORT_SECONDS, "call" => call).record(took.as_secs_f64());
}

pub(crate) fn engine_lost(model: &ModelName, cause: &'static str) {
    counter!(ENGINE_RESTARTS, "model" => model.to_string(), "cause" => cause).increment(1);
}

pub(crate) fn engine_up(model: &ModelName) {
    gauge!(ENGINE_READY, "model" => model.to_string()).set(1.0);
}

pub(crate) fn engine_down(model: &ModelName) {
    gauge!(ENGINE_READY, "model" => model.to_string()).set(0.0);
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a machine are far below 2^52")]
pub(crate) fn memory_budget(bytes: u64) {
    gauge!(MEMORY_BUDGET).set(bytes as f64);
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a machine are far below 2^52")]
pub(crate) fn model_memory(model: &ModelName, bytes: u64) {
    gauge!(MODEL_MEMORY, "model" => model.to_string()).set(bytes as f64);
}

/// `None`: there is memory for all models.
pub(crate) fn model_loaded(model: &ModelName, reason: Option<Reason>, took: Duration) {
    let reason = reason.map_or("fits", Reason::name);
    histogram!(MODEL_LOAD_SECONDS, "model" => model.to_string(), "reason" => reason)
        .record(took.as_secs_f64());
}

pub(crate) fn model_left(model: &ModelName) {
    counter!(MODEL_EVICTIONS, "model" => model.to_string()).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "models are few")]
pub(crate) fn resident_models(models: usize) {
    gauge!(RESIDENT_MODELS).set(models as f64);
}

pub(crate) fn booted(took: Duration) {
    gauge!(BOOT_SECONDS).set(took.as_secs_f64());
}

/// The model's files are here and were looked at.
pub(crate) fn fetched(model: &ModelName, took: Duration) {
    cold_start(model, "fetch", took.as_secs_f64());
}

/// An engine is warm, so long after its process was started.
pub(crate) fn engine_started(model: &ModelName, took: Duration, load: &LoadSeconds) {
    for (phase, seconds) in [
        ("engine", took.as_secs_f64()),
        ("read", load.read),
        ("digest", load.digest),
        ("tokenizer", load.tokenizer),
        ("device-copy", load.build),
        ("warm-up", load.warm_up),
    ] {
        cold_start(model, phase, seconds);
    }
}

fn cold_start(model: &ModelName, phase: &'static str, seconds: f64) {
    gauge!(COLD_START_SECONDS, "model" => model.to_string(), "phase" => phase).set(seconds);
}

#[expect(clippy::cast_precision_loss, reason = "slots are few")]
pub(crate) fn status(busy_ratio: f64, held: usize) {
    gauge!(BUSY_RATIO).set(busy_ratio);
    gauge!(HELD_JOBS).set(held as f64);
}

/// What one look at the GPU found; what it does not tell keeps its last value.
#[expect(clippy::cast_precision_loss, reason = "bytes and errors are far below 2^52")]
pub(crate) fn gpu(usage: &Usage, sight: &Sight, fitness: &Fitness) {
    let set = |name: &'static str, value: Option<f64>| {
        if let Some(value) = value {
            gauge!(name).set(value);
        }
    };
    set(GPU_BUSY_RATIO, usage.utilization);
    set(GPU_MEMORY_USED, usage.memory_used_bytes.map(|bytes| bytes as f64));
    set(GPU_MEMORY_TOTAL, usage.memory_total_bytes.map(|bytes| bytes as f64));
    set(GPU_POWER, usage.power_watts);
    if let Sight::Seen(readings) = sight {
        set(GPU_TEMPERATURE, readings.temperature.map(f64::from));
        set(GPU_ERRORS, readings.uncorrected_errors.map(|errors| errors as f64));
    }
    set(GPU_FIT, Some(f64::from(u8::from(*fitness == Fitness::Fit))));
}

pub(crate) fn connected() {
    gauge!(CONNECTED).set(1.0);
}

pub(crate) fn disconnected() {
    gauge!(CONNECTED).set(0.0);
}

pub(crate) fn announced(kind: &'static str) {
    counter!(ANNOUNCED, "kind" => kind).increment(1);
}

/// The one cause that counts now.
pub(crate) fn draining(cause: Cause) {
    for other in Cause::ALL {
        let set = if other == cause { 1.0 } else { 0.0 };
        gauge!(DRAINING, "cause" => other.name()).set(set);
    }
}

pub(crate) fn handed_over(cause: Cause) {
    counter!(HANDED_OVER, "cause" => cause.name()).increment(1);
}

pub(crate) fn imds_fault() {
    counter!(IMDS_FAULTS).increment(1);
}

pub(crate) fn imds_watched() {
    gauge!(IMDS_WATCHED).set(1.0);
}

pub(crate) fn imds_not_watched() {
    gauge!(IMDS_WATCHED).set(0.0);
}

pub(crate) fn spooled() {
    counter!(SPOOLED).increment(1);
}
