//! What a worker is told about the machine under it: who announces its end, and when to end it.

use std::fmt;
use std::time::Duration;

use clap::Args;
use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};
use stoker_core::departure::DeadMan;
use stoker_core::ids::InstanceName;
use stoker_runtime::config::HumanDuration;

use crate::error::SettingsError;

/// Where EC2's instance metadata are. A link-local address, never a proxy's business.
const DEFAULT_IMDS: &str = "http://169.254.169.254";
const OFF: &str = "off";

/// Shorter, and a restart of the coordinator would end machines.
const LEAST_DEAD_MAN: Duration = Duration::from_secs(10);

/// The settings as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MachineConfig {
    /// Name that the cloud gave this machine [default: what the metadata service says, if there is one]
    #[arg(long, env = "STOKER_INSTANCE", value_name = "NAME")]
    pub instance: Option<InstanceName>,

    /// Instance metadata service that announces spot interruptions, or `off`
    /// [default: EC2's own; a machine without one is no error]
    #[arg(long, env = "STOKER_IMDS", value_name = "URL")]
    pub imds: Option<String>,

    /// What to do when the cloud recommends to leave the machine; it is reported in any case
    /// [default: carry-on]
    #[arg(long, env = "STOKER_ON_REBALANCE", value_enum, value_name = "WHAT")]
    pub on_rebalance: Option<OnRebalance>,

    /// Shut the machine down after this time of being idle and cut off from the coordinator
    /// [default: never]
    #[arg(long, env = "STOKER_DEAD_MAN_AFTER", value_name = "TIME")]
    pub dead_man_after: Option<HumanDuration>,

    /// Shell command that shuts the machine down, such as `systemctl poweroff`
    #[arg(long, env = "STOKER_DEAD_MAN_COMMAND", value_name = "COMMAND")]
    pub dead_man_command: Option<String>,
}

/// What follows from a rebalance recommendation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRebalance {
    /// Work as before; whoever scales the fleet decides
    #[default]
    CarryOn,
    /// Take no new work, and finish what runs
    Cordon,
    /// Finish or hand over what runs within the grace period, and exit
    Drain,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct MachineSettings {
    /// None: the metadata service is asked.
    pub instance: Option<InstanceName>,
    /// None: not asked.
    pub imds: Option<Uri>,
    pub on_rebalance: OnRebalance,
    pub dead_man: Option<DeadManSettings>,
}

/// The switch and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadManSettings {
    pub switch: DeadMan,
    /// For `/bin/sh -c`.
    pub command: String,
}

/// Why an address of a metadata service cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImdsAddress {
    Unreadable,
    NotHttp,
}

impl fmt::Display for ImdsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "is no URL",
            Self::NotHttp => "is no http:// URL with a host and without a path",
        })
    }
}

impl MachineConfig {
    /// The same with every default filled in, to be shown.
    #[must_use]
    pub(super) fn with_defaults(self) -> Self {
        Self {
            imds: Some(self.imds.unwrap_or_else(|| DEFAULT_IMDS.to_owned())),
            on_rebalance: Some(self.on_rebalance.unwrap_or_default()),
            ..self
        }
    }

    pub(super) fn check(self) -> Result<MachineSettings, SettingsError> {
        let imds = self.imds.as_deref().unwrap_or(DEFAULT_IMDS);
        Ok(MachineSettings {
            instance: self.instance,
            imds: if imds == OFF { None } else { Some(imds_address(imds)?) },
            on_rebalance: self.on_rebalance.unwrap_or_default(),
            dead_man: dead_man(self.dead_man_after, self.dead_man_command)?,
        })
    }
}

fn imds_address(text: &str) -> Result<Uri, SettingsError> {
    let refused = |problem| SettingsError::Imds { address: text.to_owned(), problem };
    let uri: Uri = text.parse().map_err(|_| refused(ImdsAddress::Unreadable))?;
    let plain = uri.scheme_str() == Some("http")
        && uri.host().is_some_and(|host| !host.is_empty())
        && matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("/"))
        && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if plain { Ok(uri) } else { Err(refused(ImdsAddress::NotHttp)) }
}

fn dead_man(
    after: Option<HumanDuration>,
    command: Option<String>,
) -> Result<Option<DeadManSettings>, SettingsError> {
    let command = command.filter(|command| !command.trim().is_empty());
    match (after, command) {
        (None, None) => Ok(None),
        (Some(after), Some(command)) if after.get() >= LEAST_DEAD_MAN => {
            Ok(Some(DeadManSettings { switch: DeadMan { after: after.get() }, command }))
        }
        (Some(_), Some(_)) => Err(SettingsError::DeadManTooSoon { least: LEAST_DEAD_MAN }),
        (Some(_), None) => Err(SettingsError::DeadManHalf { missing: "dead-man-command" }),
        (None, Some(_)) => Err(SettingsError::DeadManHalf { missing: "dead-man-after" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_imds(text: &str) -> Result<MachineSettings, SettingsError> {
        MachineConfig { imds: Some(text.to_owned()), ..MachineConfig::default() }.check()
    }

    #[test]
    fn the_metadata_service_is_ec2s_unless_it_is_another_or_off() {
        let settings = MachineConfig::default().check().unwrap();
        assert_eq!(settings.imds.unwrap().host(), Some("169.254.169.254"));
        assert_eq!((settings.on_rebalance, settings.dead_man), (OnRebalance::CarryOn, None));
        assert!(with_imds("off").unwrap().imds.is_none());
        for good in ["http://127.0.0.1:1338", "http://[fd00:ec2::254]/"] {
            assert!(with_imds(good).unwrap().imds.is_some(), "{good}");
        }
        for bad in ["", "127.0.0.1:80", "https://imds", "http://", "http://u:p@host", "http://h/x"]
        {
            let error = with_imds(bad).unwrap_err().to_string();
            assert!(error.contains("http://") || error.contains("URL"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_dead_mans_switch_needs_a_time_and_a_command() {
        let of = |after: Option<u64>, command: Option<&str>| {
            let config = MachineConfig {
                dead_man_after: after.map(|s| HumanDuration::new(Duration::from_secs(s))),
                dead_man_command: command.map(str::to_owned),
                ..MachineConfig::default()
            };
            config.check().map(|settings| settings.dead_man)
        };
        let set = of(Some(600), Some("poweroff")).unwrap().unwrap();
        assert_eq!(set.switch, DeadMan { after: Duration::from_mins(10) });
        assert!(of(Some(600), None).unwrap_err().to_string().contains("dead-man-command"));
        assert!(of(None, Some("poweroff")).unwrap_err().to_string().contains("dead-man-after"));
        assert!(of(Some(600), Some(" ")).unwrap_err().to_string().contains("dead-man-command"));
        assert!(of(Some(5), Some("poweroff")).unwrap_err().to_string().contains("at least"));
    }
}
