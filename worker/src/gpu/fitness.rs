//! Whether a GPU is fit to work: a pure rule over what was read, now and before.
//!
//! A device that is sick gives wrong answers or none, and a queue sends it more and more work because
//! it fails so quickly. What could not be read changes nothing.

/// What one look at a GPU found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    Seen(Readings),
    /// The driver says that it is gone or must be reset.
    Lost {
        reason: String,
    },
    /// The driver did not answer; the device may be well.
    Unknown,
}

/// What was read. `None` is what this device does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readings {
    /// Memory errors since the driver was loaded that could not be corrected.
    pub uncorrected_errors: Option<u64>,
    /// Pages of memory that are broken and leave at the next reset.
    pub pages_pending: Option<bool>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Degrees from which the device slows itself down.
    pub slowdown_temperature: Option<u32>,
    /// Slowed by its own hardware for heat or power, which the settings of nobody asked for.
    pub slowed_by_hardware: Option<bool>,
}

/// Looks in a row that heat or slowness must last before they count: short peaks are normal.
const LASTING: u32 = 6;

/// Degrees below the limit at which a device that was too hot is well again.
const RELIEF: u32 = 10;

/// What is remembered from one look to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// Errors at the first look, which may be of another life.
    errors_at_start: Option<u64>,
    looks_too_hot: u32,
    looks_slowed: u32,
    /// The last verdict.
    fitness: Fitness,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fitness {
    #[default]
    Fit,
    Sick {
        /// For operators, with what to do.
        reason: String,
        /// Only an operator makes it well.
        for_good: bool,
    },
}

impl Fitness {
    fn for_good(reason: String) -> Self {
        Self::Sick { reason, for_good: true }
    }

    /// Fit, or why not.
    ///
    /// # Errors
    /// The reason.
    pub fn result(&self) -> Result<(), String> {
        match self {
            Self::Fit => Ok(()),
            Self::Sick { reason, .. } => Err(reason.clone()),
        }
    }
}

/// Judges a look in the light of those before it.
#[must_use]
pub(super) fn judge(mut history: History, sight: &Sight) -> History {
    let readings = match sight {
        Sight::Seen(readings) => readings,
        Sight::Lost { reason } => {
            let reason = format!("the GPU is lost ({reason}): reset it or replace the machine");
            history.fitness = Fitness::for_good(reason);
            return history;
        }
        Sight::Unknown => return history,
    };
    let start = history.errors_at_start.or(readings.uncorrected_errors);
    history.errors_at_start = start;
    let too_hot = is_too_hot(readings, &history.fitness);
    history.looks_too_hot = lasting(history.looks_too_hot, too_hot);
    history.looks_slowed = lasting(history.looks_slowed, readings.slowed_by_hardware);
    if matches!(history.fitness, Fitness::Sick { for_good: true, .. }) {
        return history;
    }
    let new_errors =
        readings.uncorrected_errors.zip(start).map(|(now, then)| now.saturating_sub(then));
    history.fitness = if let Some(errors @ 1..) = new_errors {
        Fitness::for_good(format!(
            "{errors} memory errors could not be corrected: reset the GPU or replace the machine"
        ))
    } else if readings.pages_pending == Some(true) {
        Fitness::for_good("broken pages of memory wait for a reset of the GPU: reset it".to_owned())
    } else if history.looks_too_hot >= LASTING {
        let degrees = readings.temperature.unwrap_or_default();
        passing(format!("the GPU is too hot ({degrees} C): check its cooling"))
    } else if history.looks_slowed >= LASTING {
        passing(
            "the GPU's hardware slows it for heat or power: check cooling and supply".to_owned(),
        )
    } else {
        Fitness::Fit
    };
    history
}

const fn passing(reason: String) -> Fitness {
    Fitness::Sick { reason, for_good: false }
}

