//! The rules of the workspace's structure, as data.

/// What a workspace crate may depend on, for building, running or testing.
pub(crate) struct Layer {
    pub(crate) package: &'static str,
    pub(crate) may_use: &'static [&'static str],
}

/// A dependency that only some crates may declare. A name that ends in `*` stands for a family.
pub(crate) struct Home {
    pub(crate) dependency: &'static str,
    pub(crate) homes: &'static [&'static str],
}

/// Packages that a crate must not reach, however indirectly.
pub(crate) struct FreeOf {
    pub(crate) package: &'static str,
    pub(crate) forbidden: &'static [&'static str],
    pub(crate) because: &'static str,
}

/// A file that may break a rule about files, and why.
pub(crate) struct Exception {
    pub(crate) file: &'static str,
    pub(crate) reason: &'static str,
}

const CORE: &str = "stoker-core";
const PROTO: &str = "stoker-proto";
const BROKER: &str = "stoker-broker";
const RUNTIME: &str = "stoker-runtime";
const COORDINATOR: &str = "stoker-coordinator";
const WORKER: &str = "stoker-worker";
const ENGINE_API: &str = "stoker-engine-api";
const ENGINE: &str = "stoker-engine";
const WEIGHTS: &str = "stoker-weights";
const AUTOSCALER: &str = "stoker-autoscaler";
const CLI: &str = "stoker-cli";
const SIM: &str = "stoker-sim";
const TESTS: &str = "stoker-tests";
const TEST_EC2: &str = "stoker-test-ec2";

/// Every crate of the workspace. Services meet on the wire, so none of them is in another's list, and
/// the worker meets the engine over pipes, so it knows only the engine's protocol.
pub(crate) const LAYERS: &[Layer] = &[
    Layer { package: CORE, may_use: &[] },
    Layer { package: PROTO, may_use: &[CORE] },
    Layer { package: BROKER, may_use: &[CORE] },
    Layer { package: RUNTIME, may_use: &[CORE] },
    Layer { package: COORDINATOR, may_use: &[CORE, PROTO, BROKER, RUNTIME] },
    Layer { package: WORKER, may_use: &[CORE, PROTO, BROKER, RUNTIME, ENGINE_API, WEIGHTS] },
    // Its tests need S3; the server that plays EC2 plays it as well.
    Layer { package: WEIGHTS, may_use: &[TEST_EC2] },
    Layer { package: ENGINE_API, may_use: &[] },
    Layer { package: ENGINE, may_use: &[CORE, ENGINE_API] },
    Layer { package: AUTOSCALER, may_use: &[CORE, PROTO, RUNTIME, TEST_EC2] },
    // `stoker simulate` is the simulator over a user's own traffic.
    Layer { package: CLI, may_use: &[CORE, PROTO, BROKER, RUNTIME, SIM] },
    // What is simulated is the rules, not the services around them.
    Layer { package: SIM, may_use: &[CORE] },
    Layer { package: TEST_EC2, may_use: &[] },
    Layer {
        package: TESTS,
        may_use: &[
            CORE,
            PROTO,
            BROKER,
            RUNTIME,
            COORDINATOR,
            WORKER,
            ENGINE_API,
            ENGINE,
            CLI,
            TEST_EC2,
        ],
    },
];

