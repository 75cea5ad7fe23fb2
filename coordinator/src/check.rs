//! What `stoker-coordinator check` says of settings that can be used, and of what in them does not last.

use std::fmt;

use stoker_core::identity::{AccountId, Nameless};
use stoker_core::ids::RegionName;
use stoker_core::time::Timestamp;

use crate::config::{BrokerChoice, Config};
use crate::identity::{Certificate, Identity, Validity};

/// The settings in words, a line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub lines: Vec<String>,
    /// False when workers would be refused that should not be.
    pub good: bool,
}

impl Report {
    /// What there is to say as of now.
    pub fn of(config: &Config, now: Timestamp) -> Self {
        let broker = match &config.broker {
            BrokerChoice::Embedded => "embedded".to_owned(),
            BrokerChoice::RabbitMq(uri) => uri.to_string(),
        };
        let token = if config.join_token.is_some() { "a join token" } else { "no join token" };
        let mut lines = vec![
            format!("fleet `{}`, store {}, broker {broker}", config.fleet.name, config.store),
            format!("workers need {token}"),
            changes(config).to_owned(),
        ];
        let mut good = true;
        match &config.identity {
            None => lines.push("workers need not prove on which machine they run".to_owned()),
            Some(identity) => {
                lines.push(rules(identity));
                for certificate in identity.certificates.iter() {
                    lines.push(validity(certificate, now));
                    good &= certificate.is_good(now);
                }
            }
        }
        Self { lines, good }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Tells the log of certificates that are not good, or not for long.
pub(crate) fn warn_of_certificates(identity: &Identity, now: Timestamp) {
    for certificate in identity.certificates.iter() {
        match certificate.validity(now) {
            Validity::Good => {}
            Validity::NotYet | Validity::ExpiresSoon | Validity::Expired => {
                tracing::warn!(
                    certificate = validity(certificate, now),
                    "a certificate is not good, or not for long"
                );
            }
        }
    }
}

/// Who may change the fleet.
pub(crate) const fn changes(config: &Config) -> &'static str {
    match (&config.operator_token, &config.autoscaler_token) {
        (None, None) => "whoever reaches the port may change the fleet: there is no operator token",
        (Some(_), None) => {
            "operators need their token; there is none for autoscalers, so none can lead"
        }
        (None, Some(_)) => {
            "autoscalers need their token; there is none for operators, so none can change anything"
        }
        (Some(_), Some(_)) => "operators and autoscalers need their tokens",
    }
}

fn rules(identity: &Identity) -> String {
    let rules = &identity.rules;
    let accounts: Vec<&str> = rules.accounts.iter().map(AccountId::as_str).collect();
    let regions: Vec<&str> = rules.regions.iter().map(RegionName::as_str).collect();
    let regions = if regions.is_empty() { "any region".to_owned() } else { regions.join(", ") };
    let nameless = match rules.nameless {
        Nameless::Admit => "workers that name no machine are let in",
        Nameless::Refuse => "workers that name no machine are refused",
    };
    format!(
        "machines have to be of the AWS accounts {} in {regions}; {nameless}",
        accounts.join(", ")
    )
}

fn validity(certificate: &Certificate, now: Timestamp) -> String {
    const REMEDY: &str =
        "what it signs is refused: put AWS's present certificate of the region there";
    let (serial, file) = (certificate.serial(), certificate.file.display());
    let about = format!("certificate {serial} in {file}");
    let (from, until) = (certificate.not_before.date(), certificate.not_after.date());
    match certificate.validity(now) {
        Validity::NotYet => format!("{about} is not good before {from}, and {REMEDY}"),
        Validity::Good => format!("{about} is good until {until}"),
        Validity::ExpiresSoon => {
            format!("{about} is good until {until} only: put AWS's next certificate beside it")
        }
        Validity::Expired => format!("{about} has expired on {until}, and {REMEDY}"),
    }
}
