//! What follows when a cloud refuses a call, or does not answer it.
//!
//! A cloud's own error codes are sorted into classes where its calls are made. Everything behind that goes by
//! the class, through [`reaction`]. Who is asked, and how, is not here.

mod budget;
mod zone;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use budget::RetryBudget;
pub use zone::region_of;

/// Why a call to a cloud brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// The cloud has none of what was asked for at the moment.
    Capacity,
    /// The account may not have more.
    Quota,
    /// Too many calls; this one was not looked at.
    Throttle,
    /// Who calls is not known, or may not do this.
    Auth,
    /// The call can never work as it is: a template, image or network that is not there, or a bad parameter.
    Invalid,
    /// Nothing was done, and the same call may work in a moment.
    Transient,
    /// The call may have been carried out, or not.
    Unknown,
}

/// Whether a call that failed has changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    /// Not known: what was asked for counts as there until it is known not to be.
    Perhaps,
}

/// Whether the same call is made again, under the same token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// No: the next plan decides anew, with another token.
    Never,
    /// After a delay. Its bound doubles from `first` to `longest`; see [`Again::bound`].
    After { first: Duration, longest: Duration },
}

/// What is not tried for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Avoid {
    Nothing,
    /// The offerings that the error names, or all of the call if it names none.
    Offerings,
    /// Launches of this capacity type in this region: quotas are for families of types.
    CapacityType,
    /// Calls of this kind in this region.
    Region,
    /// Launches anywhere.
    Launches,
}

/// Whether a person has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Human {
    /// The fleet copes.
    NotNeeded,
    /// The fleet copes less well than it could.
    Soon,
    /// The fleet cannot buy until somebody does.
    Now,
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Reaction {
    pub effect: Effect,
    pub again: Again,
    pub avoid: Avoid,
    /// How long that is avoided; zero where nothing is.
    pub avoid_for: Duration,
    pub human: Human,
}

/// What follows from an error of this class.
pub const fn reaction(class: ErrorClass) -> Reaction {
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_mins(1);
    let (effect, again, (avoid, avoid_for), human) = match class {
        // Asking again at once finds the same shelf empty; other offerings may be had.
        ErrorClass::Capacity => {
            let pause = Duration::from_mins(3);
            (Effect::Nothing, Again::Never, (Avoid::Offerings, pause), Human::NotNeeded)
        }
        // Ends when instances end or somebody has the quota raised: neither takes seconds.
        ErrorClass::Quota => {
            let pause = Duration::from_mins(10);
            (Effect::Nothing, Again::Never, (Avoid::CapacityType, pause), Human::Soon)
        }
        ErrorClass::Throttle => {
            let again = Again::After { first: SECOND, longest: MINUTE };
            (Effect::Nothing, again, (Avoid::Region, Duration::from_secs(5)), Human::NotNeeded)
        }
        // Credentials are renewed and rights spread within minutes, if at all.
        ErrorClass::Auth => {
            let again = Again::After { first: MINUTE, longest: Duration::from_mins(5) };
            (Effect::Nothing, again, (Avoid::Launches, MINUTE), Human::Now)
        }
        ErrorClass::Invalid => {
            let pause = Duration::from_mins(15);
            (Effect::Nothing, Again::Never, (Avoid::Offerings, pause), Human::Now)
        }
        ErrorClass::Transient => {
            let first = Duration::from_millis(200);
            let again = Again::After { first, longest: Duration::from_secs(20) };
            (Effect::Nothing, again, (Avoid::Nothing, Duration::ZERO), Human::NotNeeded)
        }
        ErrorClass::Unknown => {
            let again = Again::After { first: SECOND, longest: Duration::from_secs(30) };
            (Effect::Perhaps, again, (Avoid::Nothing, Duration::ZERO), Human::NotNeeded)
        }
    };
    Reaction { effect, again, avoid, avoid_for, human }
}

impl Again {
    /// The longest delay before the call is made again after it failed `failures` times in a row; `None`: it is not.
    /// The delay itself is a random part of this, so that many who failed together do not come back together.
    pub fn bound(self, failures: u32) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After { first, longest } => {
                let doublings = failures.saturating_sub(1).min(31);
                Some(first.saturating_mul(1 << doublings).min(longest))
            }
        }
    }
}

impl ErrorClass {
    pub const ALL: [Self; 7] = [
        Self::Capacity,
        Self::Quota,
        Self::Throttle,
        Self::Auth,
        Self::Invalid,
        Self::Transient,
        Self::Unknown,
    ];

    /// Its name in logs, metrics and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Quota => "quota",
            Self::Throttle => "throttle",
            Self::Auth => "auth",
            Self::Invalid => "invalid",
            Self::Transient => "transient",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unknown_outcome_may_have_changed_something() {
        for class in ErrorClass::ALL {
            let perhaps = reaction(class).effect == Effect::Perhaps;
            assert_eq!(perhaps, class == ErrorClass::Unknown, "{class}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_asked_again_under_its_token_and_never_bought_anew() {
        assert!(reaction(ErrorClass::Unknown).again.bound(1).is_some());
    }

    #[test]
    fn a_call_that_cannot_work_or_finds_nothing_is_not_made_again() {
        for class in [ErrorClass::Capacity, ErrorClass::Quota, ErrorClass::Invalid] {
            assert_eq!(reaction(class).again.bound(1), None, "{class}");
            assert!(reaction(class).avoid_for > Duration::ZERO, "{class}");
        }
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let again = reaction(ErrorClass::Throttle).again;
        let bounds =
            [0, 1, 2, 3, 7, u32::MAX].map(|failures| again.bound(failures).unwrap().as_secs());
        assert_eq!(bounds, [1, 1, 2, 4, 60, 60]);
    }

    #[test]
    fn a_class_is_written_as_it_is_called() {
        for class in ErrorClass::ALL {
            #[derive(Serialize)]
            struct Line {
                class: ErrorClass,
            }
            let text = toml::to_string(&Line { class }).unwrap();
            assert_eq!(text, format!("class = \"{class}\"\n"));
        }
    }
}
