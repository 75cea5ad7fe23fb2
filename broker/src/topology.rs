//! What exists on the broker, as data: names, arguments and bindings of one fleet.
//!
//! There is deliberately no alternate exchange: it would turn an unroutable publish into a
//! confirmed one, and a publisher could no longer tell. Publishes are mandatory instead, and
//! returns are matched by message id (see `rabbitmq::window`). There is no message TTL either:
//! deadlines belong to the store.

use stoker_core::ids::FleetName;

use crate::message::Queue;

/// How often a message may go back to its queue before it is parked. Explicit and positive:
/// brokers before 4.0 destroy messages at -1, and 4.x has a default of 20. High, because every
/// orderly shutdown of a worker spends one and a lost hint costs only delay.
pub const DELIVERY_LIMIT: u32 = 100;

/// Most messages that the parked queue keeps; the oldest go first. They are hints, kept for an
/// operator to look at.
pub const PARKED_LIMIT: u32 = 100_000;

/// The names of one fleet's objects on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    prefix: String,
}

/// One object to declare, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declaration {
    Exchange { name: String, kind: ExchangeKind },
    Queue { name: String, arguments: Vec<(&'static str, Argument)> },
    Binding { queue: String, exchange: String, routing_key: String },
}

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    Direct,
    Fanout,
}

/// The value of a queue argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Text(String),
    Number(u32),
}

impl Topology {
    pub fn new(fleet: &FleetName) -> Self {
        Self { prefix: format!("stoker.{}", undotted(fleet.as_str())) }
    }

    /// The exchange that hints are published to.
    pub fn jobs_exchange(&self) -> String {
        format!("{}.jobs", self.prefix)
    }

    /// The exchange that dead letters go to.
    pub fn parked_exchange(&self) -> String {
        format!("{}.parked", self.prefix)
    }

    /// The queue of dead letters, for an operator to look at.
    pub fn parked_queue(&self) -> String {
        format!("{}.parked", self.prefix)
    }

    /// The key that routes to `queue`: `<pool>.<model>`. A dot inside the pool's name is written
    /// `~`, which no name may contain, so that two queues never share a key.
    pub fn routing_key(&self, queue: &Queue) -> String {
        format!("{}.{}", undotted(queue.pool.as_str()), queue.model)
    }

    /// `stoker.<fleet>.jobs.<pool>.<model>`.
    pub fn queue_name(&self, queue: &Queue) -> String {
        format!("{}.jobs.{}", self.prefix, self.routing_key(queue))
    }

    /// What every fleet needs, dead letters first: at-least-once dead lettering waits three
    /// minutes before it tries again to reach a target that was missing.
    #[must_use]
    pub fn base(&self) -> Vec<Declaration> {
        vec![
            Declaration::Exchange { name: self.parked_exchange(), kind: ExchangeKind::Fanout },
            Declaration::Queue {
                name: self.parked_queue(),
                arguments: vec![
                    ("x-queue-type", Argument::Text("quorum".to_owned())),
                    ("x-max-length", Argument::Number(PARKED_LIMIT)),
                    ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT)),
                ],
            },
            Declaration::Binding {
                queue: self.parked_queue(),
                exchange: self.parked_exchange(),
                routing_key: String::new(),
            },
            Declaration::Exchange { name: self.jobs_exchange(), kind: ExchangeKind::Direct },
        ]
    }

    /// One work queue and its binding; needs [`Topology::base`].
    #[must_use]
    pub fn work(&self, queue: &Queue) -> Vec<Declaration> {
        vec![
            Declaration::Queue {
                name: self.queue_name(queue),
                arguments: vec![
                    ("x-queue-type", Argument::Text("quorum".to_owned())),
                    ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT)),
                    ("x-dead-letter-exchange", Argument::Text(self.parked_exchange())),
                    ("x-dead-letter-strategy", Argument::Text("at-least-once".to_owned())),
                    // At-least-once dead lettering silently falls back to at-most-once without it.
                    ("x-overflow", Argument::Text("reject-publish".to_owned())),
                ],
            },
            Declaration::Binding {
                queue: self.queue_name(queue),
                exchange: self.jobs_exchange(),
                routing_key: self.routing_key(queue),
            },
        ]
    }
}

