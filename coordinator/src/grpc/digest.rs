//! A token as a coordinator keeps it: not the token itself.

use sha2::{Digest as _, Sha256};
use stoker_runtime::secret::Secret;
use subtle::ConstantTimeEq as _;

/// What tokens of calls are compared with. Digests are of one length, so that the time of a comparison tells nothing
/// of the token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(crate) fn of(token: &Secret) -> Self {
        Self(digest(token.expose()))
    }

    /// Whether `token` is the one, in a time that does not depend on how much of it is right.
    pub(super) fn is(&self, token: &str) -> bool {
        digest(token).ct_eq(&self.0).into()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
