//! Which processes a local fleet consists of, and their command lines. Pure.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use stoker_core::fleet::Fleet;
use stoker_core::ids::PoolName;
use stoker_core::units::ByteSize;
use stoker_runtime::child::ChildPlan;
use stoker_runtime::secret::Secret;

use super::programs::Programs;
use crate::failure::Failure;

/// Environment variable of the broker's URI: a secret, which must not be on a command line.
const BROKER_URI: &str = "STOKER_BROKER_URI";

/// Which broker the fleet uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broker {
    /// The coordinator's own.
    Embedded,
    /// `RabbitMQ` at this URI.
    RabbitMq(Secret),
}

impl Broker {
    /// What `--broker` means. The text may be a mistyped URI with a password: no error repeats it,
    /// as clap would if it read the argument itself.
    pub(crate) fn parse(text: &Secret) -> Result<Self, Failure> {
        let uri = text.expose();
        if uri == "embedded" {
            Ok(Self::Embedded)
        } else if uri.starts_with("amqp://") || uri.starts_with("amqps://") {
            Ok(Self::RabbitMq(text.clone()))
        } else {
            Err(Failure::usage("--broker or STOKER_BROKER_URI is no broker")
                .hint("write `embedded`, or a URI that begins with amqp:// or amqps://"))
        }
    }
}

/// Who starts workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staff {
    /// So many are started for each pool, and kept.
    Workers(NonZeroU32),
    /// The autoscaler starts as many as the load needs.
    Autoscaled,
}

/// All that is needed to write the command lines.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) programs: Programs,
    pub(crate) fleet: PathBuf,
    pub(crate) pools: Vec<PoolName>,
    pub(crate) listen: SocketAddr,
    pub(crate) data: PathBuf,
    pub(crate) broker: Broker,
    pub(crate) staff: Staff,
    /// Jobs that a worker takes at once.
    pub(crate) slots: NonZeroU32,
    /// Memory of each worker for the engines of all its models; `None`: what the worker takes by itself.
    pub(crate) memory_budget: Option<ByteSize>,
    /// Threads of a worker's engine.
    pub(crate) lanes: usize,
    pub(crate) log_format: &'static str,
}

/// A process to start.
#[derive(Debug, Clone)]
pub(crate) struct NamedPlan {
    /// What its log lines and messages call it.
    pub(crate) name: String,
    pub(crate) child: ChildPlan,
}

/// Every pool of the fleet, in its order.
pub(crate) fn pools(fleet: &Fleet) -> Vec<PoolName> {
    fleet.pools.keys().cloned().collect()
}

/// An equal share of this machine's cores for each worker, at least one.
pub(crate) fn lanes(cores: usize, workers: usize) -> usize {
    (cores / workers.max(1)).max(1)
}

impl Plan {
    /// The coordinator's URL.
    pub(crate) fn server(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Workers that are there from the start.
    pub(crate) fn workers(&self) -> usize {
        match self.staff {
            Staff::Workers(per_pool) => self.pools.len() * per_pool.get() as usize,
            Staff::Autoscaled => 0,
        }
    }

    pub(super) fn coordinator(&self) -> NamedPlan {
        let mut arguments = self.shared_arguments();
        arguments.extend(["--listen".into(), self.listen.to_string().into()]);
        arguments.extend(["--data".into(), self.data.clone().into_os_string()]);
        let (program, environment) = (self.programs.coordinator.clone(), self.environment());
        let child = ChildPlan { program, arguments, environment };
        NamedPlan { name: "coordinator".to_owned(), child }
    }

    /// What does the work: workers, or who starts them.
    pub(super) fn staff_plans(&self) -> Vec<NamedPlan> {
        match self.staff {
            Staff::Workers(per_pool) => self.worker_plans(per_pool),
            Staff::Autoscaled => vec![self.autoscaler()],
        }
    }

    fn worker_plans(&self, per_pool: NonZeroU32) -> Vec<NamedPlan> {
        let several = self.pools.len() > 1;
        let numbered = self
            .pools
            .iter()
            .flat_map(|pool| (1..=per_pool.get()).map(move |number| (pool, number)));
        numbered
            .map(|(pool, number)| {
                let name =
                    if several { format!("{pool}-{number}") } else { format!("worker-{number}") };
                self.worker(name, pool)
            })
            .collect()
    }

    fn worker(&self, name: String, pool: &PoolName) -> NamedPlan {
        let mut arguments = self.shared_arguments();
        arguments.extend(["--coordinator".into(), self.server().into()]);
        arguments.extend(["--pool".into(), pool.as_str().into()]);
        arguments.extend(["--slots".into(), self.slots.to_string().into()]);
        arguments.extend(["--lanes".into(), self.lanes.to_string().into()]);
        arguments.extend(self.memory_arguments());
        let spool = self.data.join("spool").join(&name);
        arguments.extend(["--spool".into(), spool.into_os_string()]);
        let (program, environment) = (self.programs.worker.clone(), self.environment());
        NamedPlan { name, child: ChildPlan { program, arguments, environment } }
    }

    fn autoscaler(&self) -> NamedPlan {
        let mut arguments = self.arguments();
        arguments.extend(["--coordinator".into(), self.server().into()]);
        for (option, folder) in [("--journal", "journal"), ("--machines", "machines")] {
            arguments.extend([option.into(), self.data.join(folder).into_os_string()]);
        }
        arguments.extend(["--worker".into(), self.programs.worker.clone().into_os_string()]);
        arguments.extend(self.memory_arguments());
        let (program, environment) = (self.programs.autoscaler.clone(), self.environment());
        let child = ChildPlan { program, arguments, environment };
        NamedPlan { name: "autoscaler".to_owned(), child }
    }

    /// What workers take, and who starts them hands on.
    fn memory_arguments(&self) -> Vec<OsString> {
        let budget = self.memory_budget.iter();
        budget.flat_map(|size| ["--memory-budget".into(), size.to_string().into()]).collect()
    }

    fn shared_arguments(&self) -> Vec<OsString> {
        let mut arguments = self.arguments();
        if self.broker == Broker::Embedded {
            arguments.extend(["--broker".into(), "embedded".into()]);
        }
        arguments
    }

    /// What every program takes.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["--fleet".into(), self.fleet.clone().into_os_string()];
        arguments.extend(["--log-format".into(), self.log_format.into()]);
        // This process holds the other end of their standard input: however it ends, so do they.
        arguments.push("--exit-on-stdin-eof".into());
        arguments
    }

