//! Which machine this is: its name, and what its cloud has signed about it.

use std::fmt;

use stoker_core::identity::{MAX_DOCUMENT_BYTES, MAX_SIGNATURE_BYTES};
use stoker_core::ids::InstanceName;
use stoker_proto::v1::InstanceIdentity;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::Imds;

/// A machine of a cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub name: InstanceName,
    /// `None` as long as it is not known, and where the cloud signs nothing.
    pub identity: Option<SignedIdentity>,
}

/// What the cloud has signed about a machine. Whoever has it can say to be on that machine, so it shows itself to the
/// coordinator only.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedIdentity(InstanceIdentity);

impl SignedIdentity {
    /// `document` as it was signed, byte for byte, and its signature. `None` when one of them is longer than
    /// coordinators read.
    pub fn new(document: String, signature: String) -> Option<Self> {
        let fits = document.len() <= MAX_DOCUMENT_BYTES && signature.len() <= MAX_SIGNATURE_BYTES;
        fits.then_some(Self(InstanceIdentity { document, signature }))
    }

    /// For a registration.
    pub fn for_coordinator(&self) -> InstanceIdentity {
        self.0.clone()
    }
}

impl fmt::Debug for SignedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedIdentity(***)")
    }
}

/// Asks for both until they are known.
#[derive(Debug)]
pub(super) struct Naming {
    instance: watch::Sender<Option<Instance>>,
}

impl Naming {
    /// `given`: a name that need not be asked for.
    pub(super) fn new(given: Option<InstanceName>) -> (Self, watch::Receiver<Option<Instance>>) {
        let given = given.map(|name| Instance { name, identity: None });
        let (instance, known) = watch::channel(given);
        (Self { instance }, known)
    }

    /// Asks once for what is not known. `None` when there is nothing more to ask; else it is to be called again.
    /// Dropping the future does no harm.
    pub(super) async fn ask(self, imds: &mut Imds) -> Option<Self> {
        let known = self.instance.borrow().as_ref().map(|instance| instance.name.clone());
        let Some(name) = (match known {
            Some(name) => Some(name),
            None => ask_name(imds).await,
        }) else {
            return Some(self);
        };
        match imds.identity().await {
            Ok(identity) => {
                let identity =
                    identity.and_then(|(document, signature)| sized(document, signature));
                self.tell(Instance { name, identity });
                None
            }
            Err(error) => {
                debug!(%error, "the metadata service does not tell the identity of this machine; asking on");
                // The name is worth something without it.
                self.tell(Instance { name, identity: None });
                Some(self)
            }
        }
    }

    fn tell(&self, instance: Instance) {
        let proven = instance.identity.is_some();
        let name = instance.name.clone();
        let told = self.instance.send_if_modified(|known| {
            let differs = known.as_ref() != Some(&instance);
            *known = Some(instance);
            differs
        });
        if told {
            info!(instance = %name, proven, "the name of this machine is known");
        }
    }
}

/// The machine's name, if the service tells a usable one. Whoever scales the fleet takes a machine without a worker for
/// one that never came up.
async fn ask_name(imds: &mut Imds) -> Option<InstanceName> {
    let name = match imds.instance().await {
        Ok(Some(name)) => name,
        // A service that names no machine may do so later.
        Ok(None) => return None,
        Err(error) => {
            debug!(%error, "the metadata service does not tell the name of this machine; asking on");
            return None;
        }
    };
    match InstanceName::new(&name) {
        Ok(name) => Some(name),
        Err(error) => {
            debug!(%error, "the metadata service gives this machine no usable name");
            None
        }
    }
}

fn sized(document: String, signature: String) -> Option<SignedIdentity> {
    let bytes = (document.len(), signature.len());
    let identity = SignedIdentity::new(document, signature);
    if identity.is_none() {
        warn!(
            ?bytes,
            "the identity document of this machine is too large to be sent, and is left out"
        );
    }
    identity
}
