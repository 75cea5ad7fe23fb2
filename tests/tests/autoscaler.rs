//! The autoscaler over real processes: with workers of this machine, and against a server that looks like EC2.

#[path = "autoscaler/local.rs"]
mod local;
#[path = "autoscaler/moto.rs"]
mod moto;
#[path = "autoscaler/stage.rs"]
mod stage;
#[path = "autoscaler/still.rs"]
mod still;
#[path = "autoscaler/tokens.rs"]
mod tokens;