/// Dependencies that cost build time, or that we may want to replace: each has one home. The tests drive
/// real servers and read real databases, so some are theirs as well.
pub(crate) const HOMES: &[Home] = &[
    Home { dependency: "prost*", homes: &[PROTO] },
    Home { dependency: "protox*", homes: &[PROTO] },
    Home { dependency: "tonic-prost*", homes: &[PROTO] },
    Home { dependency: "lapin", homes: &[BROKER, TESTS] },
    Home { dependency: "backoff", homes: &[RUNTIME] },
    Home { dependency: "opentelemetry-otlp", homes: &[RUNTIME] },
    Home { dependency: "tracing-opentelemetry", homes: &[RUNTIME] },
    Home { dependency: "metrics-exporter-prometheus", homes: &[RUNTIME] },
    Home { dependency: "rusqlite", homes: &[COORDINATOR, TESTS] },
    Home { dependency: "tokio-postgres*", homes: &[COORDINATOR, TESTS] },
    Home { dependency: "deadpool-postgres", homes: &[COORDINATOR] },
    Home { dependency: "cms", homes: &[COORDINATOR] },
    Home { dependency: "der", homes: &[COORDINATOR] },
    Home { dependency: "ring", homes: &[COORDINATOR] },
    Home { dependency: "x509-cert", homes: &[COORDINATOR] },
    Home { dependency: "candle-*", homes: &[ENGINE] },
    Home { dependency: "gemm*", homes: &[ENGINE] },
    Home { dependency: "pulp", homes: &[ENGINE] },
    Home { dependency: "cudaforge", homes: &[ENGINE] },
    Home { dependency: "half", homes: &[ENGINE] },
    Home { dependency: "rayon", homes: &[ENGINE] },
    Home { dependency: "nvml-wrapper", homes: &[WORKER] },
    Home { dependency: "tokenizers", homes: &[ENGINE] },
    Home { dependency: "minijinja*", homes: &[ENGINE] },
    Home { dependency: "image", homes: &[ENGINE] },
    Home { dependency: "imagesize", homes: &[PROTO] },
    Home { dependency: "realfft", homes: &[ENGINE] },
    Home { dependency: "rubato", homes: &[ENGINE] },
    Home { dependency: "symphonia*", homes: &[ENGINE] },
    Home { dependency: "hf-hub", homes: &[WORKER] },
    Home { dependency: "object_store", homes: &[WEIGHTS] },
    Home { dependency: "reqwest", homes: &[WEIGHTS] },
    Home { dependency: "aws-*", homes: &[AUTOSCALER] },
    Home { dependency: "clarabel", homes: &[SIM] },
    Home { dependency: "rand_chacha", homes: &[SIM, ENGINE] },
    Home { dependency: "rand_distr", homes: &[SIM] },
    Home { dependency: "clap_complete", homes: &[CLI] },
    Home { dependency: "indicatif", homes: &[CLI] },
    Home { dependency: "comfy-table", homes: &[CLI] },
    Home { dependency: "crossterm", homes: &[CLI] },
    Home { dependency: "ratatui*", homes: &[CLI] },
    Home { dependency: "arrow*", homes: &[CLI] },
    Home { dependency: "parquet", homes: &[CLI] },
];

const NO_CLOUD: &str = "the quick start builds without a cloud's SDK, CUDA and model code";

/// What must stay out of a crate's whole tree of dependencies.
pub(crate) const FREE_OF: &[FreeOf] = &[
    FreeOf {
        package: CORE,
        forbidden: &["tokio", "tracing", "chrono", "mio", "socket2"],
        because: "decisions do no I/O and read no clock",
    },
    FreeOf {
        package: WORKER,
        forbidden: &[ENGINE, "candle-*", "cudarc", "tokenizers", "aws-*"],
        because: "a fault in a model or a driver must end a child process, not the worker",
    },
    FreeOf {
        package: ENGINE_API,
        forbidden: &["candle-*", "tokio", "tonic"],
        because: "worker and engine share a protocol, not a runtime",
    },
    FreeOf {
        package: ENGINE,
        forbidden: &["tonic", "lapin", "rusqlite"],
        because: "an engine talks to its worker only",
    },
    FreeOf {
        package: SIM,
        forbidden: &["tokio", "tonic", "tracing", "mio", "socket2", "aws-*"],
        because: "a simulation has its own time, and the same story for the same seed",
    },
    FreeOf { package: COORDINATOR, forbidden: &["aws-*", "cudarc", "candle-*"], because: NO_CLOUD },
    FreeOf {
        package: AUTOSCALER,
        forbidden: &["aws-*", "cudarc", "candle-*"],
        because: "only its feature `ec2` brings a cloud's SDK",
    },
    FreeOf { package: CLI, forbidden: &["aws-*", "cudarc", "candle-*"], because: NO_CLOUD },
];

/// All that the core may declare. Values, their errors, their ids and how people write a duration need
/// these, its tests the last two; nothing else is needed to decide.
pub(crate) const CORE_ALLOWED: &[&str] =
    &["humantime", "serde", "thiserror", "uuid", "proptest", "toml"];

/// Past this a file has more than one reason to exist and is split by noun.
pub(crate) const MAX_LINES: usize = 500;

/// Files over the limit, each with the reason why splitting it would make it worse.
pub(crate) const LONG_FILES: &[Exception] = &[];

/// Files with unsafe code, each with the reason why there is no safe way.
pub(crate) const UNSAFE_FILES: &[Exception] = &[Exception {
    file: "worker/engine/src/cuda.rs",
    reason: "launching a GPU's kernel is a call that the compiler cannot check",
}];

/// Beginnings of paths that exist on one person's machine only. The checkout's own path is added to them.
pub(crate) const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
