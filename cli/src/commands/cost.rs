//! `stoker cost`: where the money goes.

use std::time::Duration;

use stoker_core::fleet::cost::{Period, Usage, bill, forecast};
use stoker_core::ids::{ModelName, PoolName, TenantName};
use stoker_core::money::Money;
use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::client::LedgerView;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::cost::{self as render, By, Month, Page};
use crate::render::time::{duration_from_wire, to_wire};
use crate::terminal::note;

/// This month and the last: the coordinator adds up no more.
const LONGEST: Duration = Duration::from_hours(62 * 24);
/// The rest of the month is taken to go on like this last while.
const LATELY: Duration = Duration::from_hours(7 * 24);

/// Show what the machines cost, and for what, for whom and when.
///
/// The money is that of the ledger: each machine's price for the time from when it was first asked
/// for until it was gone, at least a minute. It is divided into four uses.
///
/// RUN: a worker was there, and ran attempts.
///
/// IDLE: a worker was there, and ran nothing.
///
/// BOOT: until the worker registered; all of a machine whose worker never did.
///
/// LOST: from the provider's notice until it had taken the machine back; all of a machine that was
/// taken back before its worker registered.
///
/// Run and idle follow from the attempts that the coordinator still knows: the time in which
/// workers of the pool ran at least one, day by day. What ran is shared by models and tenants by
/// the time that their attempts took. Machines and jobs that retention has removed are not in it.
/// Days are those of UTC. Taxes, traffic and storage are not known here.
///
/// The month's forecast is what was spent in it, by the autoscaler's account, and for its rest the
/// mean of the last seven days, or of as many as there are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stoker cost
  stoker cost --by day --since 30d
  stoker cost --by model,tenant -o json")]
pub(crate) struct Args {
    /// What to add up by; several are combined
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_value = "pool")]
    by: Vec<By>,

    /// How far back to look, at most 62d
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: HumanDuration,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let since = args.since.get();
    if since.is_zero() || since > LONGEST {
        return Err(Failure::usage("--since must be above 0s and at most 62d"));
    }
    let mut by = args.by;
    by.dedup();
    let from = context.clock.now().before(since.max(LATELY));
    let ledger = context.client.ledger(from).await?;
    let now = ledger.read_at;
    let period = Period { from: now.before(since), until: now };
    let usage = usage(period, context).await?;
    let items = bill(ledger.entries.values(), usage.as_deref().unwrap_or(&[]), period, now);
    let page = Page { items: &items, by: &by, period, month: month(&ledger) };
    if context.terminal.is_json() {
        return context.terminal.json(&render::document(&page));
    }
    context.terminal.block(&render::page(&page))
}

/// What attempts took; `None` where the coordinator cannot say.
async fn usage(period: Period, context: &Context) -> Result<Option<Vec<Usage>>, Failure> {
    let request = v1::ObserveUsageRequest {
        from: Some(to_wire(period.from)),
        until: Some(to_wire(period.until)),
    };
    match context.client.observe_usage(request).await {
        Ok(answer) => Ok(Some(answer.usage.iter().filter_map(read).collect())),
        Err(failure) if failure.exit() == Exit::Refused => {
            note(&format!("what ran is not known, and shown as idle: {}", failure.message()));
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// `None` for what no pool, model or tenant of ours can be called.
fn read(wire: &v1::Usage) -> Option<Usage> {
    Some(Usage {
        day: wire.day,
        pool: PoolName::new(&wire.pool).ok()?,
        model: ModelName::new(&wire.model).ok()?,
        tenant: TenantName::new(&wire.tenant).ok()?,
        taken: duration_from_wire(wire.taken.as_ref())?,
        busy: duration_from_wire(wire.busy.as_ref())?,
    })
}

/// This month by the autoscaler's account, and how it will end.
fn month(ledger: &LedgerView) -> Month {
    let now = ledger.read_at;
    let begin = ledger.entries.values().filter_map(|entry| entry.times.requested).min();
    let spent = ledger.spend().month_spent;
    let lately = Period { from: now.before(LATELY), until: now };
    let recent: Money =
        bill(ledger.entries.values(), &[], lately, now).iter().map(|item| item.money).sum();
    // Where the month has cost clearly more than these machines did, there were others before them.
    let alone = spent.dollars() <= recent.dollars() * 1.1 + 0.01;
    let over = begin.filter(|_| alone).map_or(LATELY, |begin| now.since(begin).min(LATELY));
    let cap = ledger.budget.map(|budget| budget.per_month);
    Month { spent, forecast: forecast(spent, recent, over, now), over, cap }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stoker_core::fleet::CapacityType;
    use stoker_core::fleet::ledger::{Account, Entry, Event, Order, Spend, Switch, apply};
    use stoker_core::ids::{Epoch, MachineId, OfferingName};
    use stoker_core::money::HourlyPrice;
    use stoker_core::time::Timestamp;

    use super::*;

    const DOLLAR: Money = Money::from_micros(1_000_000);
    /// Noon of 15 November 2023 (UTC).
    const NOW: Timestamp = Timestamp::from_unix_millis(1_700_049_600_000);

    /// One machine at a dollar an hour that was asked for an hour ago, in a month that has cost this.
    fn ledger(of_month: Money) -> LedgerView {
        let order = Order {
            pool: PoolName::new("gpu").unwrap(),
            offering: OfferingName::new("g5.a").unwrap(),
            provider: "ec2".into(),
            region: "r".into(),
            zone: "a".into(),
            instance_type: "g5".into(),
            capacity: CapacityType::Spot,
            price: HourlyPrice::new(DOLLAR),
            template: "1".into(),
            reason: "load".into(),
        };
        let begin = NOW.before(Duration::from_hours(1));
        let entry = Entry::intended(MachineId::from_bytes([1; 16]), Epoch::new(1), order, begin);
        let entry = apply(&entry, &Event::Asked, begin).unwrap();
        let spend = Spend {
            charged_until: Some(NOW),
            day: 19_676,
            month: 24_284,
            month_spent: of_month,
            ..Spend::default()
        };
        LedgerView {
            entries: BTreeMap::from([(entry.id, entry)]),
            account: Account { spend, ..Account::default() },
            switch: Switch::default(),
            budget: None,
            read_at: NOW,
            memory: None,
        }
    }

    #[test]
    fn an_hour_of_a_fleet_that_is_older_is_not_taken_for_all_of_it() {
        let new = month(&ledger(DOLLAR));
        assert_eq!(new.over, Duration::from_hours(1), "it has bought nothing before");
        // Last week's hour has been forgotten, and the account has it.
        let old = month(&ledger(DOLLAR.times(2)));
        assert_eq!(old.over, LATELY);
        assert!(old.forecast < DOLLAR.times(6), "{:?}", old.forecast);
    }
}
