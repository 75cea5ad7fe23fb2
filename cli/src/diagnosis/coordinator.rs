//! The coordinator and what it stands on: versions, store, disk, broker, clock, certificates.

use std::time::Duration;

use stoker_core::fleet::Provider;
use stoker_core::identity::EXPIRES_SOON;
use stoker_proto::v1;

use super::{Evidence, Finding};
use crate::fleet_file::of_another_fleet;
use crate::render::text::grouped;
use crate::render::time::{duration_from_wire, from_wire, span};

/// Clocks that differ by more make times in logs and on screens misleading.
const CLOCKS_DIFFER: Duration = Duration::from_secs(2);
/// Clouds refuse requests that are signed this far from their time.
const CLOCKS_REFUSED: Duration = Duration::from_mins(5);
/// More messages that no confirm has cleared are more than what is under way.
const OUTBOX: u64 = 10_000;

pub(super) fn findings(evidence: &Evidence, status: &v1::FleetStatusResponse) -> Vec<Finding> {
    let mut findings = vec![
        reachable(evidence, status),
        version(evidence, status),
        store(status),
        disk(status),
        broker(status),
        clock(evidence, status),
        operators(evidence, status),
    ];
    findings.extend(status.identity_check.as_ref().map(|check| identity(evidence, check)));
    findings
}

fn reachable(evidence: &Evidence, status: &v1::FleetStatusResponse) -> Finding {
    let up = duration_from_wire(status.uptime.as_ref()).map(span).unwrap_or_default();
    let server = &evidence.server;
    let problem = evidence.fleet().and_then(|fleet| of_another_fleet(server, &status.fleet, fleet));
    match problem {
        Some(problem) => Finding::problem(
            "coordinator",
            problem,
            "name the other coordinator with --server, or the other file with --fleet",
        ),
        None => Finding::good("coordinator", format!("{server} runs `{}`, up {up}", status.fleet)),
    }
}

fn version(evidence: &Evidence, status: &v1::FleetStatusResponse) -> Finding {
    if status.version == evidence.version {
        return Finding::good("version", format!("both are {}", evidence.version));
    }
    Finding::warning(
        "version",
        format!("this command is {}, the coordinator {}", evidence.version, status.version),
        "use the same version; calls that only one of them knows are refused",
    )
}

fn store(status: &v1::FleetStatusResponse) -> Finding {
    let (store, outbox) = (&status.store, status.outbox);
    if outbox > OUTBOX {
        return Finding::warning(
            "store",
            format!("{store}; {} messages wait for the broker's confirm", grouped(outbox)),
            "look whether the broker confirms: its alarms for memory and disk stop that",
        );
    }
    Finding::good("store", format!("{store} answers"))
}

fn disk(status: &v1::FleetStatusResponse) -> Finding {
    let needed = status.min_free_disk_bytes;
    let Some(free) = status.free_disk_bytes else {
        return Finding::new(
            "disk",
            super::Level::Unchecked,
            format!("where {} keeps its data is not known to the coordinator", status.store),
            "watch the free space of the database's own server",
        );
    };
    let what = format!("{} free, {} needed", size(free), size(needed));
    let remedy = "free some space, or shorten [retention] in the fleet file";
    if free < needed {
        Finding::problem("disk", format!("{what}: new jobs are refused"), remedy)
    } else if free < needed.saturating_mul(2) {
        Finding::warning("disk", what, remedy)
    } else {
        Finding::good("disk", what)
    }
}

/// `1.5 GiB`.
fn size(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    let tenths = bytes.saturating_mul(10) / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn broker(status: &v1::FleetStatusResponse) -> Finding {
    if status.broker_problem.is_empty() {
        return Finding::good("broker", format!("{} is healthy", status.broker));
    }
    Finding::problem(
        "broker",
        format!("{}: {}", status.broker, status.broker_problem),
        "mend the broker; jobs are accepted meanwhile, and go on by themselves then",
    )
}

/// The coordinator read its clock between the question and the answer.
fn clock(evidence: &Evidence, status: &v1::FleetStatusResponse) -> Finding {
    let Some(theirs) = from_wire(status.observed_at.as_ref()) else {
        let what = "the coordinator told no time";
        return Finding::warning("clock", what, "use the version of the coordinator");
    };
    let (ahead, behind) = (theirs.since(evidence.answered_at), evidence.asked_at.since(theirs));
    let differs = ahead.max(behind);
    let side = if behind.is_zero() { "ahead of" } else { "behind" };
    let what = format!("the coordinator's clock is {} {side} this machine's", span(differs));
    let remedy = "let both follow a time server (chrony or systemd-timesyncd)";
    if differs >= CLOCKS_REFUSED {
        Finding::problem("clock", what, remedy)
    } else if differs >= CLOCKS_DIFFER {
        Finding::warning("clock", what, remedy)
    } else {
        Finding::good("clock", format!("within {} of the coordinator's", span(CLOCKS_DIFFER)))
    }
}

/// Machines of a cloud cost money, and so does whoever ends them at the wrong time.
fn operators(evidence: &Evidence, status: &v1::FleetStatusResponse) -> Finding {
    let check = "operators";
    if status.changes_need_token {
        return Finding::good(check, "calls that change the fleet need a token");
    }
    let what = "whoever reaches the coordinator's port may stop the fleet and discard failed jobs";
    let remedy = "make a token with `openssl rand -hex 32`, and name its file with --operator-token-file at the \
                  coordinator and to operators; the autoscaler gets one of its own";
    let provider = evidence.fleet().and_then(|fleet| fleet.provider.as_ref());
    let bought = evidence.ledger.as_ref().is_ok_and(|ledger| ledger.account.intents > 0);
    match provider {
        Some(Provider::Ec2(_)) => {
            Finding::warning(check, format!("{what}, and end machines"), remedy)
        }
        None if bought => Finding::warning(check, format!("{what}, and end machines"), remedy),
        Some(Provider::Local(_)) | None => {
            Finding::good(check, "no token is asked for, and no cloud's machine is at stake")
        }
    }
}

/// By the clock of this machine, as the other's has a finding of its own.
fn identity(evidence: &Evidence, check: &v1::IdentityCheck) -> Finding {
    let left = |certificate: &v1::IdentityCertificate| {
        let expires = from_wire(certificate.expires_at.as_ref());
        expires.map(|expires| expires.since(evidence.answered_at)).unwrap_or_default()
    };
    let Some(first) = check.certificates.iter().min_by_key(|certificate| left(certificate)) else {
        let what = "the coordinator asks machines for proof and has no certificates";
        return Finding::problem("identity", what, "give it some with --identity-certificates");
    };
    let (count, left) = (check.certificates.len(), left(first));
    let about = format!("certificate {} in {}", first.serial, first.file);
    let remedy = "put AWS's present RSA-2048 certificate of the region into this file at the coordinator, and start it \
                  again; `stoker-coordinator check` tells of each";
    if left.is_zero() {
        let what = format!("{about} has expired: workers on machines of its region are refused");
        Finding::problem("identity", what, remedy)
    } else if left < EXPIRES_SOON {
        Finding::warning("identity", format!("{about} expires in {}", span(left)), remedy)
    } else {
        let accounts = check.accounts.join(", ");
        let what = format!("machines prove that they are of {accounts}; {count} certificates");
        Finding::good("identity", what)
    }
}
