//! From the file as written to a fleet in which every reference resolves.

mod disruption;
mod images;
mod policy;
mod provider;
mod scaling;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::ids::{ClassName, FleetName, ModelName, PoolName, TenantName};
use crate::image::ImageLimits;
use crate::policy::JobPolicy;
use crate::request::Task;
use crate::zero_shot::ZeroShot;

use super::precision::Precision;
use super::prompts::Prompts;
use super::spec::{FleetSpec, ModelSpec};

use images::{image_limits, zero_shot};
use source::{digest, source};

pub use disruption::{Disruption, DisruptionBudget};
pub use provider::{Ec2Region, Interruptions, LaunchTemplate, Local, Provider};
pub use scaling::{Budget, Offering, Scaling};

/// A checked fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    pub name: FleetName,
    pub default_class: ClassName,
    pub classes: BTreeMap<ClassName, Class>,
    pub models: BTreeMap<ModelName, Model>,
    pub pools: BTreeMap<PoolName, Pool>,
    /// Never empty.
    pub tenants: BTreeMap<TenantName, Tenant>,
    pub retention: Retention,
    pub limits: Limits,
    pub job_policy: JobPolicy,
    pub budget: Budget,
    /// Who sells the machines; `None`: they are not bought.
    pub provider: Option<Provider>,
}

/// A latency class.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Longest wait from acceptance to the start of execution.
    pub max_wait: Duration,
    /// Fraction of jobs that start within it, in `(0, 1)`.
    pub objective: f64,
    /// Whether a job may wait for an instance to boot.
    pub cold_start: bool,
}

/// An entry of the model registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub task: Task,
    /// The pool whose workers serve it.
    pub pool: PoolName,
    pub source: Source,
    /// SHA-256 of the weights as 64 lower-case hex digits; always there for a bucket.
    pub sha256: Option<String>,
    /// Most tokens in one batch; `None`: the engine's own.
    pub max_batch_tokens: Option<u32>,
    /// How exactly a GPU computes it.
    pub precision: Precision,
    pub prompts: Prompts,
    /// For jobs that name no labels.
    pub zero_shot: ZeroShot,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory on the worker's machine.
    Directory(PathBuf),
    /// A repository of the Hugging Face hub at a revision (`main` when none was named).
    HuggingFace { repository: String, revision: String },
    /// A folder in object storage: `s3://bucket/folder`, `gs://bucket/folder` or `az://container/folder`.
    Bucket { url: String },
    /// Nothing to load: the echo engine, which takes this long for an item.
    Builtin { delay: Duration },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// In the order of the file.
    pub models: Vec<ModelName>,
    pub scaling: Scaling,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// At least 1.
    pub weight: u32,
    pub max_queued: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    pub results: Duration,
    /// At least as long as `results`.
    pub jobs: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub max_items: u32,
    pub max_input_bytes: u64,
    pub max_text_bytes: u64,
    pub max_recording_bytes: u64,
    pub image: ImageLimits,
    pub max_queued: u64,
    pub max_deadline: Duration,
    pub min_free_disk_bytes: u64,
}

