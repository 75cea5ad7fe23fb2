//! Whose call it is.

use stoker_core::fleet::Fleet;
use stoker_core::ids::TenantName;
use stoker_proto::status;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Metadata key that names the tenant.
pub(super) const TENANT_KEY: &str = "stoker-tenant";

/// Tenant of a call that names none, if the fleet has several.
const DEFAULT_TENANT: &str = "default";

/// The tenant of a call. Without the key it is the fleet's only tenant, or `default`.
///
/// There are no credentials yet: the name is believed, which is why a coordinator that listens
/// beyond this machine has to be started with `--insecure`.
pub(super) fn tenant(metadata: &MetadataMap, fleet: &Fleet) -> Result<TenantName, Status> {
    let Some(value) = metadata.get(TENANT_KEY) else { return default(fleet) };
    let text = value.to_str().unwrap_or("(not text)");
    let known = fleet.tenants.get_key_value(text).map(|(name, _)| name.clone());
    known.ok_or_else(|| {
        status::unknown_tenant(
            text,
            "correct the name in the metadata `stoker-tenant`, or add it under [tenants] in the \
             coordinator's fleet.toml",
        )
    })
}

fn default(fleet: &Fleet) -> Result<TenantName, Status> {
    let mut tenants = fleet.tenants.keys();
    if let (Some(only), None) = (tenants.next(), tenants.next()) {
        return Ok(only.clone());
    }
    let known = fleet.tenants.get_key_value(DEFAULT_TENANT).map(|(name, _)| name.clone());
    known.ok_or_else(|| {
        status::unknown_tenant(
            DEFAULT_TENANT,
            "the call names no tenant and this fleet has several: send its name in the metadata \
             `stoker-tenant`",
        )
    })
}

#[cfg(test)]
mod tests {
    use stoker_proto::status::{Reason, explain};
    use tonic::Code;

    use super::*;
    use crate::testing::fleet;

    fn ask(tenants: &str, header: Option<&str>) -> Result<String, Status> {
        let mut metadata = MetadataMap::new();
        if let Some(name) = header {
            metadata.insert(TENANT_KEY, name.parse().unwrap());
        }
        tenant(&metadata, &fleet(tenants)).map(|tenant| tenant.to_string())
    }

    #[test]
    fn a_call_without_a_name_is_of_the_only_tenant_or_of_default() {
        assert_eq!(ask("", None).unwrap(), "default");
        assert_eq!(ask("[tenants.acme]", None).unwrap(), "acme");
        assert_eq!(ask("[tenants.acme]\n[tenants.default]", None).unwrap(), "default");
        assert_eq!(ask("[tenants.acme]\n[tenants.default]", Some("acme")).unwrap(), "acme");
    }

    #[test]
    fn an_unknown_tenant_is_refused_without_naming_the_others() {
        for header in [None, Some("evil"), Some(""), Some("ACME")] {
            let status = ask("[tenants.acme]\n[tenants.beta]", header).unwrap_err();
            let explained = explain(&status);
            assert_eq!(explained.code, Code::PermissionDenied);
            assert_eq!(explained.reason, Some(Reason::UnknownTenant));
            assert!(explained.message.contains("stoker-tenant"), "{explained}");
            assert!(!explained.message.contains("acme"), "{explained}");
        }
    }
}
