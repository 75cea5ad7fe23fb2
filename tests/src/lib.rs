//! End-to-end tests over real processes and real servers.

pub mod broker;
pub mod rabbitmq;
pub mod tcp_proxy;
