//! The methods that the services have.

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::v1::DESCRIPTORS;

/// All methods of the API as `Service/Method`, from the files that the services were made of.
///
/// # Errors
/// When the descriptors that were compiled in are damaged.
pub fn methods() -> Result<Vec<String>, prost::DecodeError> {
    let files = FileDescriptorSet::decode(DESCRIPTORS)?;
    let services = files.file.iter().flat_map(|file| &file.service);
    let named = |(service, method): (&str, &str)| format!("{service}/{method}");
    Ok(services
        .flat_map(|service| service.method.iter().map(|method| (service.name(), method.name())))
        .map(named)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_those_of_the_services() {
        let methods = methods().unwrap();
        for known in ["JobService/Submit", "AdminService/ExplainJob", "FleetService/EndMachine"] {
            assert!(methods.iter().any(|method| method == known), "{known} in {methods:?}");
        }
    }
}