/// One thing that is wrong with a fleet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `pools.default.models`.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl FleetSpec {
    /// Checks the whole file and reports everything that is wrong with it at once.
    pub fn check(self) -> Result<Fleet, Vec<Problem>> {
        let mut problems = Problems::default();
        let default_class = problems.default_class(&self);
        let classes = problems.classes(&self);
        let models = problems.models(&self);
        let pools = problems.pools(&self);
        let tenants = problems.tenants(&self);
        let job_policy = problems.policy(&self);
        let retention = problems.retention(&self);
        let limits = problems.limits(&self);
        let budget = problems.budget(&self);
        let provider = problems.provider(&self);
        match (default_class, problems.0.is_empty()) {
            (Some(default_class), true) => Ok(Fleet {
                name: self.fleet,
                default_class,
                classes,
                models,
                pools,
                tenants,
                retention,
                limits,
                job_policy,
                budget,
                provider,
            }),
            _ => Err(problems.0),
        }
    }
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into() });
    }

    fn default_class(&mut self, spec: &FleetSpec) -> Option<ClassName> {
        let names: Vec<&ClassName> = spec.classes.keys().collect();
        match (&spec.default_class, names.as_slice()) {
            (_, []) => {
                self.add("classes", "there is none: add one, such as [classes.standard]");
                None
            }
            (None, [only]) => Some((*only).clone()),
            (None, _) => {
                self.add("default-class", "there are several classes: say which is the default");
                None
            }
            (Some(name), _) if spec.classes.contains_key(name) => Some(name.clone()),
            (Some(name), _) => {
                self.add("default-class", unknown("class", name.as_str(), &spec.classes));
                None
            }
        }
    }

    fn classes(&mut self, spec: &FleetSpec) -> BTreeMap<ClassName, Class> {
        let mut classes = BTreeMap::new();
        for (name, class) in &spec.classes {
            if !(class.objective > 0.0 && class.objective < 1.0) {
                self.add(
                    format!("classes.{name}.objective"),
                    format!("{} is not a fraction between 0 and 1, such as 0.99", class.objective),
                );
            }
            if class.max_wait.get().is_zero() {
                self.add(format!("classes.{name}.max-wait"), "must be longer than 0s");
            }
            let (max_wait, objective, cold_start) =
                (class.max_wait.get(), class.objective, class.cold_start);
            classes.insert(name.clone(), Class { max_wait, objective, cold_start });
        }
        classes
    }

    fn models(&mut self, spec: &FleetSpec) -> BTreeMap<ModelName, Model> {
        if spec.models.is_empty() {
            self.add("models", "there is none: add one, such as [models.all-minilm-l6-v2]");
        }
        let mut models = BTreeMap::new();
        for (name, model) in &spec.models {
            let key = |field: &str| format!("models.{name}.{field}");
            let pool = self.pool_of(spec, name);
            let source = source(model).map_err(|message| self.add(key("source"), message));
            let sha256 = digest(model, source.as_ref().ok());
            let sha256 = sha256.map_err(|message| self.add(key("digest"), message));
            if model.max_batch_tokens.is_some_and(|tokens| tokens < 16) {
                self.add(key("max-batch-tokens"), "must be at least 16");
            }
            if model.delay.is_some() && model.task != Task::Echo {
                self.add(key("delay"), "is only for models of the task `echo`");
            }
            let prompts = prompts(model).map_err(|(field, message)| self.add(key(&field), message));
            let zero_shot =
                zero_shot(model).map_err(|(field, message)| self.add(key(field), message));
            if let (Some(pool), Ok(source), Ok(sha256), Ok(prompts), Ok(zero_shot)) =
                (pool, source, sha256, prompts, zero_shot)
            {
                let (task, max_batch_tokens) = (model.task, model.max_batch_tokens);
                let precision = model.precision;
                let model = Model {
                    task,
                    pool,
                    source,
                    sha256,
                    max_batch_tokens,
                    precision,
                    prompts,
                    zero_shot,
                };
                models.insert(name.clone(), model);
            }
        }
        models
    }

    fn pool_of(&mut self, spec: &FleetSpec, model: &ModelName) -> Option<PoolName> {
        let mut pools =
            spec.pools.iter().filter(|(_, p)| p.models.contains(model)).map(|(name, _)| name);
        let Some(first) = pools.next() else {
            self.add(
                format!("models.{model}"),
                "no pool serves it: add it to the `models` of a pool, or remove it",
            );
            return None;
        };
        if let Some(second) = pools.next() {
            let message = format!("`{model}` is served by {first} already: keep it in one pool");
            self.add(format!("pools.{second}.models"), message);
        }
        Some(first.clone())
    }

    fn pools(&mut self, spec: &FleetSpec) -> BTreeMap<PoolName, Pool> {
        if spec.pools.is_empty() {
            self.add("pools", "there is none: add one, such as [pools.default]");
        }
        let disruption = self.disruption("disruption", &spec.disruption);
        let mut pools = BTreeMap::new();
        for (name, pool) in &spec.pools {
            let key = format!("pools.{name}.models");
            if pool.models.is_empty() {
                self.add(key.clone(), "is empty: name the models that its workers serve");
            }
            for (index, model) in pool.models.iter().enumerate() {
                if !spec.models.contains_key(model) {
                    self.add(key.clone(), unknown("model", model.as_str(), &spec.models));
                }
                if pool.models.iter().take(index).any(|earlier| earlier == model) {
                    self.add(key.clone(), format!("`{model}` stands in it twice"));
                }
            }
            let scaling = self.scaling(name, pool, &disruption);
            pools.insert(name.clone(), Pool { models: pool.models.clone(), scaling });
        }
        pools
    }

    fn tenants(&mut self, spec: &FleetSpec) -> BTreeMap<TenantName, Tenant> {
        let mut tenants = BTreeMap::new();
        for (name, tenant) in &spec.tenants {
            if tenant.weight == 0 {
                self.add(format!("tenants.{name}.weight"), "must be at least 1");
            }
            let (weight, max_queued) = (tenant.weight, tenant.max_queued);
            tenants.insert(name.clone(), Tenant { weight, max_queued });
        }
        if tenants.is_empty() {
            let name = TenantName::new("default").expect("`default` is a valid name");
            tenants.insert(name, Tenant { weight: 1, max_queued: None });
        }
        tenants
    }

    fn retention(&mut self, spec: &FleetSpec) -> Retention {
        let (results, jobs) = (spec.retention.results.get(), spec.retention.jobs.get());
        if results.is_zero() {
            self.add("retention.results", "must be above 0s: results have to be fetched first");
        }
        if jobs < results {
            self.add("retention.jobs", "must be at least as long as retention.results");
        }
        Retention { results, jobs }
    }

    fn limits(&mut self, spec: &FleetSpec) -> Limits {
        /// A submit call carries at most this much, with room for the rest of the message.
        const MESSAGE_BYTES: u64 = 15 << 20;
        let limits = &spec.limits;
        if limits.max_items == 0 {
            self.add("limits.max-items", "must be at least 1");
        }
        if limits.max_input.bytes() == 0 || limits.max_input.bytes() > MESSAGE_BYTES {
            self.add("limits.max-input", "must be above 0B and at most 15MiB");
        }
        let image = image_limits(limits).map_err(|message| {
            self.add("limits.max-image-pixels", message);
        });
        if limits.max_queued == 0 {
            self.add("limits.max-queued", "must be at least 1");
        }
        Limits {
            max_items: limits.max_items,
            max_input_bytes: limits.max_input.bytes(),
            max_text_bytes: limits.max_text.bytes().min(limits.max_input.bytes()),
            max_recording_bytes: limits.max_recording.bytes().min(limits.max_input.bytes()),
            image: image.unwrap_or_default(),
            max_queued: limits.max_queued,
            max_deadline: limits.max_deadline.get(),
            min_free_disk_bytes: limits.min_free_disk.bytes(),
        }
    }
}

