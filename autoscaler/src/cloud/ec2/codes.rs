//! EC2's error codes, sorted.

use crate::cloud::error::{ErrorClass, Verb};

use ErrorClass::{Auth, Capacity, Invalid, Quota, Throttle, Transient};

/// How EC2 says that a dry run would have been carried out.
pub(super) const DRY_RUN: &str = "DryRunOperation";

/// Codes by class; one that ends in `*` stands for all that begin so. The first that fits counts.
///
/// Of the failures of EC2 itself only those are here that say that the call was not looked at. `InternalError` and its
/// like are not: a launch may have been carried out before it failed.
const CODES: &[(ErrorClass, &[&str])] = &[
    (
        Capacity,
        &[
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientReservedInstancesCapacity",
            "InsufficientFreeAddressesInSubnet",
            "InsufficientVolumeCapacity",
            "UnfulfillableCapacity",
            "ReservationCapacityExceeded",
            "SpotMaxPriceTooLow",
            // The zone does not have the type.
            "Unsupported",
        ],
    ),
    (
        Quota,
        &[
            "MaxSpotInstanceCountExceeded",
            "SpotInstanceCountExceeded",
            "VcpuLimitExceeded",
            "InstanceLimitExceeded",
            "MaxFleetCountExceeded",
            "VolumeLimitExceeded",
            "MaxIOPSLimitExceeded",
            "NetworkInterfaceLimitExceeded",
            "PendingVerification",
        ],
    ),
    (
        Throttle,
        &[
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "EC2ThrottledException",
            "SlowDown",
            "BandwidthLimitExceeded",
        ],
    ),
    (
        Auth,
        &[
            "UnauthorizedOperation",
            "AuthFailure*",
            "AccessDenied*",
            "Blocked",
            "ExpiredToken*",
            "IncompleteSignature",
            "InvalidClientTokenId",
            "InvalidSecurity*",
            "MissingAuthenticationToken",
            "NotAuthorized",
            "OptInRequired",
            // The clock of this machine is wrong, or the call was held up.
            "RequestExpired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ],
    ),
    (
        Invalid,
        &[
            DRY_RUN,
            "IdempotentParameterMismatch",
            "IdempotentInstanceTerminated",
            "Invalid*",
            "Missing*",
            "MalformedQueryString",
            "UnknownParameter*",
            "UnsupportedOperation",
            "ValidationError",
        ],
    ),
    (Transient, &["Unavailable", "RequestTimeout", "RequestTimeoutException"]),
];

/// The class of an error with this code in an answer of this status.
pub(super) fn class_of(code: &str, status: u16, verb: Verb) -> ErrorClass {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(beginning) => code.starts_with(beginning),
        None => code == *pattern,
    };
    let listed = CODES.iter().find(|(_, codes)| codes.iter().any(&fits));
    match (listed, status) {
        (Some((class, _)), _) => *class,
        (None, 429) => Throttle,
        // Whatever it is, it was refused.
        (None, 400..=499) => Invalid,
        (None, _) => verb.unanswered(),
    }
}

/// The class of an error among those of an instant fleet, which is over: what failed in it was not launched.
pub(super) fn class_in_fleet(code: &str) -> ErrorClass {
    match class_of(code, 0, Verb::Launch) {
        ErrorClass::Unknown => Transient,
        known @ (Capacity | Quota | Throttle | Auth | Invalid | Transient) => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorClass::Unknown;

    #[test]
    fn codes_are_sorted() {
        for (code, status, launch, list) in [
            ("InsufficientInstanceCapacity", 500, Capacity, Capacity),
            ("InsufficientFreeAddressesInSubnet", 400, Capacity, Capacity),
            ("UnfulfillableCapacity", 400, Capacity, Capacity),
            ("SpotMaxPriceTooLow", 400, Capacity, Capacity),
            ("Unsupported", 400, Capacity, Capacity),
            ("MaxSpotInstanceCountExceeded", 400, Quota, Quota),
            ("VcpuLimitExceeded", 400, Quota, Quota),
            ("InstanceLimitExceeded", 400, Quota, Quota),
            ("PendingVerification", 400, Quota, Quota),
            ("RequestLimitExceeded", 503, Throttle, Throttle),
            ("RequestLimitExceeded", 400, Throttle, Throttle),
            ("Throttling", 400, Throttle, Throttle),
            ("EC2ThrottledException", 400, Throttle, Throttle),
            ("SomethingNew", 429, Throttle, Throttle),
            ("UnauthorizedOperation", 403, Auth, Auth),
            ("AuthFailure", 401, Auth, Auth),
            ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", 403, Auth, Auth),
            ("ExpiredToken", 400, Auth, Auth),
            ("RequestExpired", 400, Auth, Auth),
            ("OptInRequired", 401, Auth, Auth),
            ("InvalidClientTokenId", 403, Auth, Auth),
            ("MissingAuthenticationToken", 403, Auth, Auth),
            ("InvalidLaunchTemplateId.NotFound", 400, Invalid, Invalid),
            ("InvalidLaunchTemplateName.NotFoundException", 400, Invalid, Invalid),
            ("InvalidAMIID.NotFound", 400, Invalid, Invalid),
            ("InvalidAMIID.Unavailable", 400, Invalid, Invalid),
            ("InvalidSubnetID.NotFound", 400, Invalid, Invalid),
            ("InvalidUserData.Malformed", 400, Invalid, Invalid),
            ("InvalidInstanceID.NotFound", 400, Invalid, Invalid),
            ("IdempotentParameterMismatch", 400, Invalid, Invalid),
            ("MissingParameter", 400, Invalid, Invalid),
            ("SomethingNew", 400, Invalid, Invalid),
            ("Unavailable", 503, Transient, Transient),
            ("RequestTimeout", 400, Transient, Transient),
            ("ServiceUnavailable", 503, Unknown, Transient),
            ("InternalError", 500, Unknown, Transient),
            ("InternalFailure", 500, Unknown, Transient),
            ("SomethingNew", 500, Unknown, Transient),
            ("", 502, Unknown, Transient),
            ("", 0, Unknown, Transient),
        ] {
            assert_eq!(class_of(code, status, Verb::Launch), launch, "{code} {status}");
            assert_eq!(class_of(code, status, Verb::List), list, "{code} {status}");
        }
    }

    #[test]
    fn nothing_is_in_doubt_once_a_fleet_has_answered() {
        for (_, codes) in CODES {
            for code in *codes {
                assert_ne!(class_in_fleet(code), Unknown, "{code}");
            }
        }
        assert_eq!(class_in_fleet("InternalError"), Transient);
        assert_eq!(class_in_fleet("InsufficientInstanceCapacity"), Capacity);
    }
}