    fn environment(&self) -> Vec<(&'static str, Secret)> {
        match &self.broker {
            Broker::Embedded => Vec::new(),
            Broker::RabbitMq(uri) => vec![(BROKER_URI, uri.clone())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(broker: Broker, pools: &[&str]) -> Plan {
        Plan {
            programs: Programs {
                coordinator: "/b/c".into(),
                worker: "/b/w".into(),
                autoscaler: "/b/a".into(),
            },
            fleet: "fleet.toml".into(),
            pools: pools.iter().map(|pool| PoolName::new(pool).unwrap()).collect(),
            listen: "127.0.0.1:7070".parse().unwrap(),
            data: "data".into(),
            broker,
            staff: Staff::Workers(NonZeroU32::new(2).unwrap()),
            slots: NonZeroU32::new(4).unwrap(),
            memory_budget: None,
            lanes: 3,
            log_format: "human",
        }
    }

    fn line(plan: &NamedPlan) -> String {
        let words: Vec<_> =
            plan.child.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        format!("{}: {}", plan.name, words.join(" "))
    }

    #[test]
    fn the_embedded_fleet_has_these_command_lines() {
        let plan = plan(Broker::Embedded, &["default"]);
        assert_eq!(
            line(&plan.coordinator()),
            "coordinator: --fleet fleet.toml --log-format human --exit-on-stdin-eof \
             --broker embedded --listen 127.0.0.1:7070 --data data"
        );
        let workers = plan.staff_plans();
        assert_eq!(
            line(&workers[1]),
            "worker-2: --fleet fleet.toml --log-format human --exit-on-stdin-eof \
             --broker embedded --coordinator http://127.0.0.1:7070 --pool default --slots 4 \
             --lanes 3 --spool data/spool/worker-2"
        );
        assert!(workers[0].child.environment.is_empty());
    }

    #[test]
    fn a_broker_uri_is_in_the_environment_and_nowhere_else() {
        let uri = "amqp://user:hunter2@host:5672/%2f";
        let plan = plan(Broker::parse(&Secret::new(uri)).unwrap(), &["default"]);
        for child in [plan.coordinator()].iter().chain(&plan.staff_plans()) {
            assert!(!line(child).contains("hunter2"));
            assert!(!line(child).contains("--broker"));
            assert!(!format!("{child:?}").contains("hunter2"));
            let [(name, secret)] = child.child.environment.as_slice() else { panic!() };
            assert_eq!((*name, secret.expose()), (BROKER_URI, uri));
        }
    }

    #[test]
    fn a_mistyped_broker_is_not_repeated() {
        let failure = Broker::parse(&Secret::new("amqp//user:hunter2@host")).unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    }

    #[test]
    fn every_pool_gets_workers() {
        let plan = plan(Broker::Embedded, &["a", "b"]);
        let names: Vec<_> = plan.staff_plans().into_iter().map(|child| child.name).collect();
        assert_eq!(names, ["a-1", "a-2", "b-1", "b-2"]);
        assert_eq!(plan.workers(), 4);
    }

    #[test]
    fn an_autoscaler_stands_for_all_workers() {
        let plan = Plan { staff: Staff::Autoscaled, ..plan(Broker::Embedded, &["a", "b"]) };
        let lines: Vec<_> = plan.staff_plans().iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "autoscaler: --fleet fleet.toml --log-format human --exit-on-stdin-eof --coordinator \
              http://127.0.0.1:7070 --journal data/journal --machines data/machines --worker /b/w"
            ]
        );
        assert_eq!(plan.workers(), 0);
    }

    #[test]
    fn workers_get_the_memory_budget_from_whoever_starts_them() {
        let fixed = Plan {
            memory_budget: Some("80MiB".parse().unwrap()),
            ..plan(Broker::Embedded, &["a", "b"])
        };
        let autoscaled = Plan { staff: Staff::Autoscaled, ..fixed.clone() };
        for plan in [fixed, autoscaled] {
            assert!(!line(&plan.coordinator()).contains("--memory-budget"));
            for child in plan.staff_plans() {
                assert!(line(&child).contains(" --memory-budget 80MiB"), "{}", line(&child));
            }
        }
    }

    #[test]
    fn cores_are_shared_out() {
        assert_eq!(lanes(8, 2), 4);
        assert_eq!(lanes(2, 4), 1);
        assert_eq!(lanes(1, 0), 1);
    }
}
