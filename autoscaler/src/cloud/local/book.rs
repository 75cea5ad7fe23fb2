//! What a local cloud has launched, in memory and in files: a file for each machine and each launch.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stoker_core::fleet::{CapacityType, Offering};
use stoker_core::ids::{InstanceName, OfferingName};
use stoker_core::time::Timestamp;
use stoker_runtime::fs::{FsError, write_atomically};
use tracing::warn;

use super::process::ProcessId;
use crate::cloud::error::{CloudError, ErrorClass, Verb};
use crate::cloud::machine::{Machine, MachineState};
use crate::cloud::provider::TOKEN_LIFE;
use crate::cloud::request::{Launch, Launched, Refusal};
use crate::cloud::stock::{self, Shelf};
use crate::cloud::token::LaunchToken;

/// How long ended machines are shown, and launches known.
const SHOWN: Duration = TOKEN_LIFE;

const MACHINES: &str = "machines";
const LAUNCHES: &str = "launches";

/// A local cloud that cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("cannot use the folder {}", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot keep what was launched")]
    Write(#[from] FsError),
    #[error("the process is ending")]
    Ended,
}

/// Everything that was launched; used off the async runtime, as it writes files.
#[derive(Debug)]
pub(super) struct Book {
    pages: Mutex<Pages>,
}

#[derive(Debug)]
pub(super) struct Pages {
    folder: PathBuf,
    machines: BTreeMap<InstanceName, Record>,
    launches: BTreeMap<LaunchToken, LaunchRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    machine: Machine,
    offering: OfferingName,
    /// Its worker, once that has been started.
    process: Option<ProcessId>,
    ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LaunchRecord {
    token: LaunchToken,
    at: Timestamp,
    /// What was asked for, to know another launch under the same token.
    asked: String,
    machines: Vec<InstanceName>,
    refusals: Vec<Refusal>,
}

impl From<LocalError> for CloudError {
    /// Of a launch: files are written before anything is started.
    fn from(error: LocalError) -> Self {
        Self::new(ErrorClass::Transient, Verb::Launch, stoker_runtime::error::chain(&error))
    }
}

impl Book {
    /// Reads the folder, and gives the machines of an earlier life whose workers are still there.
    pub(super) fn open(
        folder: &Path,
        now: Timestamp,
    ) -> Result<(Self, Vec<(InstanceName, ProcessId)>), LocalError> {
        for part in [MACHINES, LAUNCHES, super::life::LOGS, super::life::SPOOLS] {
            fs::create_dir_all(folder.join(part))
                .map_err(|source| LocalError::Folder { path: folder.join(part), source })?;
        }
        let machines: Vec<Record> = read_all(&folder.join(MACHINES))?;
        let launches: Vec<LaunchRecord> = read_all(&folder.join(LAUNCHES))?;
        let mut pages = Pages {
            folder: folder.to_owned(),
            machines: machines.into_iter().map(|it| (it.machine.name.clone(), it)).collect(),
            launches: launches.into_iter().map(|it| (it.token.clone(), it)).collect(),
        };
        let open: Vec<InstanceName> = pages
            .machines
            .values()
            .filter(|record| record.ended_at.is_none())
            .map(|record| record.machine.name.clone())
            .collect();
        let mut left = Vec::new();
        for name in open {
            let process = pages.machines.get(&name).and_then(|record| record.process);
            match process.filter(|process| process.lives()) {
                Some(process) => {
                    pages.stopping(&name);
                    left.push((name, process));
                }
                None => pages.ended(&name, now),
            }
        }
        Ok((Self { pages: Mutex::new(pages) }, left))
    }

    /// Runs on a thread that may wait for the disk.
    pub(super) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Pages) -> T + Send + 'static,
    ) -> Result<T, LocalError> {
        let book = Arc::clone(self);
        let acted = tokio::task::spawn_blocking(move || {
            act(&mut book.pages.lock().unwrap_or_else(PoisonError::into_inner))
        });
        acted.await.map_err(|_| LocalError::Ended)
    }
}

