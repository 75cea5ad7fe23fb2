//! The seam to a cloud: what it promises whoever buys machines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::Quota;
use stoker_core::ids::{InstanceName, RegionName};
use stoker_core::time::Timestamp;

use super::error::CloudError;
use super::machine::Machine;
use super::market::{MachineType, SpotPrice};
use super::request::{Launch, Launched};

/// How long a cloud knows a launch token at the least, after the last of its machines ended.
pub const TOKEN_LIFE: Duration = Duration::from_hours(1);

/// What became of the order to end a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminated {
    /// It is on its way out, or gone.
    Accepted,
    /// The cloud knows no such machine. One that was launched a moment ago may be there all the same: see
    /// [`CloudProvider::list`].
    NotFound,
}

/// Where the machines of one fleet come from.
///
/// Calls are bounded in time by the implementation, and may be dropped; a launch or an end that was under way then has
/// an outcome that is not known. A call never waits for more than one region. An implementation repeats calls within
/// its own budget only where nothing was done ([`Transient`] and [`Throttle`]), so what it returns is to be acted upon
/// by `stoker_core::cloud::reaction`.
///
/// [`Transient`]: super::error::ErrorClass::Transient
/// [`Throttle`]: super::error::ErrorClass::Throttle
#[async_trait]
pub trait CloudProvider: Send + Sync + std::fmt::Debug {
    /// The regions that can be asked. Never empty.
    fn regions(&self) -> BTreeSet<RegionName>;

    /// The region of a zone of a fleet file; `None` if it is in none of [`regions`](Self::regions).
    fn region_of(&self, zone: &str) -> Option<RegionName>;

    /// Launches machines with the owner's tags on them.
    ///
    /// The same launch under the same token launches nothing more and answers the machines of the first time, for at
    /// least [`TOKEN_LIFE`]. Another launch under that token is refused as invalid.
    ///
    /// An answer may have fewer machines than were asked for, even none, with the reasons in its refusals.
    ///
    /// # Errors
    /// When none of it was done, or, if the class is `Unknown`, all of it may have been. Machines that were launched
    /// then carry the token in their tags.
    async fn launch(&self, launch: &Launch) -> Result<Launched, CloudError>;

    /// Asks for what a launch asks for, and launches nothing: whether it may be asked for. Whether there is capacity stays
    /// open, and so do rights that the cloud looks at only while it launches.
    ///
    /// # Errors
    /// Why it would be refused. Never of the class `Unknown`.
    async fn rehearse(&self, launch: &Launch) -> Result<(), CloudError>;

    /// The machines in a region that carry the fleet's tag, ended ones for a while.
    ///
    /// A machine that was launched may be missing for some minutes, so that a missing machine is no proof that there
    /// is none. One that is there was launched.
    ///
    /// # Errors
    /// Never of the class `Unknown`. A list is whole or an error.
    async fn list(&self, region: &RegionName) -> Result<Vec<Machine>, CloudError>;

    /// Ends machines at once. Has an answer for each name, and one that cannot be ended keeps no other from it.
    /// Ending what has ended is accepted, as long as the cloud shows it.
    ///
    /// # Errors
    /// For each name; the class `Unknown` means that the machine may be on its way out.
    async fn terminate(
        &self,
        region: &RegionName,
        names: &BTreeSet<InstanceName>,
    ) -> BTreeMap<InstanceName, Result<Terminated, CloudError>>;

    /// The spot prices of these types since a time, that in force at it included where the cloud knows it. In no
    /// order; see [`latest_prices`](super::latest_prices).
    ///
    /// # Errors
    /// Never of the class `Unknown`.
    async fn prices(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
        since: Timestamp,
    ) -> Result<Vec<SpotPrice>, CloudError>;

    /// What machines of these types are. A type that the region does not have is missing.
    ///
    /// # Errors
    /// Never of the class `Unknown`.
    async fn types(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, MachineType>, CloudError>;

    /// How much of these types the account may have in a region. One of which nothing is known to bound it is in none of
    /// them.
    ///
    /// # Errors
    /// Never of the class `Unknown`.
    async fn quotas(
        &self,
        region: &RegionName,
        types: &BTreeSet<(String, CapacityType)>,
    ) -> Result<Vec<Quota>, CloudError>;

    /// What is wrong with what machines of a region are launched from: sentences that say what to do, and none where
    /// nothing is known to be wrong. Whether a launch would bring a machine is only known once it has.
    ///
    /// # Errors
    /// Never of the class `Unknown`.
    async fn setup_problems(&self, region: &RegionName) -> Result<Vec<String>, CloudError>;
}
