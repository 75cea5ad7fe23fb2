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

/// What is not launched for a while. The planner hears of every launch that fails or is held back, and goes without
/// the offering for a minute, and twice as long each time, up to five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Avoid {
    /// Nothing besides that.
    Market,
    /// The offering, for `first`, and twice as long each time up to `longest`; then one launch is tried.
    Offering { first: Duration, longest: Duration },
    /// Everything in the region, in the same way.
    Region { first: Duration, longest: Duration },
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
    pub human: Human,
}

/// What follows from an error of this class.
pub const fn reaction(class: ErrorClass) -> Reaction {
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_mins(1);
    // Launches are planned every fifteen seconds: an outage must not be met with as many each time.
    const OUTAGE: Avoid =
        Avoid::Region { first: Duration::from_secs(15), longest: Duration::from_mins(5) };
    let (effect, again, avoid, human) = match class {
        // Asking again at once finds the same shelf empty; other offerings may be had.
        ErrorClass::Capacity => (Effect::Nothing, Again::Never, Avoid::Market, Human::NotNeeded),
        // Ends when instances end or somebody has the quota raised: neither takes seconds.
        ErrorClass::Quota => (Effect::Nothing, Again::Never, Avoid::Market, Human::Soon),
        ErrorClass::Throttle => {
            let again = Again::After { first: SECOND, longest: MINUTE };
            (Effect::Nothing, again, OUTAGE, Human::NotNeeded)
        }
        // Credentials are renewed and rights spread within minutes, if at all.
        ErrorClass::Auth => {
            let longest = Duration::from_mins(5);
            let again = Again::After { first: MINUTE, longest };
            (Effect::Nothing, again, Avoid::Region { first: MINUTE, longest }, Human::Now)
        }
        // One offering may be wrong where the others of its template are not.
        ErrorClass::Invalid => {
            let (first, longest) = (Duration::from_mins(5), Duration::from_hours(1));
            let avoid = Avoid::Offering { first, longest };
            (Effect::Nothing, Again::Never, avoid, Human::Now)
        }
        ErrorClass::Transient => {
            let first = Duration::from_millis(200);
            let again = Again::After { first, longest: Duration::from_secs(20) };
            (Effect::Nothing, again, OUTAGE, Human::NotNeeded)
        }
        ErrorClass::Unknown => {
            let again = Again::After { first: SECOND, longest: Duration::from_secs(30) };
            (Effect::Perhaps, again, OUTAGE, Human::NotNeeded)
        }
    };
    Reaction { effect, again, avoid, human }
}

impl Human {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not-needed",
            Self::Soon => "soon",
            Self::Now => "now",
        }
    }
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
        }
    }

    #[test]
    fn what_is_no_single_offerings_fault_pauses_a_region() {
        use ErrorClass::{Auth, Throttle, Transient, Unknown};
        for class in ErrorClass::ALL {
            let region = matches!(reaction(class).avoid, Avoid::Region { .. });
            assert_eq!(region, [Auth, Throttle, Transient, Unknown].contains(&class), "{class}");
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
