//! What a worker tells of the models in its memory.

use serde::{Deserialize, Serialize};
use stoker_core::ids::ModelName;
use stoker_core::residency::Standing;
use stoker_proto::v1;
use stoker_proto::v1::ResidencyState;

/// Longest reason that is kept.
const MAX_WHY_BYTES: usize = 255;

/// A worker's models, and the memory for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    pub budget_bytes: u64,
    /// Not all of them fit: the worker has to know what waits.
    pub shared: bool,
    pub models: Vec<Seat>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    pub model: ModelName,
    pub place: Place,
    pub memory_bytes: u64,
    pub measured: bool,
    pub why: String,
}

/// Where a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    Absent,
    Loading,
    Resident,
    Leaving,
}

impl Residency {
    /// Models without a usable name or state, and what is beyond `most`, are left out: they are shown, and counted as
    /// absent.
    pub fn hear(wire: &v1::Residency, most: usize) -> Self {
        let models = wire.models.iter().take(most).filter_map(Seat::hear).collect();
        Self { budget_bytes: wire.budget_bytes, shared: wire.shared, models }
    }

    pub fn tell(&self) -> v1::Residency {
        v1::Residency {
            budget_bytes: self.budget_bytes,
            shared: self.shared,
            models: self.models.iter().map(Seat::tell).collect(),
        }
    }

    /// Whether jobs of the model are taken at once.
    pub fn takes(&self, model: &ModelName) -> bool {
        self.place(model) == Place::Resident
    }

    /// How near the worker is to having the model; `idle` is how it stands if it has to load it.
    pub fn standing(&self, model: &ModelName, idle: Standing) -> Standing {
        match self.place(model) {
            Place::Loading | Place::Resident => Standing::Has,
            Place::Absent | Place::Leaving => idle,
        }
    }

    fn place(&self, model: &ModelName) -> Place {
        let seat = self.models.iter().find(|seat| seat.model == *model);
        seat.map_or(Place::Absent, |seat| seat.place)
    }
}

impl Seat {
    fn hear(wire: &v1::ModelResidency) -> Option<Self> {
        let place = match wire.state() {
            ResidencyState::Absent => Place::Absent,
            ResidencyState::Loading => Place::Loading,
            ResidencyState::Resident => Place::Resident,
            ResidencyState::Leaving => Place::Leaving,
            ResidencyState::Unspecified => return None,
        };
        let printable = |why: &&str| why.len() <= MAX_WHY_BYTES && !why.contains(char::is_control);
        Some(Self {
            model: ModelName::new(&wire.model).ok()?,
            place,
            memory_bytes: wire.memory_bytes,
            measured: wire.measured,
            why: Some(wire.why.as_str()).filter(printable).unwrap_or_default().to_owned(),
        })
    }

    fn tell(&self) -> v1::ModelResidency {
        let state = match self.place {
            Place::Absent => ResidencyState::Absent,
            Place::Loading => ResidencyState::Loading,
            Place::Resident => ResidencyState::Resident,
            Place::Leaving => ResidencyState::Leaving,
        };
        v1::ModelResidency {
            model: self.model.to_string(),
            state: state.into(),
            memory_bytes: self.memory_bytes,
            measured: self.measured,
            why: self.why.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_was_heard_without_what_makes_no_sense() {
        let seat = |model: &str, state: ResidencyState, why: &str| v1::ModelResidency {
            model: model.to_owned(),
            state: state.into(),
            memory_bytes: 7,
            measured: true,
            why: why.to_owned(),
        };
        let good = [
            seat("a", ResidencyState::Resident, "busy"),
            seat("b", ResidencyState::Loading, "spare memory"),
            seat("c", ResidencyState::Leaving, ""),
        ];
        let bad = [
            seat("no name", ResidencyState::Resident, ""),
            seat("d", ResidencyState::Unspecified, ""),
        ];
        let wire = |models: Vec<_>| v1::Residency { budget_bytes: 9, shared: true, models };
        let heard = Residency::hear(&wire([good.to_vec(), bad.to_vec()].concat()), 9);
        assert_eq!(heard.tell(), wire(good.to_vec()));
        let model = |name: &str| ModelName::new(name).unwrap();
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| heard.takes(&model(name))),
            [true, false, false, false]
        );
        let standing = |name: &str| heard.standing(&model(name), Standing::Idle);
        assert_eq!(
            ["a", "b", "c", "d"].map(standing),
            [Standing::Has, Standing::Has, Standing::Idle, Standing::Idle]
        );
        let long = seat("a", ResidencyState::Absent, &"x".repeat(256));
        let control = seat("b", ResidencyState::Absent, "a\u{7}");
        let heard = Residency::hear(&wire(vec![long, control, good[2].clone()]), 2);
        assert_eq!(heard.models.iter().map(|seat| seat.why.as_str()).collect::<Vec<_>>(), ["", ""]);
    }
}
