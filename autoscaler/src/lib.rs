//! The autoscaler's hands: what buys machines, lists them and gives them back.
//!
//! What should be bought is decided by `stoker_core::fleet`, and what follows from a refusal by
//! `stoker_core::cloud`. Here are the clouds themselves, all behind [`cloud::CloudProvider`].

pub mod cloud;
#[cfg(feature = "ec2")]
pub mod metrics;
