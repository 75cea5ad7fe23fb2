//! Whether a worker may say that it runs on a machine of EC2: what AWS signed about the machine, against the rules.
//!
//! Who signed, and whether the signature is good, is not here: [`Claims`] are made by whoever has checked that.
//! The document of a machine is the same for the machine's whole life, and does not expire. So it proves that somebody
//! has been on that machine, not that they are there now; and it proves no other machine.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceName, RegionName};

/// Largest identity document that is sent or read; real ones have about 500 bytes.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 10;

/// Largest text of its signature that is sent or read; real ones have about 1500 bytes.
pub const MAX_SIGNATURE_BYTES: usize = 8 << 10;

/// Certificates that are about to expire are told of so long before.
pub const EXPIRES_SOON: Duration = Duration::from_hours(30 * 24);

/// An account of AWS: twelve digits, of which the first may be zeros.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(Box<str>);

/// A text that is no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no AWS account: expected twelve digits in quotes, such as \"123456789012\"", text.escape_debug())]
pub struct ParseAccountError {
    text: String,
}

impl AccountId {
    const DIGITS: usize = 12;

    /// # Errors
    /// When `text` is not twelve digits.
    pub fn new(text: &str) -> Result<Self, ParseAccountError> {
        if text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.into()))
        } else {
            Err(ParseAccountError { text: text.chars().take(2 * Self::DIGITS).collect() })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AccountId {
    type Err = ParseAccountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for AccountId {
    type Error = ParseAccountError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<AccountId> for String {
    fn from(account: AccountId) -> Self {
        account.0.into()
    }
}

/// What AWS says about a machine, its signature checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub instance: InstanceName,
    pub account: AccountId,
    pub region: RegionName,
}

/// What becomes of workers that name no machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nameless {
    /// They run elsewhere than on EC2, and their join token is enough.
    #[default]
    Admit,
    /// Every worker of the fleet runs on EC2.
    Refuse,
}

/// Whose machines may work for the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Never empty.
    pub accounts: BTreeSet<AccountId>,
    /// Empty: any region.
    pub regions: BTreeSet<RegionName>,
    pub nameless: Nameless,
}

/// Why a worker is not let in. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the worker names no machine, and this fleet takes workers of EC2 only: leave its --imds as it is, so that \
         the metadata service tells the name, or set --identity-nameless=admit at the coordinator"
    )]
    Nameless,
    #[error(
        "the worker says that it runs on `{named}` and proves it with nothing: leave its --imds as it is, so that \
         it can read the instance identity document of the metadata service; where a name is given by hand \
         (--instance) there may be no such document"
    )]
    Unproven { named: InstanceName },
    #[error(
        "the worker says that it runs on `{named}`, and its identity document is of `{proven}`: leave --instance \
         (STOKER_INSTANCE) out, so that the metadata service tells the name"
    )]
    OtherInstance { named: InstanceName, proven: InstanceName },
    #[error(
        "the machine `{instance}` belongs to the AWS account {account}, which is none of this fleet's: add it to \
         --identity-accounts at the coordinator if it should be"
    )]
    OtherAccount { instance: InstanceName, account: AccountId },
    #[error(
        "the machine `{instance}` is in the region {region}, which is none of this fleet's: add it to \
         --identity-regions at the coordinator if it should be"
    )]
    OtherRegion { instance: InstanceName, region: RegionName },
}