impl Pages {
    /// Makes a launch and whether it is new, or repeats the answer that was given under its token.
    pub(super) fn launch(
        &mut self,
        launch: &Launch,
        stock: &BTreeMap<OfferingName, (Offering, u32)>,
        tags: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(Launched, bool), CloudError> {
        self.forget(now);
        let asked = asked(launch);
        if let Some(first) = self.launches.get(&launch.token) {
            if first.asked != asked {
                let message = "another launch was made under this token";
                return Err(CloudError::new(ErrorClass::Invalid, Verb::Launch, message));
            }
            let machines = first.machines.iter().filter_map(|name| self.machines.get(name));
            let machines = machines.map(|record| record.machine.clone()).collect();
            return Ok((Launched { machines, refusals: first.refusals.clone() }, false));
        }
        let none = BTreeMap::new();
        let on_sale = Shelf { stock, taken: self.taken(), quotas: &none };
        let (taken, refusals) = stock::take(on_sale, launch);
        let made: Vec<Record> =
            taken.iter().filter_map(|name| record(name, stock, tags, now)).collect();
        let machines: Vec<Machine> = made.iter().map(|record| record.machine.clone()).collect();
        let names = machines.iter().map(|machine| machine.name.clone()).collect();
        let page = LaunchRecord {
            token: launch.token.clone(),
            at: now,
            asked,
            machines: names,
            refusals: refusals.clone(),
        };
        // Machines first: what is written and never started is known as ended after a crash in between.
        for record in &made {
            self.write(record)?;
        }
        let path = self.folder.join(LAUNCHES).join(format!("{}.json", launch.token));
        write_json(&path, &page)?;
        self.launches.insert(launch.token.clone(), page);
        self.machines.extend(made.into_iter().map(|it| (it.machine.name.clone(), it)));
        Ok((Launched { machines, refusals }, true))
    }

    pub(super) fn list(&mut self, now: Timestamp) -> Vec<Machine> {
        self.forget(now);
        self.machines.values().map(|record| record.machine.clone()).collect()
    }

    /// A worker has been started.
    pub(super) fn started(&mut self, name: &InstanceName, process: Option<ProcessId>) {
        self.change(name, |record| {
            record.process = process;
            if record.machine.state == MachineState::Pending {
                record.machine.state = MachineState::Running;
            }
        });
    }

    /// A machine is on its way out, unless it is gone already; false if there is none.
    pub(super) fn stopping(&mut self, name: &InstanceName) -> bool {
        self.change(name, |record| {
            if record.machine.state.is_up() {
                record.machine.state = MachineState::Stopping;
            }
        })
    }

    /// The cloud takes a machine back.
    pub(super) fn taken_back(&mut self, name: &InstanceName) {
        self.change(name, |record| record.machine.taken_back = true);
    }

    pub(super) fn ended(&mut self, name: &InstanceName, now: Timestamp) {
        self.change(name, |record| {
            record.machine.state = MachineState::Terminated;
            record.ended_at.get_or_insert(now);
        });
    }

    fn change(&mut self, name: &InstanceName, change: impl FnOnce(&mut Record)) -> bool {
        let Some(record) = self.machines.get_mut(name) else { return false };
        change(record);
        let record = record.clone();
        if let Err(error) = self.write(&record) {
            // What counts is in memory; after a crash the process is found all the same, or is gone.
            warn!(%error, %name, "cannot keep the state of a local machine");
        }
        true
    }

    fn write(&self, record: &Record) -> Result<(), LocalError> {
        let name = format!("{}.json", record.machine.name);
        write_json(&self.folder.join(MACHINES).join(name), record)
    }

    fn taken(&self) -> BTreeMap<OfferingName, u32> {
        let mut taken = BTreeMap::new();
        for record in self.machines.values().filter(|record| record.machine.state.is_live()) {
            *taken.entry(record.offering.clone()).or_default() += 1;
        }
        taken
    }

    /// Drops machines that ended long ago, and then launches without machines.
    fn forget(&mut self, now: Timestamp) {
        let folder = &self.folder;
        self.machines.retain(|name, record| {
            let kept = record.ended_at.is_none_or(|ended| now.since(ended) < SHOWN);
            if !kept {
                remove(&folder.join(MACHINES).join(format!("{name}.json")));
            }
            kept
        });
        let machines = &self.machines;
        self.launches.retain(|token, launch| {
            let kept = now.since(launch.at) < SHOWN
                || launch.machines.iter().any(|name| machines.contains_key(name));
            if !kept {
                remove(&folder.join(LAUNCHES).join(format!("{token}.json")));
            }
            kept
        });
    }
}

fn record(
    name: &OfferingName,
    stock: &BTreeMap<OfferingName, (Offering, u32)>,
    tags: &BTreeMap<String, String>,
    now: Timestamp,
) -> Option<Record> {
    let (offering, _) = stock.get(name)?;
    let id = stoker_runtime::ids::event_id().as_uuid().simple().to_string();
    let machine = Machine {
        name: InstanceName::new(&format!("local-{}", id.get(..12)?)).ok()?,
        instance_type: offering.instance_type.clone(),
        zone: offering.zone.clone(),
        capacity: offering.capacity,
        state: MachineState::Pending,
        launched_at: now,
        taken_back: false,
        tags: tags.clone(),
        price: Some(offering.price),
    };
    Some(Record { machine, offering: name.clone(), process: None, ended_at: None })
}

/// What tells one launch from another.
fn asked(launch: &Launch) -> String {
    let offerings: Vec<&str> = launch.offerings.keys().map(OfferingName::as_str).collect();
    let capacity =
        launch.offerings.values().next().map_or("", |o| CapacityType::as_str(o.capacity));
    format!("{} {} {capacity} {offerings:?} {:?}", launch.pool, launch.count, launch.tags)
}

/// Every file of a folder; one that cannot be read is nobody's.
fn read_all<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>, LocalError> {
    let failed = |source| LocalError::Folder { path: folder.to_owned(), source };
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension() != Some("json".as_ref()) {
            continue;
        }
        let text = fs::read(&path).map_err(failed)?;
        match serde_json::from_slice(&text) {
            Ok(read) => all.push(read),
            Err(error) => {
                warn!(%error, path = %path.display(), "a file of the local cloud is ignored");
            }
        }
    }
    Ok(all)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LocalError> {
    let text = serde_json::to_vec_pretty(value).expect("records have names as keys");
    Ok(write_atomically(path, &text)?)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(%error, path = %path.display(), "cannot remove a file of the local cloud");
    }
}
