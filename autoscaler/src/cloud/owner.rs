//! Whose a machine is: the tags that every machine of a fleet carries from its launch on.
//!
//! They are written by the launching call itself, so that there is no moment in which a machine runs and nobody
//! knows whose it is. Rights in the cloud are bound to the first two of them.

use std::collections::BTreeMap;

use stoker_core::ids::{FleetName, PoolName};

use super::token::LaunchToken;

/// The fleet that a machine belongs to. Coordinator and broker have it as well.
pub const FLEET: &str = "stoker:fleet";
/// The pool that it was launched for. Only workers have one: what has none is not the autoscaler's to list or end.
pub const POOL: &str = "stoker:pool";
/// The launch that it came from.
pub const LAUNCH: &str = "stoker:launch";

/// What all of ours begin with; a request may not set such a tag itself.
pub const PREFIX: &str = "stoker:";

/// The tags of a machine of this fleet, pool and launch, with more of the request's own.
pub fn tags(
    fleet: &FleetName,
    pool: &PoolName,
    token: &LaunchToken,
    more: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let ours = [(FLEET, fleet.as_str()), (POOL, pool.as_str()), (LAUNCH, token.as_str())];
    let ours = ours.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    more.iter().map(|(key, value)| (key.clone(), value.clone())).chain(ours).collect()
}

/// The pool of a machine with these tags; `None` if they name none, or something that is no pool's name.
pub fn pool(tags: &BTreeMap<String, String>) -> Option<PoolName> {
    tags.get(POOL).and_then(|name| PoolName::new(name).ok())
}

/// The launch of a machine with these tags.
pub fn token(tags: &BTreeMap<String, String>) -> Option<LaunchToken> {
    tags.get(LAUNCH).and_then(|text| LaunchToken::new(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_cannot_be_forged_by_a_request() {
        let (fleet, pool_name) = (FleetName::new("f").unwrap(), PoolName::new("p").unwrap());
        let launch = LaunchToken::new("t-1").unwrap();
        let more = [(FLEET, "other"), ("team", "search")];
        let more = more.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let tags = tags(&fleet, &pool_name, &launch, &more);
        assert_eq!(tags[FLEET], "f");
        assert_eq!(tags["team"], "search");
        assert_eq!((pool(&tags), token(&tags)), (Some(pool_name), Some(launch)));
    }

    #[test]
    fn tags_of_somebody_else_name_nothing() {
        let tags = [(POOL, "Not A Pool"), (LAUNCH, "")];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!((pool(&tags), token(&tags)), (None, None));
    }
}