fn undotted(name: &str) -> String {
    name.replace('.', "~")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stoker_core::ids::{ModelName, PoolName};

    use super::*;

    fn topology(fleet: &str) -> Topology {
        Topology::new(&FleetName::new(fleet).unwrap())
    }

    fn queue(pool: &str, model: &str) -> Queue {
        Queue { pool: PoolName::new(pool).unwrap(), model: ModelName::new(model).unwrap() }
    }

    #[test]
    fn names_are_readable_and_keep_dots_in_models() {
        let name = topology("prod").queue_name(&queue("l4-spot", "bge-small-en-v1.5"));
        assert_eq!(name, "stoker.prod.jobs.l4-spot.bge-small-en-v1.5");
    }

    #[test]
    fn different_queues_never_share_a_name_or_a_key() {
        let mut names = BTreeSet::new();
        for (fleet, pool, model) in [
            ("f", "a", "b"),
            ("f", "a.b", "c"),
            ("f", "a", "b.c"),
            ("f.jobs.a", "b", "c"),
            ("f", "jobs", "parked"),
            ("f.jobs", "a", "b"),
        ] {
            let topology = topology(fleet);
            assert!(
                names.insert(topology.queue_name(&queue(pool, model))),
                "{fleet} {pool} {model}"
            );
            names.insert(topology.parked_queue());
        }
        assert_eq!(names.len(), 6 + 3, "three fleets, each with its own parked queue");
        let t = topology("f");
        assert_ne!(t.routing_key(&queue("a.b", "c")), t.routing_key(&queue("a", "b.c")));
    }

    #[test]
    fn the_longest_names_fit_an_amqp_short_string() {
        let long = "a".repeat(63);
        assert!(topology(&long).queue_name(&queue(&long, &long)).len() <= 255);
    }

    #[test]
    fn a_work_queue_has_every_argument_that_keeps_messages_alive() {
        let declarations = topology("prod").work(&queue("cpu", "minilm"));
        let Declaration::Queue { name, arguments } = &declarations[0] else {
            panic!("queue first")
        };
        assert_eq!(name, "stoker.prod.jobs.cpu.minilm");
        let text = |key| match arguments.iter().find(|(name, _)| *name == key) {
            Some((_, Argument::Text(text))) => text.as_str(),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(text("x-queue-type"), "quorum");
        assert_eq!(text("x-dead-letter-exchange"), "stoker.prod.parked");
        assert_eq!(text("x-dead-letter-strategy"), "at-least-once");
        assert_eq!(text("x-overflow"), "reject-publish");
        assert!(arguments.contains(&("x-delivery-limit", Argument::Number(DELIVERY_LIMIT))));
        assert_eq!(arguments.len(), 5, "an unknown argument would be ignored silently");
        assert!(matches!(&declarations[1], Declaration::Binding { queue, exchange, routing_key }
            if queue == name && exchange == "stoker.prod.jobs" && routing_key == "cpu.minilm"));
    }

    #[test]
    fn dead_letters_have_a_home_before_anything_can_die() {
        let base = topology("prod").base();
        let position = |wanted: &str| {
            base.iter().position(|declaration| match declaration {
                Declaration::Exchange { name, .. } => name == wanted,
                Declaration::Queue { .. } => false,
                Declaration::Binding { exchange, .. } => exchange == wanted,
            })
        };
        assert_eq!(position("stoker.prod.parked"), Some(0));
        assert_eq!(position("stoker.prod.jobs"), Some(3));
        assert!(
            matches!(&base[1], Declaration::Queue { name, .. } if name == "stoker.prod.parked")
        );
        assert!(matches!(&base[2], Declaration::Binding { .. }));
    }
}
