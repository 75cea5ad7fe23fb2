//! What goes wrong in the memory cloud, by order or by chance.

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::cloud::error::{CloudError, ErrorClass, Verb};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is refused with an error of this class; nothing is done. For `Unknown` see the others.
    Refused(ErrorClass),
    /// It is lost on its way there: nothing is done, and the caller cannot know.
    LostBefore,
    /// Its answer is lost on the way back: everything is done, and the caller cannot know.
    LostAfter,
}

/// How often calls of a kind meet a fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultRate {
    pub verb: Verb,
    pub fault: Fault,
    /// Share of the calls, from 0 to 1.
    pub rate: f64,
}

#[derive(Debug)]
pub(super) struct Faults {
    rates: Vec<FaultRate>,
    ordered: BTreeMap<Verb, VecDeque<Fault>>,
    pub(super) chance: StdRng,
}

impl Fault {
    /// What the caller gets, if the call is lost or refused; nothing if it is answered.
    pub(super) fn error(self, verb: Verb) -> CloudError {
        match self {
            Self::Refused(class) => {
                CloudError::new(class, verb, format!("refused on purpose: {class}"))
            }
            Self::LostBefore | Self::LostAfter => {
                CloudError::new(verb.unanswered(), verb, "no answer, on purpose")
            }
        }
    }

    /// Whether the call is carried out all the same.
    pub(super) const fn is_done(self) -> bool {
        match self {
            Self::LostAfter => true,
            Self::Refused(_) | Self::LostBefore => false,
        }
    }
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        let chance = StdRng::seed_from_u64(seed);
        Self { rates: Vec::new(), ordered: BTreeMap::new(), chance }
    }

    pub(super) fn set_rates(&mut self, rates: Vec<FaultRate>) {
        self.rates = rates;
    }

    pub(super) fn fail_next(&mut self, verb: Verb, fault: Fault) {
        self.ordered.entry(verb).or_default().push_back(fault);
    }

    /// What happens to the next call of this kind.
    pub(super) fn next(&mut self, verb: Verb) -> Option<Fault> {
        if let Some(fault) = self.ordered.get_mut(&verb).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let mut dice: f64 = self.chance.random();
        for rate in self.rates.iter().filter(|rate| rate.verb == verb) {
            if dice < rate.rate {
                return Some(rate.fault);
            }
            dice -= rate.rate;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_by_order_first_and_then_at_their_rates() {
        let mut faults = Faults::new(7);
        let throttled = Fault::Refused(ErrorClass::Throttle);
        faults.set_rates(vec![
            FaultRate { verb: Verb::List, fault: throttled, rate: 0.2 },
            FaultRate { verb: Verb::List, fault: Fault::LostBefore, rate: 0.1 },
        ]);
        faults.fail_next(Verb::Launch, Fault::LostAfter);
        assert_eq!(faults.next(Verb::Launch), Some(Fault::LostAfter));
        assert_eq!(faults.next(Verb::Launch), None);
        let drawn: Vec<_> = (0..1_000).map(|_| faults.next(Verb::List)).collect();
        let count = |wanted| drawn.iter().filter(|fault| **fault == wanted).count();
        assert!((150..250).contains(&count(Some(throttled))), "{}", count(Some(throttled)));
        assert!((60..140).contains(&count(Some(Fault::LostBefore))));
        let mut again = Faults::new(7);
        again.set_rates(faults.rates.clone());
        // The two calls for launches drew nothing from the rates of lists, but did throw a die once.
        again.next(Verb::Launch);
        let same: Vec<_> = (0..1_000).map(|_| again.next(Verb::List)).collect();
        assert_eq!(drawn, same, "the same seed");
    }
}