/// Counts up while it lasts; what is not known keeps the count.
const fn lasting(looks: u32, yes: Option<bool>) -> u32 {
    match yes {
        Some(true) => looks.saturating_add(1),
        Some(false) => 0,
        None => looks,
    }
}

/// A device that was found too hot must cool down well below the limit, lest it flap.
fn is_too_hot(readings: &Readings, before: &Fitness) -> Option<bool> {
    let (temperature, limit) = readings.temperature.zip(readings.slowdown_temperature)?;
    let limit = match before {
        Fitness::Fit => limit,
        Fitness::Sick { .. } => limit.saturating_sub(RELIEF),
    };
    Some(temperature >= limit)
}

impl History {
    pub const fn fitness(&self) -> &Fitness {
        &self.fitness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Readings = Readings {
        uncorrected_errors: Some(2),
        pages_pending: Some(false),
        temperature: Some(60),
        slowdown_temperature: Some(90),
        slowed_by_hardware: Some(false),
    };

    fn after(history: History, looks: &[Readings]) -> History {
        looks.iter().fold(history, |history, readings| judge(history, &Sight::Seen(*readings)))
    }

    fn reason(history: &History) -> String {
        history.fitness().result().unwrap_err()
    }

    #[test]
    fn a_device_that_tells_nothing_is_fit() {
        let history = after(History::default(), &[Readings::default(); 20]);
        assert_eq!(*history.fitness(), Fitness::Fit);
    }

    #[test]
    fn errors_of_an_earlier_life_do_not_count_and_new_ones_do_for_good() {
        let history = after(History::default(), &[WELL; 5]);
        assert_eq!(*history.fitness(), Fitness::Fit);
        let history = after(history, &[Readings { uncorrected_errors: Some(3), ..WELL }]);
        assert!(reason(&history).contains("1 memory errors"), "{}", reason(&history));
        assert!(reason(&after(history, &[WELL; 20])).contains("reset the GPU"));
    }

    #[test]
    fn broken_pages_are_for_an_operator() {
        let broken = Readings { pages_pending: Some(true), ..WELL };
        let history = after(History::default(), &[broken, WELL, WELL]);
        assert!(reason(&history).contains("broken pages"), "{}", reason(&history));
    }

    #[test]
    fn heat_counts_when_it_lasts_and_ends_well_below_the_limit() {
        let at = |temperature| Readings { temperature: Some(temperature), ..WELL };
        let peak = after(History::default(), &[at(95), at(95), at(80), at(95), at(95)]);
        assert_eq!(*peak.fitness(), Fitness::Fit);
        let hot = after(History::default(), &[at(95); 6]);
        assert!(reason(&hot).contains("too hot (95 C)"), "{}", reason(&hot));
        let still = after(hot, &[at(85); 3]);
        assert!(still.fitness().result().is_err(), "it would flap");
        assert_eq!(*after(still, &[at(79)]).fitness(), Fitness::Fit);
    }

    #[test]
    fn slowness_by_the_hardware_counts_when_it_lasts() {
        let slowed = Readings { slowed_by_hardware: Some(true), ..WELL };
        assert_eq!(*after(History::default(), &[slowed; 5]).fitness(), Fitness::Fit);
        let history = after(History::default(), &[slowed; 6]);
        assert!(reason(&history).contains("slows"), "{}", reason(&history));
        assert_eq!(*after(history, &[WELL]).fitness(), Fitness::Fit);
    }

    #[test]
    fn a_lost_device_is_sick_and_an_answer_that_does_not_come_changes_nothing() {
        let history = judge(History::default(), &Sight::Unknown);
        assert_eq!(*history.fitness(), Fitness::Fit);
        let lost = judge(history, &Sight::Lost { reason: "fell off the bus".to_owned() });
        assert!(reason(&lost).contains("fell off the bus"));
        assert_eq!(judge(lost.clone(), &Sight::Unknown), lost);
        assert!(after(lost, &[WELL; 20]).fitness().result().is_err());
    }
}
