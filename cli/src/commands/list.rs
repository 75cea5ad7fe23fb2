//! `stoker list`: jobs, newest first, page by page.

use std::collections::BTreeMap;

use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use super::parse_label;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::job;
use crate::render::state::StateArg;
use crate::render::time::to_wire;
use crate::terminal::note;

const PAGE: u32 = 500;

/// List jobs, newest first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only jobs in this state; may be repeated
    #[arg(long, short, value_name = "STATE")]
    state: Vec<StateArg>,

    /// Only jobs of this model
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// Only jobs of this latency class
    #[arg(long, short, value_name = "NAME")]
    class: Option<String>,

    /// Only jobs with this label; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,

    /// Only jobs accepted at most this long ago
    #[arg(long, value_name = "TIME")]
    since: Option<HumanDuration>,

    /// Most jobs to show
    #[arg(long, value_name = "N", default_value = "50")]
    limit: u32,

    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut request = request(&args, context);
    let mut left = if args.all { u64::MAX } else { u64::from(args.limit) };
    let mut page = Page::First;
    let mut more = false;
    while left > 0 {
        request.page_size = u32::try_from(left.min(u64::from(PAGE))).unwrap_or(PAGE);
        let answer = context.client.list(request.clone()).await?;
        left = left.saturating_sub(answer.jobs.len() as u64);
        print_page(&answer.jobs, page, context)?;
        page = Page::Further;
        more = !answer.next_page_token.is_empty();
        if !more {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    end(page, context)?;
    if more {
        note("there are more; see --limit and --all");
    }
    Ok(())
}

fn request(args: &Args, context: &Context) -> v1::ListRequest {
    let since = args.since.map(|since| to_wire(context.clock.now().before(since.get())));
    v1::ListRequest {
        states: args.state.iter().map(|state| v1::JobState::from(*state) as i32).collect(),
        model: args.model.clone().unwrap_or_default(),
        class: args.class.clone().unwrap_or_default(),
        labels: args.label.iter().cloned().collect::<BTreeMap<_, _>>(),
        accepted_after: since,
        ..v1::ListRequest::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    First,
    Further,
}

/// Each page is written when it comes: all jobs of a large fleet need not fit into memory.
fn print_page(jobs: &[v1::Job], page: Page, context: &mut Context) -> Result<(), Failure> {
    let now = context.clock.now();
    let terminal = &mut context.terminal;
    if terminal.is_json() {
        for (index, job) in jobs.iter().enumerate() {
            let first = page == Page::First && index == 0;
            terminal.block(if first { "{\"jobs\":[\n" } else { ",\n" })?;
            let text = serde_json::to_string(&job::document(job)).map_err(std::io::Error::from)?;
            terminal.block(&text)?;
        }
        if page == Page::First && jobs.is_empty() {
            terminal.block("{\"jobs\":[\n")?;
        }
        return Ok(());
    }
    match page {
        Page::First if jobs.is_empty() => note("no jobs"),
        Page::First => terminal.block(&job::rows(jobs, now))?,
        Page::Further => terminal.block(&job::more_rows(jobs, now))?,
    }
    Ok(())
}

fn end(page: Page, context: &mut Context) -> Result<(), Failure> {
    if !context.terminal.is_json() {
        return Ok(());
    }
    // `--limit 0` asks for no page.
    context.terminal.block(if page == Page::First { "{\"jobs\":[\n]}\n" } else { "\n]}\n" })
}
