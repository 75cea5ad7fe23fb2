//! The file as written: every key that may stand in `fleet.toml`.

mod disruption;
mod provider;
mod scaling;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ClassName, FleetName, ModelName, PoolName, TenantName};
use crate::image::ImageLimits;
use crate::request::Task;
use crate::units::{ByteSize, HumanDuration};

use super::precision::Precision;

pub use disruption::{
    AtATime, Day, DisruptionBudgetSpec, DisruptionReason, DisruptionSpec, ParseBudgetError, Window,
};
pub use provider::{Ec2RegionSpec, InterruptionsSpec, LaunchTemplateSpec, LocalSpec, ProviderSpec};
pub use scaling::{AtLimit, BudgetSpec, CapacityType, OfferingSpec, ScalingSpec};

/// The whole of `fleet.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FleetSpec {
    /// Name of the fleet; part of every queue name.
    pub fleet: FleetName,
    /// Class of jobs that name none. May be left out when there is just one class.
    pub default_class: Option<ClassName>,
    pub classes: BTreeMap<ClassName, ClassSpec>,
    pub models: BTreeMap<ModelName, ModelSpec>,
    pub pools: BTreeMap<PoolName, PoolSpec>,
    /// Left out: one tenant, `default`.
    #[serde(default)]
    pub tenants: BTreeMap<TenantName, TenantSpec>,
    #[serde(default)]
    pub retention: RetentionSpec,
    #[serde(default)]
    pub limits: LimitsSpec,
    #[serde(default)]
    pub retry: RetrySpec,
    #[serde(default)]
    pub lease: LeaseSpec,
    /// Bounds on what the autoscaler buys.
    #[serde(default)]
    pub budget: BudgetSpec,
    /// How many machines may be taken out at a time, in pools that do not say so themselves.
    #[serde(default)]
    pub disruption: DisruptionSpec,
    /// Where the autoscaler buys machines. Left out: nowhere.
    pub provider: Option<ProviderSpec>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClassSpec {
    /// Longest wait from acceptance to the start of execution.
    pub max_wait: HumanDuration,
    /// Fraction of jobs that start within it.
    #[serde(default = "default_objective")]
    pub objective: f64,
    /// Whether a job may wait for an instance to boot.
    #[serde(default = "default_cold_start")]
    pub cold_start: bool,
}

fn default_objective() -> f64 {
    0.99
}

fn default_cold_start() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelSpec {
    pub task: Task,
    /// `file:/path/to/directory`, `hf:owner/name[@revision]`, or a folder in object storage: `s3://bucket/folder`,
    /// `gs://bucket/folder` or `az://container/folder`. Not used by `echo`.
    pub source: Option<String>,
    /// `sha256:` and 64 hex digits: the digest of the weights, `model.safetensors` or the GGUF file. Object storage
    /// needs it.
    pub digest: Option<String>,
    /// Most tokens in one batch.
    pub max_batch_tokens: Option<u32>,
    /// How exactly a GPU computes it: `f32` unless something else is said.
    #[serde(default)]
    pub precision: Precision,
    /// Only for `text-embedding`: texts that jobs can ask to have before their inputs, by name.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
    /// The prompt of jobs that ask for none. Left out: none.
    pub default_prompt: Option<String>,
    /// Only for `image-classification`: the labels of jobs that name none. Left out: each job names its own.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The sentence in which a label is compared with images, with `{}` in its place: `This is a photo of {}.` where
    /// neither a job nor this says something else.
    pub label_template: Option<String>,
    /// Only for `echo`: how long it takes for an item.
    pub delay: Option<HumanDuration>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PoolSpec {
    /// Models that its workers serve. A model is served by one pool.
    pub models: Vec<ModelName>,
    /// What may be launched for it. Left out: its workers are started by somebody else.
    #[serde(default)]
    pub offerings: Vec<OfferingSpec>,
    #[serde(default)]
    pub scaling: ScalingSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TenantSpec {
    /// Share of the fleet under contention, relative to the other tenants.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// Most jobs of the tenant that have not ended. Left out: no limit but the fleet's.
    pub max_queued: Option<u64>,
}

fn default_weight() -> u32 {
    1
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetentionSpec {
    /// How long results are kept after the end of a job.
    pub results: HumanDuration,
    /// How long jobs, idempotency keys and dead letters are kept after the end of a job.
    pub jobs: HumanDuration,
}

impl Default for RetentionSpec {
    fn default() -> Self {
        Self {
            results: HumanDuration::from_secs(24 * 3600),
            jobs: HumanDuration::from_secs(7 * 24 * 3600),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Most items in a job.
    pub max_items: u32,
    /// Largest encoded input of a job.
    pub max_input: ByteSize,
    /// Largest single text.
    pub max_text: ByteSize,
    /// Largest single recording.
    pub max_recording: ByteSize,
    /// Largest file of a single image.
    pub max_image: ByteSize,
    /// Most pixels of a single image, its width times its height.
    pub max_image_pixels: u64,
    /// Most jobs that have not ended, over all tenants.
    pub max_queued: u64,
    /// Longest deadline that a job may ask for.
    pub max_deadline: HumanDuration,
    /// New jobs are refused when less than this is free where the store is.
    pub min_free_disk: ByteSize,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            max_items: 10_000,
            max_input: ByteSize::mebibytes(4),
            max_text: ByteSize::from_bytes(256 << 10),
            // As large as an input may be at all.
            max_recording: ByteSize::mebibytes(15),
            max_image: ByteSize::from_bytes(ImageLimits::default().max_bytes),
            max_image_pixels: ImageLimits::default().max_pixels,
            max_queued: 5_000_000,
            max_deadline: HumanDuration::from_secs(7 * 24 * 3600),
            min_free_disk: ByteSize::mebibytes(256),
        }
    }
}

/// See [`crate::policy::RetryPolicy`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetrySpec {
    pub max_failures: Option<u32>,
    pub max_crashes: Option<u32>,
    pub max_lost_workers: Option<u32>,
    pub base_delay: Option<HumanDuration>,
    pub max_delay: Option<HumanDuration>,
}

/// See [`crate::policy::LeasePolicy`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LeaseSpec {
    pub ttl: Option<HumanDuration>,
    pub heartbeat: Option<HumanDuration>,
    pub disconnect_grace: Option<HumanDuration>,
    pub cancel_grace: Option<HumanDuration>,
    pub redispatch_after: Option<HumanDuration>,
    pub max_runtime: Option<HumanDuration>,
}
