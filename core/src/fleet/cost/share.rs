//! What ran and what was idle while workers were there, and who it ran for.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ModelName, PoolName, TenantName};
use crate::money::Money;

use super::phases::{Key, Part, Phase};
use super::{Item, Usage, Use};

/// The parts as items, those of serving workers divided by usage.
pub(super) fn share(parts: &BTreeMap<Key, Part>, usage: &[Usage]) -> Vec<Item> {
    let mut served: BTreeMap<(i64, &PoolName), Duration> = BTreeMap::new();
    for (key, part) in parts.iter().filter(|(key, _)| key.phase == Phase::Serving) {
        let time = served.entry((key.day, &key.pool)).or_default();
        *time = time.saturating_add(part.time);
    }
    let mut items = Vec::new();
    for (key, part) in parts {
        let mut push = |usage: Use, ran: Option<(ModelName, TenantName)>, money: Money| {
            if money != Money::ZERO {
                let (day, capacity) = (key.day, key.capacity());
                let (pool, offering) = (key.pool.clone(), key.offering.clone());
                items.push(Item { day, pool, offering, capacity, usage, ran, money });
            }
        };
        match key.phase {
            Phase::Boot => push(Use::Boot, None, part.money),
            Phase::Lost => push(Use::Lost, None, part.money),
            Phase::Serving => {
                let of_pool: Vec<&Usage> = usage
                    .iter()
                    .filter(|usage| usage.day == key.day && usage.pool == key.pool)
                    .collect();
                let there = served.get(&(key.day, &key.pool)).copied().unwrap_or_default();
                let busy = of_pool.iter().map(|usage| usage.busy.as_millis()).sum::<u128>();
                let (busy, there) = (busy.min(there.as_millis()), there.as_millis());
                let ran = fraction(part.money, busy, there);
                push(Use::Idle, None, Money::from_micros(part.money.micros() - ran.micros()));
                for (usage, money) in divide(ran, &of_pool) {
                    push(Use::Run, Some((usage.model.clone(), usage.tenant.clone())), money);
                }
            }
        }
    }
    items
}

/// `money * part / whole`, rounded down; nothing of nothing.
fn fraction(money: Money, part: u128, whole: u128) -> Money {
    let micros = u128::try_from(money.micros()).unwrap_or(0);
    let share = micros.saturating_mul(part).checked_div(whole).unwrap_or(0);
    Money::from_micros(i64::try_from(share).unwrap_or(i64::MAX))
}

/// Divides an amount by the time that each took; what rounding leaves goes to the first ones.
fn divide<'a>(money: Money, usage: &[&'a Usage]) -> Vec<(&'a Usage, Money)> {
    let weigh = |usage: &Usage| usage.taken.max(usage.busy).as_millis();
    let whole: u128 = usage.iter().map(|usage| weigh(usage)).sum();
    let mut shares: Vec<(&Usage, Money)> =
        usage.iter().map(|usage| (*usage, fraction(money, weigh(usage), whole))).collect();
    let given: Money = shares.iter().map(|(_, money)| *money).sum();
    let mut left = money.micros() - given.micros();
    for (_, share) in shares.iter_mut().filter(|(usage, _)| weigh(usage) > 0) {
        if left > 0 {
            *share = share.plus(Money::from_micros(1));
            left -= 1;
        }
    }
    shares
}
