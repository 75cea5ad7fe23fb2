//! What EC2 sells: spot prices, and what is in a type.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{
    Filter, GpuDeviceInfo, GpuDeviceMemoryInfo, InstanceStorageInfo, InstanceType,
    InstanceTypeInfo, LocationType, MemoryInfo, UsageClassType, VCpuInfo,
};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;

use super::caller::Caller;
use crate::cloud::error::{CloudError, ErrorClass, Verb};
use crate::cloud::market::{Gpu, MachineType, SpotPrice};

/// Of the platforms that EC2 has prices for, the one that workers run on.
const PLATFORM: &str = "Linux/UNIX";
/// Pages after which an answer is taken to have no end.
const MOST_PAGES: usize = 1_000;
/// Types whose prices are asked for at once.
const TYPES_AT_ONCE: usize = 100;
/// Rows on a page.
const PAGE: i32 = 100;

/// Prices since a time, and the one in force then: EC2 adds it by itself.
pub(super) async fn prices(
    caller: &Caller,
    types: &BTreeSet<String>,
    since: Timestamp,
) -> Result<Vec<SpotPrice>, CloudError> {
    let types: Vec<InstanceType> = types.iter().map(|name| name.as_str().into()).collect();
    let since = DateTime::from_millis(since.as_unix_millis());
    let mut prices = Vec::new();
    for types in types.chunks(TYPES_AT_ONCE) {
        let mut next: Option<String> = None;
        let mut pages = 0;
        loop {
            let describe = || {
                caller
                    .client()
                    .describe_spot_price_history()
                    .set_instance_types(Some(types.to_vec()))
                    .product_descriptions(PLATFORM)
                    .start_time(since)
                    .set_next_token(next.clone())
                    .send()
            };
            let answer = caller.call(Verb::Prices, describe).await?;
            prices.extend(answer.spot_price_history().iter().filter_map(price));
            next = turn((Verb::Prices, answer.next_token()), &mut pages)?;
            if next.is_none() {
                break;
            }
        }
    }
    Ok(prices)
}

/// A row without a readable price, type, zone or time says nothing.
fn price(row: &aws_sdk_ec2::types::SpotPrice) -> Option<SpotPrice> {
    let dollars = row.spot_price()?.parse().ok()?;
    Some(SpotPrice {
        instance_type: row.instance_type()?.as_str().to_owned(),
        zone: row.availability_zone()?.to_owned(),
        since: Timestamp::from_unix_millis(row.timestamp()?.to_millis().ok()?),
        price: HourlyPrice::new(Money::from_dollars(dollars)?),
    })
}

/// What these types are.
pub(super) async fn types(
    caller: &Caller,
    types: &BTreeSet<String>,
) -> Result<BTreeMap<String, MachineType>, CloudError> {
    let mut found = described(caller, Verb::Types, types).await?;
    for filter in filters(types) {
        zones(caller, &filter, &mut found).await?;
    }
    Ok(found)
}

/// How many vCPUs machines of these types have, asked for the sake of `verb`.
pub(super) async fn vcpus(
    caller: &Caller,
    verb: Verb,
    types: &BTreeSet<String>,
) -> Result<BTreeMap<String, u32>, CloudError> {
    let known = described(caller, verb, types).await?;
    Ok(known.into_iter().map(|(name, what)| (name, what.vcpus)).collect())
}

/// They are asked for by a filter: a list of names is refused as a whole for one that is not there.
fn filters(types: &BTreeSet<String>) -> Vec<Filter> {
    let names: Vec<String> = types.iter().cloned().collect();
    let filter = |names: &[String]| {
        let filter = Filter::builder().name("instance-type").set_values(Some(names.to_vec()));
        filter.build()
    };
    names.chunks(TYPES_AT_ONCE).map(filter).collect()
}

/// What these types are, but not where they are sold.
async fn described(
    caller: &Caller,
    verb: Verb,
    types: &BTreeSet<String>,
) -> Result<BTreeMap<String, MachineType>, CloudError> {
    let mut found = BTreeMap::new();
    for filter in filters(types) {
        let mut next: Option<String> = None;
        let mut pages = 0;
        loop {
            let describe = || {
                caller
                    .client()
                    .describe_instance_types()
                    .filters(filter.clone())
                    .max_results(PAGE)
                    .set_next_token(next.clone())
                    .send()
            };
            let answer = caller.call(verb, describe).await?;
            let known = answer.instance_types().iter().filter_map(what);
            found.extend(known.filter(|(name, _)| types.contains(name)));
            next = turn((verb, answer.next_token()), &mut pages)?;
            if next.is_none() {
                break;
            }
        }
    }
    Ok(found)
}

/// Adds where they are sold.
async fn zones(
    caller: &Caller,
    filter: &Filter,
    found: &mut BTreeMap<String, MachineType>,
) -> Result<(), CloudError> {
    let mut next: Option<String> = None;
    let mut pages = 0;
    loop {
        let describe = || {
            caller
                .client()
                .describe_instance_type_offerings()
                .location_type(LocationType::AvailabilityZone)
                .filters(filter.clone())
                .set_next_token(next.clone())
                .send()
        };
        let answer = caller.call(Verb::Types, describe).await?;
        for sold in answer.instance_type_offerings() {
            let what = sold.instance_type().and_then(|name| found.get_mut(name.as_str()));
            if let (Some(what), Some(zone)) = (what, sold.location()) {
                what.zones.insert(zone.to_owned());
            }
        }
        next = turn((Verb::Types, answer.next_token()), &mut pages)?;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// The next page, unless there are too many.
fn turn(
    (verb, next): (Verb, Option<&str>),
    pages: &mut usize,
) -> Result<Option<String>, CloudError> {
    *pages += 1;
    let next = next.filter(|token| !token.is_empty()).map(str::to_owned);
    if next.is_some() && *pages >= MOST_PAGES {
        return Err(CloudError::new(ErrorClass::Transient, verb, "an answer without an end"));
    }
    Ok(next)
}

fn what(info: &InstanceTypeInfo) -> Option<(String, MachineType)> {
    let number = |number: Option<i32>| number.and_then(|n| u32::try_from(n).ok());
    let gpu = |gpu: &GpuDeviceInfo| Gpu {
        name: gpu.name().unwrap_or_default().to_owned(),
        count: number(gpu.count()).unwrap_or(0),
        memory_mib: number(gpu.memory_info().and_then(GpuDeviceMemoryInfo::size_in_mib))
            .map_or(0, u64::from),
    };
    let disk = info.instance_storage_info().and_then(InstanceStorageInfo::total_size_in_gb);
    let memory = info.memory_info().and_then(MemoryInfo::size_in_mib);
    let what = MachineType {
        vcpus: number(info.v_cpu_info().and_then(VCpuInfo::default_v_cpus))?,
        memory_mib: memory.and_then(|mib| u64::try_from(mib).ok())?,
        gpus: info.gpu_info().map(|info| info.gpus().iter().map(gpu).collect()).unwrap_or_default(),
        local_disk_gb: disk.and_then(|gb| u64::try_from(gb).ok()).unwrap_or(0),
        spot: info.supported_usage_classes().contains(&UsageClassType::Spot),
        zones: BTreeSet::new(),
    };
    Some((info.instance_type()?.as_str().to_owned(), what))
}
