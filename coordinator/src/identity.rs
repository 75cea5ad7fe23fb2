//! Who may register as the worker of a machine of EC2: only whoever has what AWS has signed about that machine.
//!
//! Here the proof is read; what it has to say is decided by [`stoker_core::identity::admit`].

mod certificates;
mod signature;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use stoker_core::identity::{AccountId, Claims, Refusal, Rules, admit};
use stoker_core::ids::{InstanceName, RegionName};
use stoker_core::time::Timestamp;
use stoker_proto::v1;

pub use certificates::{Certificate, CertificateError, Certificates, Validity};
pub use signature::ProofError;

/// What workers have to prove.
#[derive(Debug, Clone)]
pub struct Identity {
    pub rules: Rules,
    pub certificates: Certificates,
}

/// Why a worker is not let in.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the identity document of `{named}` proves nothing")]
    Unproven { named: InstanceName, source: ProofError },
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl IdentityError {
    /// One word, for metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unproven { .. } => "bad-proof",
            Self::Refused(Refusal::Nameless) => "nameless",
            Self::Refused(Refusal::Unproven { .. }) => "no-proof",
            Self::Refused(Refusal::OtherInstance { .. }) => "other-instance",
            Self::Refused(Refusal::OtherAccount { .. }) => "other-account",
            Self::Refused(Refusal::OtherRegion { .. }) => "other-region",
        }
    }
}

impl Identity {
    /// Whether a worker that says it runs on `named` is let in.
    ///
    /// # Errors
    /// When it has to prove that and did not, or may not work for the fleet.
    pub fn check(
        &self,
        named: Option<&InstanceName>,
        presented: Option<&v1::InstanceIdentity>,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let proven = match (named, presented) {
            // Of whoever names no machine, nothing is believed.
            (None, _) | (_, None) => None,
            (Some(named), Some(presented)) => {
                let proven = self.prove(presented, now);
                let unproven = |source| IdentityError::Unproven { named: named.clone(), source };
                Some(proven.map_err(unproven)?)
            }
        };
        Ok(admit(&self.rules, named, proven.as_ref())?)
    }

    fn prove(
        &self,
        presented: &v1::InstanceIdentity,
        now: Timestamp,
    ) -> Result<Claims, ProofError> {
        let v1::InstanceIdentity { document, signature } = presented;
        signature::verify(&self.certificates, document, signature, now)?;
        claims(document)
    }
}

/// What of the document counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    account_id: AccountId,
    instance_id: InstanceName,
    region: RegionName,
}

/// What a document says whose signature is good.
fn claims(document: &str) -> Result<Claims, ProofError> {
    let document: Document = serde_json::from_str(document).map_err(ProofError::Document)?;
    let Document { account_id: account, instance_id: instance, region } = document;
    Ok(Claims { instance, account, region })
}
