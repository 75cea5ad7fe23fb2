//! What unit tests of several files need.

use stoker_core::fleet::{Fleet, FleetSpec};
use stoker_runtime::config::parse_toml;

/// A fleet with two models and two classes, and `more` at the end of its file.
pub(crate) fn fleet(more: &str) -> Fleet {
    let text = format!(
        "fleet = 'test'\ndefault-class = 'standard'\n\
         [classes.standard]\nmax-wait = '60s'\n[classes.bulk]\nmax-wait = '1h'\n\
         [models.mini]\ntask = 'text-embedding'\nsource = 'file:/models/mini'\n\
         [models.echo]\ntask = 'echo'\n\
         [pools.default]\nmodels = ['mini', 'echo']\n{more}"
    );
    let spec: FleetSpec = parse_toml(&text, "test").expect("the test's fleet is valid TOML");
    spec.check().expect("the test's fleet is consistent")
}