/// Whether a worker that says it runs on `named` is let in with what was proven.
///
/// # Errors
/// The first rule that is broken.
pub fn admit(
    rules: &Rules,
    named: Option<&InstanceName>,
    proven: Option<&Claims>,
) -> Result<(), Refusal> {
    let named = match (named, rules.nameless) {
        (Some(named), _) => named,
        (None, Nameless::Admit) => return Ok(()),
        (None, Nameless::Refuse) => return Err(Refusal::Nameless),
    };
    let Some(Claims { instance, account, region }) = proven else {
        return Err(Refusal::Unproven { named: named.clone() });
    };
    if instance != named {
        return Err(Refusal::OtherInstance { named: named.clone(), proven: instance.clone() });
    }
    let instance = instance.clone();
    if !rules.accounts.contains(account) {
        return Err(Refusal::OtherAccount { instance, account: account.clone() });
    }
    if !rules.regions.is_empty() && !rules.regions.contains(region) {
        return Err(Refusal::OtherRegion { instance, region: region.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: &str = "012345678901";

    fn instance(name: &str) -> InstanceName {
        InstanceName::new(name).unwrap()
    }

    fn claims(name: &str, account: &str, region: &str) -> Claims {
        Claims {
            instance: instance(name),
            account: AccountId::new(account).unwrap(),
            region: RegionName::new(region).unwrap(),
        }
    }

    fn rules(regions: &[&str], nameless: Nameless) -> Rules {
        Rules {
            accounts: [AccountId::new(OURS).unwrap()].into(),
            regions: regions.iter().map(|name| RegionName::new(name).unwrap()).collect(),
            nameless,
        }
    }

    #[test]
    fn an_account_is_twelve_digits() {
        assert_eq!(AccountId::new(OURS).unwrap().to_string(), OURS);
        for bad in ["", "12345678901", "1234567890123", "12345678901x", "１２３４"] {
            let error = AccountId::new(bad).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("twelve digits"), "{error}");
        }
        let error = AccountId::new(&"\u{1b}".repeat(1000)).unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_machine_of_the_account_is_let_in_in_any_region_unless_some_are_named() {
        let named = instance("i-1");
        let proven = claims("i-1", OURS, "us-east-1");
        for regions in [&[][..], &["us-east-1"], &["eu-west-1", "us-east-1"]] {
            let rules = rules(regions, Nameless::Admit);
            assert_eq!(admit(&rules, Some(&named), Some(&proven)), Ok(()));
        }
    }

    #[test]
    fn each_broken_rule_has_its_refusal_which_names_what_was_wrong() {
        let rules = rules(&["us-east-1"], Nameless::Admit);
        let named = instance("i-1");
        let cases = [
            (None, "`i-1` and proves it with nothing"),
            (Some(claims("i-2", OURS, "us-east-1")), "is of `i-2`"),
            (Some(claims("i-1", "999999999999", "us-east-1")), "account 999999999999"),
            (Some(claims("i-1", OURS, "us-west-2")), "region us-west-2"),
        ];
        for (proven, said) in cases {
            let refusal = admit(&rules, Some(&named), proven.as_ref()).unwrap_err().to_string();
            assert!(refusal.contains(said) && refusal.contains("--"), "{refusal}");
        }
    }

    #[test]
    fn a_worker_that_names_no_machine_is_let_in_unless_the_rules_say_otherwise() {
        assert_eq!(admit(&rules(&[], Nameless::Admit), None, None), Ok(()));
        let proven = claims("i-1", OURS, "us-east-1");
        let strict = rules(&[], Nameless::Refuse);
        assert_eq!(admit(&strict, None, Some(&proven)), Err(Refusal::Nameless));
        assert_eq!(admit(&strict, Some(&instance("i-1")), Some(&proven)), Ok(()));
    }

    proptest! {
        /// Whoever names a machine is let in only with a proof for that very machine, of our account.
        #[test]
        fn nobody_is_let_in_under_a_name_that_is_not_proven(
            named in "i-[0-2]",
            proven in proptest::option::of(("i-[0-2]", "[01]{12}", "r[0-1]")),
            regions in proptest::collection::btree_set("r[0-1]", 0..3),
            refuses in any::<bool>(),
        ) {
            let named = instance(&named);
            let proven = proven.map(|(name, account, region)| claims(&name, &account, &region));
            let rules = Rules {
                accounts: [AccountId::new("000000000000").unwrap(), AccountId::new("111111111111").unwrap()].into(),
                regions: regions.iter().map(|name| RegionName::new(name).unwrap()).collect(),
                nameless: if refuses { Nameless::Refuse } else { Nameless::Admit },
            };
            let admitted = admit(&rules, Some(&named), proven.as_ref()).is_ok();
            let right = proven.is_some_and(|claims| {
                claims.instance == named
                    && rules.accounts.contains(&claims.account)
                    && (rules.regions.is_empty() || rules.regions.contains(&claims.region))
            });
            prop_assert_eq!(admitted, right);
        }
    }
}
