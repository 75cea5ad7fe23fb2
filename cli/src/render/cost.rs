//! The bill: added up by what was asked for, for people and programs.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use stoker_core::fleet::cost::{Item, Period, Use};
use stoker_core::money::Money;
use stoker_core::time::Timestamp;

use super::money::{dollars, of_cap};
use super::table::{Column, left, pairs, right, table};
use super::time::{rfc3339, span};

/// A forecast from less of the past is a guess.
const ENOUGH: Duration = Duration::from_hours(24);

/// What to add up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Pool,
    /// Only what ran has one.
    Model,
    /// Only what ran has one.
    Tenant,
    Day,
    Offering,
    Capacity,
}

/// This month (UTC) by the autoscaler's account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Month {
    pub(crate) spent: Money,
    /// What it will have cost at its end.
    pub(crate) forecast: Money,
    /// The past that it goes by.
    pub(crate) over: Duration,
    /// `None`: not known.
    pub(crate) cap: Option<Money>,
}

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    pub(crate) items: &'a [Item],
    pub(crate) by: &'a [By],
    pub(crate) period: Period,
    pub(crate) month: Month,
}

/// Money by use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sums([Money; Use::ALL.len()]);

impl Sums {
    fn add(&mut self, item: &Item) {
        for (sum, usage) in self.0.iter_mut().zip(Use::ALL) {
            if usage == item.usage {
                *sum = sum.plus(item.money);
            }
        }
    }

    fn total(&self) -> Money {
        self.0.into_iter().sum()
    }
}

impl By {
    const fn title(self) -> &'static str {
        match self {
            Self::Pool => "POOL",
            Self::Model => "MODEL",
            Self::Tenant => "TENANT",
            Self::Day => "DAY",
            Self::Offering => "OFFERING",
            Self::Capacity => "CAPACITY",
        }
    }

    /// `-` for what did not run: it has no model and no tenant.
    fn of(self, item: &Item) -> String {
        let nobody = || "-".to_owned();
        match self {
            Self::Pool => item.pool.to_string(),
            Self::Model => item.ran.as_ref().map_or_else(nobody, |(model, _)| model.to_string()),
            Self::Tenant => item.ran.as_ref().map_or_else(nobody, |(_, tenant)| tenant.to_string()),
            Self::Day => date(item.day),
            Self::Offering => item.offering.to_string(),
            Self::Capacity => item.capacity.as_str().to_owned(),
        }
    }
}

/// A day as `2024-02-29`.
fn date(day: i64) -> String {
    let begin = Timestamp::from_unix_millis(day.saturating_mul(86_400_000));
    rfc3339(begin).and_then(|text| text.get(..10).map(str::to_owned)).unwrap_or_default()
}

fn added_up(page: &Page<'_>) -> BTreeMap<Vec<String>, Sums> {
    let mut all: BTreeMap<Vec<String>, Sums> = BTreeMap::new();
    for item in page.items {
        let key = page.by.iter().map(|by| by.of(item)).collect();
        all.entry(key).or_default().add(item);
    }
    all
}

/// The bill for people.
pub(crate) fn page(page: &Page<'_>) -> String {
    let rows = added_up(page);
    let mut total = Sums::default();
    for item in page.items {
        total.add(item);
    }
    let mut text = String::new();
    if !rows.is_empty() {
        let keys = page.by.iter().map(|by| left(by.title()));
        let uses = ["RUN", "IDLE", "BOOT", "LOST", "TOTAL", "SHARE"].map(right);
        let columns: Vec<Column> = keys.chain(uses).collect();
        let last = page.by.iter().enumerate();
        let last = last.map(|(at, _)| if at == 0 { "total".to_owned() } else { String::new() });
        let rows = rows.iter().map(|(key, sums)| row(key.clone(), sums, total.total()));
        let rows: Vec<_> = rows.chain([row(last.collect(), &total, total.total())]).collect();
        text.push_str(&table(&columns, rows));
        text.push('\n');
    }
    let until = |at| rfc3339(at).unwrap_or_default();
    text.push_str(&pairs([
        ("period", format!("{} to {}", until(page.period.from), until(page.period.until))),
        ("spent in it", dollars(total.total())),
        ("this month", of_cap(page.month.spent, page.month.cap)),
        ("forecast", forecast(&page.month)),
    ]));
    text
}

/// The month's end, and a warning where it follows from next to nothing.
fn forecast(month: &Month) -> String {
    let text = of_cap(month.forecast, month.cap);
    if month.over.is_zero() || month.over >= ENOUGH {
        return text;
    }
    format!("{text}, if it goes on as in the {} since the first machine", span(month.over))
}

fn row(mut key: Vec<String>, sums: &Sums, whole: Money) -> Vec<String> {
    key.extend(sums.0.into_iter().map(dollars));
    key.push(dollars(sums.total()));
    let share = if whole == Money::ZERO { 0.0 } else { sums.total().dollars() / whole.dollars() };
    key.push(format!("{:.0}%", share * 100.0));
    key
}

