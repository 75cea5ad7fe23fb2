//! How exactly a model is computed on a GPU.

use serde::{Deserialize, Serialize};

/// The numbers of a model on a GPU; on a CPU they are always `f32`. Part of the registry, since it
/// decides what a model answers: all workers of a model use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits everywhere.
    #[default]
    F32,
    /// 32 bits, of which matrix products read 19.
    Tf32,
    /// 16 bits, 11 of them for digits.
    F16,
    /// 16 bits, 8 of them for digits.
    Bf16,
}

impl Precision {
    /// The name in `fleet.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_file() {
        #[derive(Deserialize)]
        struct File {
            precision: Precision,
        }
        for precision in [Precision::F32, Precision::Tf32, Precision::F16, Precision::Bf16] {
            let file: File =
                toml::from_str(&format!("precision = \"{}\"", precision.name())).unwrap();
            assert_eq!(file.precision, precision);
        }
        assert!(toml::from_str::<File>("precision = \"f8\"").is_err());
    }
}
