//! `stoker top`: the fleet at a glance, live.

use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use futures::StreamExt as _;
use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::context::Context;
use crate::dashboard::{HISTORY, Screen, Snapshot, View, text};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::time::duration_to_wire;
use crate::waiting::StopSignals;

/// Faster looks would only cost the coordinator work.
const SHORTEST: Duration = Duration::from_millis(500);
/// Machines that left are told of for so long.
const LOOKED_BACK: Duration = Duration::from_hours(1);
/// Of a frame that no terminal shows.
const WIDTH: u16 = 160;
/// How often the screen is drawn although nothing new is known: it says how old it is.
const REDRAW: Duration = Duration::from_secs(1);
/// A look that takes longer leaves the screen with the past.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watch the fleet live: waits against promises, queues, pools, machines, money, decisions.
///
/// Keys: q, Esc or Ctrl-C quits, r looks again at once. Where standard output is no terminal, one
/// frame is printed as text. STARTED and IN TIME are of the last hour; TAKEN BACK says how many of an
/// offering's machines the provider took back, of all that it ever launched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often to look again; at least every 500ms
    #[arg(long, value_name = "TIME", default_value = "2s")]
    every: HumanDuration,

    /// Print one frame as text, and end
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    if context.terminal.is_json() {
        return Err(Failure::usage("`stoker top` is for people")
            .hint("use `stoker status`, `stoker fleet` and `stoker queues` with -o json"));
    }
    let first = look(Duration::ZERO, context).await?;
    if args.once || !context.terminal.out_is_terminal() {
        let view = View { snapshot: &first, overdue: None, problem: None };
        return context.terminal.block(&text(&view, WIDTH));
    }
    watch(first, args.every.get().max(SHORTEST), context).await
}

/// Until somebody quits. A key is obeyed while the coordinator is waited for, too.
async fn watch(mut snapshot: Snapshot, every: Duration, context: &Context) -> Result<(), Failure> {
    let mut signals = StopSignals::new()?;
    let mut screen = Screen::open()?;
    let mut events = EventStream::new();
    let mut redraw = interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut problem: Option<String> = None;
    let mut looking = Box::pin(look(every, context));
    loop {
        let age = context.clock.now().since(snapshot.now);
        let overdue = (age > every + PATIENCE).then_some(age);
        screen.draw(&View { snapshot: &snapshot, overdue, problem: problem.as_deref() })?;
        // Each branch can be dropped: an event stays in the stream, and a look is only a look.
        tokio::select! {
            event = events.next() => match key(event)? {
                Key::Quit => return Ok(()),
                Key::Look => looking = Box::pin(look(Duration::ZERO, context)),
                Key::Other => {}
            },
            exit = signals.next() => return Err(Failure::reported(exit)),
            looked = &mut looking => {
                match looked {
                    Ok(new) => (snapshot, problem) = (new, None),
                    // Whoever watches wants to see it come back.
                    Err(failure) if failure.exit() != Exit::Usage => {
                        problem = Some(failure.message().to_owned());
                    }
                    Err(failure) => return Err(failure),
                }
                looking = Box::pin(look(every, context));
            }
            _ = redraw.tick() => {}
        }
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Quit,
    Look,
    /// Nothing but to draw again: the screen may have another size.
    Other,
}

fn key(event: Option<std::io::Result<Event>>) -> Result<Key, Failure> {
    let unread = |why: &dyn std::fmt::Display| Failure::failed(format!("cannot read keys: {why}"));
    let event = event.ok_or_else(|| unread(&"there are no more"))?;
    let Event::Key(key) = event.map_err(|error| unread(&error))? else { return Ok(Key::Other) };
    if key.kind == KeyEventKind::Release {
        return Ok(Key::Other);
    }
    Ok(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char('r' | ' ') => Key::Look,
        _ => Key::Other,
    })
}

/// Looks at everything after that time.
async fn look(after: Duration, context: &Context) -> Result<Snapshot, Failure> {
    sleep(after).await;
    let client = &context.client;
    let now = context.clock.now();
    let history = Some(duration_to_wire(HISTORY));
    let (fleet, queues, workers, demand, ledger) = tokio::join!(
        client.fleet_status(v1::FleetStatusRequest {}),
        client.list_queues(v1::ListQueuesRequest {}),
        client.list_workers(v1::ListWorkersRequest {}),
        client.observe_demand(v1::ObserveDemandRequest { history }),
        client.ledger(now.before(LOOKED_BACK)),
    );
    let said = |failure: Failure| failure.message().to_owned();
    Ok(Snapshot {
        server: client.server().to_owned(),
        now,
        fleet: fleet?,
        queues: queues?.queues,
        workers: workers?.workers,
        demands: demand.map(|answer| answer.demands).map_err(said),
        ledger: ledger.map_err(said),
    })
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_quit_look_and_nothing_else() {
        let press = |code, modifiers| key(Some(Ok(Event::Key(KeyEvent::new(code, modifiers)))));
        let none = KeyModifiers::NONE;
        for (code, modifiers, expected) in [
            (KeyCode::Char('q'), none, Key::Quit),
            (KeyCode::Esc, none, Key::Quit),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, Key::Quit),
            (KeyCode::Char('c'), none, Key::Other),
            (KeyCode::Char('r'), none, Key::Look),
            (KeyCode::Enter, none, Key::Other),
        ] {
            assert_eq!(press(code, modifiers), Ok(expected), "{code:?}");
        }
        assert_eq!(key(Some(Ok(Event::Resize(80, 24)))), Ok(Key::Other));
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), none, KeyEventKind::Release);
        assert_eq!(key(Some(Ok(Event::Key(released)))), Ok(Key::Other));
    }

    #[test]
    fn keys_that_cannot_be_read_end_it() {
        assert!(key(None).is_err());
        assert!(key(Some(Err(std::io::Error::other("gone")))).is_err());
    }
}
