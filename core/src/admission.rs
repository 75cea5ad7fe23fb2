//! Whether new jobs may be accepted, or must be refused until there is room.
//!
//! Refusing early, before anything is stored, is what keeps the promise to the jobs that are in.

use std::fmt;
use std::time::Duration;

use crate::fleet::{Limits, Tenant};
use crate::units::ByteSize;

/// Jobs that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Of all tenants.
    pub fleet: u64,
    /// Of the tenant that asks.
    pub tenant: u64,
}

/// Space left where the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeDisk {
    Bytes(u64),
    /// It could not be read. Not a reason to refuse: the store reports a full disk itself, and
    /// commits nothing then.
    Unknown,
}

/// A refusal that time may mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shed {
    pub reason: ShedReason,
    /// When to try again at the earliest.
    pub retry_after: Duration,
}

/// What there is no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedReason {
    DiskFull { free_bytes: u64, needed_bytes: u64 },
    FleetFull { queued: u64, asked: u64, limit: u64 },
    TenantFull { queued: u64, asked: u64, limit: u64 },
}

/// Queues drain at the speed of the fleet, so room may appear soon.
const RETRY_QUEUE: Duration = Duration::from_secs(5);
/// Room on a disk appears when retention removes old jobs or an operator acts.
const RETRY_DISK: Duration = Duration::from_secs(30);

/// Checks whether `asked` more jobs may come in, all or none.
///
/// Monotone: what is refused at one depth is refused at every greater one, and with less space.
pub fn check(
    asked: u64,
    depth: Depth,
    limits: &Limits,
    tenant: &Tenant,
    disk: FreeDisk,
) -> Result<(), Shed> {
    let needed_bytes = limits.min_free_disk_bytes;
    match disk {
        FreeDisk::Bytes(free_bytes) if free_bytes < needed_bytes => {
            let reason = ShedReason::DiskFull { free_bytes, needed_bytes };
            return Err(Shed { reason, retry_after: RETRY_DISK });
        }
        FreeDisk::Bytes(_) | FreeDisk::Unknown => {}
    }
    let full = |reason| Err(Shed { reason, retry_after: RETRY_QUEUE });
    if depth.fleet.saturating_add(asked) > limits.max_queued {
        let (queued, limit) = (depth.fleet, limits.max_queued);
        return full(ShedReason::FleetFull { queued, asked, limit });
    }
    match tenant.max_queued {
        Some(limit) if depth.tenant.saturating_add(asked) > limit => {
            full(ShedReason::TenantFull { queued: depth.tenant, asked, limit })
        }
        Some(_) | None => Ok(()),
    }
}

impl fmt::Display for ShedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whose, queued, asked, limit, key) = match *self {
            Self::DiskFull { free_bytes, needed_bytes } => {
                return write!(
                    f,
                    "the coordinator's disk is nearly full ({} free, limits.min-free-disk is {}): \
                     free some space there, or shorten `retention`",
                    mebibytes(free_bytes),
                    ByteSize::from_bytes(needed_bytes)
                );
            }
            Self::FleetFull { queued, asked, limit } => {
                ("the fleet", queued, asked, limit, "limits.max-queued")
            }
            Self::TenantFull { queued, asked, limit } => {
                ("the tenant", queued, asked, limit, "the tenant's max-queued")
            }
        };
        write!(
            f,
            "{whose} has {queued} unfinished jobs and may have {limit}, so {asked} more do not fit"
        )?;
        if asked > limit {
            write!(f, ": submit fewer at once, or raise {key}")
        } else {
            write!(f, ": wait for some to finish, or raise {key}")
        }
    }
}

fn mebibytes(bytes: u64) -> ByteSize {
    ByteSize::from_bytes(bytes >> 20 << 20)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(max_queued: u64, min_free_disk_bytes: u64) -> Limits {
        Limits {
            max_items: 1,
            max_input_bytes: 1,
            max_text_bytes: 1,
            max_recording_bytes: 1,
            image: crate::image::ImageLimits::default(),
            max_queued,
            max_deadline: Duration::from_secs(1),
            min_free_disk_bytes,
        }
    }

    fn tenant(max_queued: Option<u64>) -> Tenant {
        Tenant { weight: 1, max_queued }
    }

    #[test]
    fn a_limit_is_the_number_that_still_fits() {
        let check = |asked, fleet| {
            let depth = Depth { fleet, tenant: fleet };
            check(asked, depth, &limits(10, 0), &tenant(None), FreeDisk::Unknown)
        };
        assert_eq!(check(1, 9), Ok(()));
        assert_eq!(check(10, 0), Ok(()));
        let shed = check(1, 10).unwrap_err();
        assert_eq!(shed.reason, ShedReason::FleetFull { queued: 10, asked: 1, limit: 10 });
        assert!(shed.reason.to_string().contains("wait for some to finish"));
        assert!(check(11, 0).unwrap_err().reason.to_string().contains("submit fewer at once"));
    }

    #[test]
    fn tenants_have_their_own_limit() {
        let depth = Depth { fleet: 7, tenant: 5 };
        let shed =
            check(1, depth, &limits(10, 0), &tenant(Some(5)), FreeDisk::Unknown).unwrap_err();
        assert_eq!(shed.reason, ShedReason::TenantFull { queued: 5, asked: 1, limit: 5 });
        let other = Depth { fleet: 7, tenant: 4 };
        assert_eq!(check(1, other, &limits(10, 0), &tenant(Some(5)), FreeDisk::Unknown), Ok(()));
    }

    #[test]
    fn a_nearly_full_disk_refuses_everything_and_says_so() {
        let disk = FreeDisk::Bytes((3 << 20) + 17);
        let shed = check(1, Depth::default(), &limits(10, 4 << 20), &tenant(None), disk);
        let message = shed.unwrap_err().reason.to_string();
        assert!(message.contains("3MiB free") && message.contains("4MiB"), "{message}");
    }

    proptest! {
        #[test]
        fn what_is_refused_stays_refused_with_less_room(
            asked in proptest::num::u64::ANY,
            depth in (0_u64..30, 0_u64..30),
            more in (0_u64..30, 0_u64..30, proptest::num::u64::ANY),
            maxima in (0_u64..30, proptest::option::of(0_u64..30)),
            disk in (0_u64..30, 0_u64..30),
        ) {
            let (limits, tenant) = (limits(maxima.0, disk.0), tenant(maxima.1));
            let less = Depth { fleet: depth.0, tenant: depth.1 };
            let greater = Depth { fleet: depth.0 + more.0, tenant: depth.1 + more.1 };
            let asked = asked % 40;
            let fuller = FreeDisk::Bytes(disk.1.saturating_sub(more.2));
            let refused = check(asked, less, &limits, &tenant, FreeDisk::Bytes(disk.1)).is_err();
            if refused {
                prop_assert!(check(asked, greater, &limits, &tenant, fuller).is_err());
                prop_assert!(check(asked.saturating_add(more.2), less, &limits, &tenant, fuller).is_err());
            }
        }
    }
}
