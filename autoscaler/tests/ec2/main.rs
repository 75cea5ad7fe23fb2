//! EC2 through its real SDK, against a moto server behind a proxy that adds what moto lacks.

mod calls;
mod quotas;
mod setup;
mod stage;

use stage::Stage;

stoker_autoscaler::cloud_contract!(async { Stage::set().await.expect("a cloud to test with") });
