//! End-to-end tests over real processes and real servers.

pub mod bench;
pub mod broker;
pub mod chaos;
pub mod fleet;
mod guard;
pub mod metrics;
pub mod poll;
pub mod ports;
pub mod postgres;
pub mod programs;
pub mod rabbitmq;
pub mod sync_fault;
pub mod tcp_proxy;
pub mod tmpfs;
