//! What `check` finds wrong with what machines are launched from.

use std::collections::BTreeMap;

use stoker_autoscaler::cloud::ec2::Ec2Limits;
use stoker_autoscaler::cloud::{CloudProvider as _, ErrorClass};
use stoker_core::fleet::{Ec2Region, LaunchTemplate};
use stoker_core::ids::PoolName;
use stoker_test_ec2::Order;

use crate::stage::{EAST, Stage, connect};

/// What is found in the east when a pool's template there is this, and the subnets these.
async fn found(
    stage: &Stage,
    (id, version): (&str, &str),
    subnets: BTreeMap<String, String>,
) -> Vec<String> {
    let template = LaunchTemplate { id: id.to_owned(), version: version.to_owned() };
    let templates = BTreeMap::from([(PoolName::new("gpu").expect("a valid name"), template)]);
    let regions = BTreeMap::from([(Stage::region(EAST), Ec2Region { templates, subnets })]);
    let ec2 = connect("f", &regions, &stage.proxy.url(), Ec2Limits::default()).await;
    let found = ec2.expect("a client").setup_problems(&Stage::region(EAST)).await;
    found.expect("the setup can be read")
}

/// The only problem.
fn only(found: &[String]) -> &str {
    let [problem] = found else { panic!("one problem: {found:?}") };
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_template_that_is_not_there_is_a_problem_that_says_where_to_correct_it() {
    let stage = Stage::set().await.unwrap();
    for id in ["lt-0123456789abcdef0", "nobody-made-this"] {
        let found = found(&stage, (id, "1"), BTreeMap::new()).await;
        let problem = only(&found);
        assert!(problem.contains(&format!("{id}:1 of us-east-1 is not there")), "{problem}");
        assert!(problem.contains("`launch-templates.gpu` in [provider.ec2.us-east-1]"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_a_template_does_not_have_is_a_problem() {
    let stage = Stage::set().await.unwrap();
    let template = stage.template(EAST);
    assert_eq!(found(&stage, (&template, "1"), BTreeMap::new()).await, Vec::<String>::new());
    let found = found(&stage, (&template, "7"), BTreeMap::new()).await;
    assert!(only(&found).contains("has no such version"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_a_problem_and_one_that_a_parameter_names_is_not_asked_for() {
    let stage = Stage::set().await.unwrap();
    let gone = stage.make_template("ami-0123456789abcdef0").await.unwrap();
    let problems = found(&stage, (&gone, "1"), BTreeMap::new()).await;
    assert!(only(&problems).contains("the image ami-0123456789abcdef0, which is not there"));
    let asked = stage.proxy.calls("DescribeImages");
    let by_parameter = stage.make_template("resolve:ssm:/stoker/image").await.unwrap();
    let problems = found(&stage, (&by_parameter, "1"), BTreeMap::new()).await;
    assert_eq!((problems.len(), stage.proxy.calls("DescribeImages")), (0, asked), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subnet_that_is_not_there_or_in_another_zone_is_a_problem() {
    let stage = Stage::set().await.unwrap();
    let template = stage.template(EAST);
    let real = stage.subnet("us-east-1a");
    let subnets = [("us-east-1b", real.as_str()), ("us-east-1c", "subnet-0123456789abcdef0")];
    let subnets = subnets.map(|(zone, id)| (zone.to_owned(), id.to_owned())).into();
    let found = found(&stage, (&template, "1"), subnets).await;
    let [elsewhere, nowhere] = &found[..] else { panic!("two problems: {found:?}") };
    assert!(elsewhere.contains(&format!("{real} is in us-east-1a")), "{elsewhere}");
    assert!(elsewhere.contains("`subnets.us-east-1b`"), "{elsewhere}");
    assert!(nowhere.contains("subnet-0123456789abcdef0 is not in us-east-1"), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_an_error_and_no_problem_of_the_template() {
    let stage = Stage::set().await.unwrap();
    let refused = Order::Error { status: 403, code: "UnauthorizedOperation".to_owned() };
    stage.proxy.next("DescribeLaunchTemplateVersions", refused);
    let failed = stage.ours.setup_problems(&Stage::region(EAST)).await.unwrap_err();
    assert_eq!(failed.class, ErrorClass::Auth, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_asks_for_what_a_launch_asks_for_and_launches_nothing() {
    let stage = Stage::set().await.unwrap();
    let launch = Stage::launch(EAST, 1);
    stage.ours.rehearse(&launch).await.unwrap();
    let mut asked: BTreeMap<String, String> = stage.proxy.last("CreateFleet").into_iter().collect();
    assert_eq!(asked.remove("DryRun").as_deref(), Some("true"));
    assert_eq!(stage.ours.list(&Stage::region(EAST)).await.unwrap(), []);
    stage.ours.launch(&launch).await.unwrap();
    let sent: BTreeMap<String, String> = stage.proxy.last("CreateFleet").into_iter().collect();
    assert_eq!(asked, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_that_is_refused_says_so() {
    let stage = Stage::set().await.unwrap();
    let refused = Order::Error { status: 403, code: "UnauthorizedOperation".to_owned() };
    stage.proxy.next("CreateFleet", refused);
    let failed = stage.ours.rehearse(&Stage::launch(EAST, 1)).await.unwrap_err();
    assert_eq!(failed.class, ErrorClass::Auth, "{failed}");
    assert!(failed.to_string().starts_with("cannot launch machines, says a dry run: "), "{failed}");
}
