//! A whole fleet on this machine: the services' own programs as child processes, kept running.

mod builtin;
mod child;
mod local;
mod logs;
mod notice;
pub(crate) mod plan;
mod programs;
mod ready;
mod restart;
mod supervisor;

pub(crate) use builtin::BuiltIn;
pub(crate) use local::LocalFleet;
pub(crate) use logs::LogTarget;
pub(crate) use notice::Notice;
pub(crate) use plan::{Broker, Plan, Staff};
pub(crate) use programs::Programs;
pub(crate) use ready::{Slow, wait_until_ready};
