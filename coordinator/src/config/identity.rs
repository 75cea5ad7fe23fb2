//! The settings by which workers of EC2 have to prove their machine: none of them, or accounts and certificates.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use stoker_core::identity::{AccountId, Nameless, Rules};
use stoker_core::ids::RegionName;

use crate::identity::{CertificateError, Certificates, Identity};

/// The settings as written. Without them workers need not prove where they run.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct IdentitySettings {
    /// AWS accounts whose machines may work for the fleet: a worker that names its machine has to prove it with the
    /// machine's instance identity document [default: nothing is asked for]
    #[arg(
        id = "identity-accounts",
        long = "identity-accounts",
        env = "STOKER_IDENTITY_ACCOUNTS",
        value_name = "ACCOUNT",
        value_delimiter = ','
    )]
    pub accounts: Option<Vec<AccountId>>,

    /// Files with AWS's RSA-2048 certificates of the regions, in PEM; needed with the accounts
    #[arg(
        id = "identity-certificates",
        long = "identity-certificates",
        env = "STOKER_IDENTITY_CERTIFICATES",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub certificates: Option<Vec<PathBuf>>,

    /// AWS regions whose machines may work for the fleet [default: any]
    #[arg(
        id = "identity-regions",
        long = "identity-regions",
        env = "STOKER_IDENTITY_REGIONS",
        value_name = "REGION",
        value_delimiter = ','
    )]
    pub regions: Option<Vec<RegionName>>,

    /// What becomes of workers that name no machine, as those that run elsewhere than on EC2; with the accounts
    /// [default: admit]
    #[arg(
        id = "identity-nameless",
        long = "identity-nameless",
        env = "STOKER_IDENTITY_NAMELESS",
        value_enum,
        value_name = "WHAT"
    )]
    pub nameless: Option<NamelessChoice>,
}

/// See [`Nameless`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamelessChoice {
    /// Their join token is enough
    Admit,
    /// Every worker has to run on EC2, and prove it
    Refuse,
}

/// Why workers' machines cannot be checked as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum IdentitySettingsError {
    #[error(
        "{given} is given without --identity-accounts (STOKER_IDENTITY_ACCOUNTS): name the AWS accounts whose machines \
         may work for the fleet, or leave it out"
    )]
    NoAccounts { given: &'static str },
    #[error(
        "--identity-accounts is given without --identity-certificates (STOKER_IDENTITY_CERTIFICATES): name the files \
         with AWS's RSA-2048 certificates of the fleet's regions, which AWS's documentation of EC2 publishes"
    )]
    NoCertificates,
    #[error(transparent)]
    Certificates(#[from] CertificateError),
}

impl IdentitySettings {
    /// What is checked; `None`: nothing. Reads the certificates.
    ///
    /// # Errors
    /// When a part of the settings is missing, or a file cannot be used.
    pub fn check(self) -> Result<Option<Identity>, IdentitySettingsError> {
        let Self { accounts, certificates, regions, nameless } = self;
        let (accounts, files) = (accounts.unwrap_or_default(), certificates.unwrap_or_default());
        let regions = regions.unwrap_or_default();
        if accounts.is_empty() {
            // A part that is given was meant to do something.
            let without = |given| Err(IdentitySettingsError::NoAccounts { given });
            return match (files.as_slice(), regions.as_slice(), nameless) {
                ([], [], None) => Ok(None),
                ([_, ..], _, _) => without("--identity-certificates"),
                ([], [_, ..], _) => without("--identity-regions"),
                ([], [], Some(_)) => without("--identity-nameless"),
            };
        }
        if files.is_empty() {
            return Err(IdentitySettingsError::NoCertificates);
        }
        let nameless = match nameless {
            None | Some(NamelessChoice::Admit) => Nameless::Admit,
            Some(NamelessChoice::Refuse) => Nameless::Refuse,
        };
        let (accounts, regions) = (accounts.into_iter().collect(), regions.into_iter().collect());
        let rules = Rules { accounts, regions, nameless };
        Ok(Some(Identity { rules, certificates: Certificates::load(&files)? }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use stoker_runtime::config::parse_toml;

    use super::*;

    const TRUSTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/identity/trusted.pem");
    const OTHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/identity/other.pem");

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        settings: IdentitySettings,
    }

    fn flags(arguments: &[&str]) -> Result<Option<Identity>, String> {
        let arguments = std::iter::once("test").chain(arguments.iter().copied());
        let command = Command::try_parse_from(arguments).map_err(|error| error.to_string())?;
        command.settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_asked_for_unless_accounts_are_named() {
        assert!(flags(&[]).unwrap().is_none());
        for (flag, value) in [
            ("--identity-certificates", TRUSTED),
            ("--identity-regions", "us-east-1"),
            ("--identity-nameless", "refuse"),
        ] {
            let error = flags(&[flag, value]).unwrap_err();
            assert!(error.contains(flag) && error.contains("STOKER_IDENTITY_ACCOUNTS"), "{error}");
        }
        let error = flags(&["--identity-accounts", "123456789012"]).unwrap_err();
        assert!(error.contains("--identity-certificates"), "{error}");
    }

    #[test]
    fn accounts_regions_and_files_are_lists() {
        let files = format!("{TRUSTED},{OTHER}");
        let identity = flags(&[
            "--identity-accounts=123456789012,000000000001",
            "--identity-regions=us-east-1,us-west-2",
            "--identity-nameless=refuse",
            "--identity-certificates",
            &files,
        ]);
        let Identity { rules, certificates } = identity.unwrap().unwrap();
        assert_eq!((rules.accounts.len(), rules.regions.len()), (2, 2));
        assert_eq!(rules.nameless, Nameless::Refuse);
        assert_eq!(certificates.iter().count(), 2);
        let error = flags(&["--identity-accounts", "12345"]).unwrap_err();
        assert!(error.contains("twelve digits"), "{error}");
    }

    #[test]
    fn the_file_of_settings_has_them_as_a_table() {
        let text = format!("accounts = ['123456789012']\ncertificates = ['{TRUSTED}']");
        let settings: IdentitySettings = parse_toml(&text, "test").unwrap();
        let identity = settings.check().unwrap().unwrap();
        assert_eq!((identity.rules.regions.len(), identity.rules.nameless), (0, Nameless::Admit));
        // A number would have lost its leading zeros.
        let error =
            parse_toml::<IdentitySettings>("accounts = [123456789012]", "test").unwrap_err();
        assert!(error.to_string().contains("accounts"), "{error}");
    }
}