/// The error has the field that it is about.
fn prompts(model: &ModelSpec) -> Result<Prompts, (String, String)> {
    let given = !model.prompts.is_empty() || model.default_prompt.is_some();
    if given && model.task != Task::TextEmbedding {
        let problem = "are only for models of the task `text-embedding`";
        return Err(("prompts".to_owned(), problem.to_owned()));
    }
    let prompts = Prompts::new(model.prompts.clone(), model.default_prompt.clone());
    prompts.map_err(|(name, problem)| {
        let field =
            name.map_or_else(|| "default-prompt".to_owned(), |name| format!("prompts.{name}"));
        (field, problem)
    })
}

fn unknown<N: fmt::Display, V>(kind: &str, name: &str, known: &BTreeMap<N, V>) -> String {
    let known: Vec<String> = known.keys().map(ToString::to_string).collect();
    format!("there is no {kind} `{name}`; there are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        fleet = "dev"
        [classes.standard]
        max-wait = "60s"
        [models.mini]
        task = "text-embedding"
        source = "hf:sentence-transformers/all-MiniLM-L6-v2@main"
        [models.echo]
        task = "echo"
        [pools.default]
        models = ["mini", "echo"]
    "#;

    fn check(text: &str) -> Result<Fleet, Vec<String>> {
        let spec: FleetSpec =
            toml::from_str(text).expect("the text is valid TOML of the right form");
        spec.check().map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_small_file_is_enough() {
        let fleet = check(GOOD).unwrap();
        assert_eq!(fleet.default_class.as_str(), "standard");
        assert_eq!(fleet.tenants.len(), 1);
        let mini = &fleet.models[&ModelName::new("mini").unwrap()];
        assert_eq!(mini.pool.as_str(), "default");
        assert!(matches!(&mini.source, Source::HuggingFace { revision, .. } if revision == "main"));
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_keys() {
        let text = GOOD
            .replace("60s", "0s")
            .replace("hf:sentence-transformers/all-MiniLM-L6-v2@main", "ftp:x")
            .replace(r#"["mini", "echo"]"#, r#"["mini", "mega"]"#);
        let problems = check(&text).unwrap_err().join("\n");
        for part in [
            "classes.standard.max-wait",
            "models.mini.source",
            "models.echo: no pool",
            "no model `mega`",
        ] {
            assert!(problems.contains(part), "{part} in\n{problems}");
        }
    }

    #[test]
    fn a_model_belongs_to_one_pool() {
        let text = format!("{GOOD}\n[pools.other]\nmodels = [\"echo\"]");
        assert!(check(&text).unwrap_err().join("\n").contains("keep it in one pool"));
    }
}