/// The bill as a document, in US dollars. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct CostDocument {
    from: Option<String>,
    until: Option<String>,
    total: f64,
    rows: Vec<RowDocument>,
    month_spent: f64,
    month_forecast: f64,
    /// Null where there is none, or it is not known.
    month_cap: Option<f64>,
}

#[derive(Debug, Serialize)]
struct RowDocument {
    /// By the name of what it was added up by; null where it has none.
    #[serde(flatten)]
    key: BTreeMap<String, Option<String>>,
    run: f64,
    idle: f64,
    boot: f64,
    lost: f64,
    total: f64,
}

/// The bill for programs.
pub(crate) fn document(page: &Page<'_>) -> CostDocument {
    let row = |(key, sums): (&Vec<String>, &Sums)| {
        let names = page.by.iter().map(|by| by.title().to_lowercase());
        let values = key.iter().map(|value| (value != "-").then(|| value.clone()));
        let [run, idle, boot, lost] = sums.0.map(Money::dollars);
        let total = sums.total().dollars();
        RowDocument { key: names.zip(values).collect(), run, idle, boot, lost, total }
    };
    let total: Money = page.items.iter().map(|item| item.money).sum();
    CostDocument {
        from: rfc3339(page.period.from),
        until: rfc3339(page.period.until),
        total: total.dollars(),
        rows: added_up(page).iter().map(row).collect(),
        month_spent: page.month.spent.dollars(),
        month_forecast: page.month.forecast.dollars(),
        month_cap: page.month.cap.filter(|cap| *cap != Money::MAX).map(Money::dollars),
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::CapacityType;
    use stoker_core::ids::{ModelName, OfferingName, PoolName, TenantName};

    use super::*;

    fn item(pool: &str, usage: Use, tenant: Option<&str>, micros: i64) -> Item {
        let ran = tenant
            .map(|tenant| (ModelName::new("mini").unwrap(), TenantName::new(tenant).unwrap()));
        Item {
            day: 19_782,
            pool: PoolName::new(pool).unwrap(),
            offering: OfferingName::new("g5.spot").unwrap(),
            capacity: CapacityType::Spot,
            usage,
            ran,
            money: Money::from_micros(micros),
        }
    }

    #[test]
    fn rows_add_up_to_the_last_one() {
        let items = [
            item("gpu", Use::Run, Some("a"), 2_000_000),
            item("gpu", Use::Run, Some("b"), 1_000_000),
            item("gpu", Use::Idle, None, 500_000),
            item("cpu", Use::Boot, None, 250_000),
            item("cpu", Use::Lost, None, 250_000),
        ];
        let day = |day: i64| Timestamp::from_unix_millis(day * 86_400_000);
        let cap = Some(Money::from_micros(100_000_000));
        let (forecast, over) = (Money::from_micros(30_000_000), ENOUGH);
        let month = Month { spent: items[0].money, forecast, over, cap };
        let period = Period { from: day(19_782), until: day(19_783) };
        let shown = |by: &'static [By]| Page { items: &items, by, period, month };
        assert_eq!(
            page(&shown(&[By::Pool])),
            "POOL     RUN   IDLE   BOOT   LOST  TOTAL  SHARE\n\
             cpu    $0.00  $0.00  $0.25  $0.25  $0.50    12%\n\
             gpu    $3.00  $0.50  $0.00  $0.00  $3.50    88%\n\
             total  $3.00  $0.50  $0.25  $0.25  $4.00   100%\n\
             \n\
             period:       2024-02-29T00:00:00.000Z to 2024-03-01T00:00:00.000Z\n\
             spent in it:  $4.00\n\
             this month:   $2.00 of $100.00\n\
             forecast:     $30.00 of $100.00\n"
        );
        let by_tenant = page(&shown(&[By::Day, By::Tenant]));
        assert!(by_tenant.contains("2024-02-29  a       $2.00"), "{by_tenant}");
        let value = serde_json::to_value(document(&shown(&[By::Tenant]))).unwrap();
        assert_eq!(value["rows"][0]["tenant"], serde_json::Value::Null);
        assert_eq!(
            (&value["rows"][1]["tenant"], &value["rows"][1]["run"]),
            (&"a".into(), &2.0.into())
        );
        assert_eq!(value["total"], 4.0);
    }

    #[test]
    fn nothing_bought_costs_nothing() {
        let period = Period { from: Timestamp::default(), until: Timestamp::default() };
        let (cap, over) = (Some(Money::MAX), ENOUGH);
        let month = Month { spent: Money::ZERO, forecast: Money::ZERO, over, cap };
        let text = page(&Page { items: &[], by: &[By::Pool], period, month });
        assert!(text.starts_with("period: ") && text.contains("$0.00, no cap"), "{text}");
    }

    #[test]
    fn a_forecast_from_little_says_so() {
        let over = Duration::from_secs(40);
        let month = Month { spent: Money::ZERO, forecast: Money::ZERO, over, cap: None };
        let told = forecast(&month);
        assert_eq!(told, "$0.00, if it goes on as in the 40s since the first machine");
        for sure in [ENOUGH, Duration::ZERO] {
            assert_eq!(forecast(&Month { over: sure, ..month }), "$0.00");
        }
    }
}
