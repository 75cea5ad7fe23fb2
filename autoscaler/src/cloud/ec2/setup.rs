//! Whether what a region's machines are launched from is there: launch templates, their images, and subnets.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::operation::describe_launch_template_versions::DescribeLaunchTemplateVersionsOutput;
use aws_sdk_ec2::types::{Filter, ImageState};
use stoker_core::fleet::{Ec2Region, LaunchTemplate};
use stoker_core::ids::{PoolName, RegionName};

use super::caller::Caller;
use crate::cloud::error::{CloudError, ErrorClass, Verb};

/// Images that a template names by a parameter of Systems Manager are looked up when a machine is launched.
const BY_PARAMETER: &str = "resolve:";
/// How EC2 says that a template is there and its version is not.
const NO_VERSION: &str = "InvalidLaunchTemplateId.VersionNotFound";

/// What keeps machines from being launched there, in sentences.
pub(super) async fn problems(
    caller: &Caller,
    region: &RegionName,
    setup: &Ec2Region,
) -> Result<Vec<String>, CloudError> {
    let mut problems = Vec::new();
    for (pool, template) in &setup.templates {
        let of = Of { pool, template, region };
        match image(caller, &of).await? {
            Ok(None) => {}
            Ok(Some(image)) => problems.extend(image_problem(caller, &of, &image).await?),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(subnet_problems(caller, region, &setup.subnets).await?);
    Ok(problems)
}

/// Of what a problem is.
#[derive(Debug, Clone, Copy)]
struct Of<'a> {
    pool: &'a PoolName,
    template: &'a LaunchTemplate,
    region: &'a RegionName,
}

impl Of<'_> {
    /// A sentence about the template, with what to do.
    fn problem(&self, what: &str) -> String {
        let Self { pool, region, template } = self;
        format!(
            "pool {pool}: the launch template {template} of {region} {what}; correct \
             `launch-templates.{pool}` in [provider.ec2.{region}] or the template"
        )
    }
}

/// The image that a template's version names, if EC2 is to be asked about it; or what is wrong with the template.
async fn image(caller: &Caller, of: &Of<'_>) -> Result<Result<Option<String>, String>, CloudError> {
    let LaunchTemplate { id, version } = of.template;
    let describe = || {
        let ask = caller.client().describe_launch_template_versions().versions(version);
        let by_id = id.starts_with("lt-");
        if by_id { ask.launch_template_id(id) } else { ask.launch_template_name(id) }.send()
    };
    match caller.call(Verb::Setup, describe).await {
        Ok(answer) => Ok(named_image(&answer, of)),
        Err(error) if error.class == ErrorClass::Invalid => {
            let code = error.code.as_deref().unwrap_or_default();
            Ok(Err(of.problem(match code {
                NO_VERSION => "has no such version",
                code if code.contains("NotFound") => "is not there",
                _ => return Ok(Err(of.problem(&format!("cannot be read: {}", error.message)))),
            })))
        }
        Err(error) => Err(error),
    }
}

fn named_image(
    answer: &DescribeLaunchTemplateVersionsOutput,
    of: &Of<'_>,
) -> Result<Option<String>, String> {
    let Some(version) = answer.launch_template_versions().first() else {
        return Err(of.problem("has no such version"));
    };
    match version.launch_template_data().and_then(|data| data.image_id()) {
        None | Some("") => Err(of.problem("names no image")),
        Some(image) if image.starts_with(BY_PARAMETER) => Ok(None),
        Some(image) => Ok(Some(image.to_owned())),
    }
}

/// What is wrong with an image.
async fn image_problem(
    caller: &Caller,
    of: &Of<'_>,
    image: &str,
) -> Result<Option<String>, CloudError> {
    let missing = || {
        let what = format!("names the image {image}, which is not there or not for this account");
        Ok(Some(of.problem(&what)))
    };
    let describe = || caller.client().describe_images().image_ids(image).send();
    let answer = match caller.call(Verb::Setup, describe).await {
        Ok(answer) => answer,
        Err(error) if error.class == ErrorClass::Invalid => return missing(),
        Err(error) => return Err(error),
    };
    let Some(found) = answer.images().iter().find(|found| found.image_id() == Some(image)) else {
        return missing();
    };
    Ok(match found.state() {
        None | Some(ImageState::Available) => None,
        Some(state) => Some(of.problem(&format!("names the image {image}, which is {state}"))),
    })
}

/// What is wrong with the subnets. They are asked for by a filter: a list of names is refused as a whole for one that is
/// not there.
async fn subnet_problems(
    caller: &Caller,
    region: &RegionName,
    subnets: &BTreeMap<String, String>,
) -> Result<Vec<String>, CloudError> {
    if subnets.is_empty() {
        return Ok(Vec::new());
    }
    let ids: BTreeSet<&String> = subnets.values().collect();
    let ids: Vec<String> = ids.into_iter().cloned().collect();
    let filter = Filter::builder().name("subnet-id").set_values(Some(ids)).build();
    let describe = || caller.client().describe_subnets().filters(filter.clone()).send();
    let answer = caller.call(Verb::Setup, describe).await?;
    let known: BTreeMap<&str, &str> = answer
        .subnets()
        .iter()
        .filter_map(|subnet| Some((subnet.subnet_id()?, subnet.availability_zone()?)))
        .collect();
    let problem = |(zone, id): (&String, &String)| {
        let what = match known.get(id.as_str()) {
            None => format!("is not in {region}"),
            Some(found) if *found != zone.as_str() => format!("is in {found}"),
            Some(_) => return None,
        };
        Some(format!("the subnet {id} {what}; correct `subnets.{zone}` in [provider.ec2.{region}]"))
    };
    Ok(subnets.iter().filter_map(problem).collect())
}
