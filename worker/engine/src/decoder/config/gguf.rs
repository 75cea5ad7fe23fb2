//! The shape of a decoder as a GGUF header has it.

use super::super::rope::{RopeConfig, RopePairs, RopeScaling};
use super::{Biases, DecoderConfig};
use crate::LoadError;
use crate::gguf::Gguf;

/// Factors of the positions' angles, in files that have them.
const FACTORS: &str = "rope_freqs.weight";

/// What the architectures differ in.
struct Traits {
    pairs: RopePairs,
    biases: Biases,
    head_norms: bool,
}

/// A header, whose keys begin with the architecture's name.
struct Header<'a> {
    file: &'a Gguf<'a>,
    architecture: &'a str,
}

/// The network of a file.
///
/// # Errors
/// When the header does not say what it is, or it is something that this engine does not do.
pub(crate) fn from_gguf(file: &Gguf<'_>) -> Result<DecoderConfig, LoadError> {
    let header =
        Header { file, architecture: file.text("general.architecture").unwrap_or_default() };
    let Traits { pairs, biases, head_norms } = header.traits()?;
    let (hidden, heads) = (header.size("embedding_length")?, header.size("attention.head_count")?);
    let head_width =
        header.optional("attention.key_length").unwrap_or_else(|| hidden / heads.max(1));
    header.check_extras(head_width)?;
    // The vocabulary is what the table has rows for; the tokenizer is held against it.
    let vocabulary = match file.shape("token_embd.weight") {
        Some([rows, _]) => *rows,
        Some(_) | None => return Err(header.corrupt("it has no table of tokens".to_owned())),
    };
    let config = DecoderConfig {
        vocabulary,
        hidden,
        layers: header.size("block_count")?,
        heads,
        kv_heads: header.optional("attention.head_count_kv").unwrap_or(heads),
        head_width,
        wide: header.size("feed_forward_length")?,
        epsilon: header.epsilon()?,
        rope: RopeConfig {
            base: header.number("rope.freq_base").unwrap_or(10_000.0),
            scaling: header.scaling(head_width)?,
            pairs,
        },
        context: header.size("context_length")?,
        window: header.optional("attention.sliding_window").filter(|window| *window > 0),
        biases,
        head_norms,
        tied: file.shape("output.weight").is_none(),
    };
    config.check().map_err(|what| header.corrupt(what))?;
    Ok(config)
}

impl Header<'_> {
    fn traits(&self) -> Result<Traits, LoadError> {
        let plain = Traits { pairs: RopePairs::Halves, biases: Biases::None, head_norms: false };
        match self.architecture {
            "llama" => Ok(Traits { pairs: RopePairs::Neighbors, ..plain }),
            "qwen2" => Ok(Traits { biases: Biases::QueryKeyValue, ..plain }),
            "qwen3" => Ok(Traits { head_norms: true, ..plain }),
            other => Err(self.unsupported(format!(
                "the architecture is `{other}`, only llama, qwen2 and qwen3 are supported"
            ))),
        }
    }

    fn check_extras(&self, head_width: usize) -> Result<(), LoadError> {
        if self.optional("expert_count").is_some_and(|experts| experts > 0) {
            return Err(self.unsupported("it has experts, which are not supported".to_owned()));
        }
        if self.optional("rope.dimension_count").is_some_and(|turned| turned != head_width) {
            let what = "only a part of each head is turned by positions".to_owned();
            return Err(self.unsupported(what));
        }
        Ok(())
    }

    /// As many digits as the networks compute with.
    #[expect(clippy::cast_possible_truncation, reason = "see above")]
    fn epsilon(&self) -> Result<f32, LoadError> {
        let epsilon = self.number("attention.layer_norm_rms_epsilon").map(|epsilon| epsilon as f32);
        epsilon.ok_or_else(|| self.corrupt("its header has no epsilon of the norms".to_owned()))
    }

    fn scaling(&self, head_width: usize) -> Result<RopeScaling, LoadError> {
        if self.file.shape(FACTORS).is_some() {
            let factors = self.file.floats(FACTORS, &[head_width / 2])?;
            if factors.iter().all(|factor| *factor > 0.0) {
                return Ok(RopeScaling::Factors(factors));
            }
            let what = format!("tensor {FACTORS} has a number that is not above 0");
            return Err(self.corrupt(what));
        }
        let factor = self.number("rope.scaling.factor");
        match self.file.text(&self.key("rope.scaling.type")) {
            None | Some("none") => Ok(RopeScaling::None),
            Some("linear") if factor.is_none_or(|factor| factor > 0.0 && factor.is_finite()) => {
                Ok(factor.map_or(RopeScaling::None, RopeScaling::Linear))
            }
            Some(other) => {
                let what = format!("positions are scaled by `{other}`, which is not supported");
                Err(self.unsupported(what))
            }
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.file.number(&self.key(name))
    }

    fn optional(&self, name: &str) -> Option<usize> {
        let count = self.file.count(&self.key(name))?;
        Some(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn size(&self, name: &str) -> Result<usize, LoadError> {
        let missing = || self.corrupt(format!("its header has no {}", self.key(name)));
        self.optional(name).ok_or_else(missing)
    }

    fn corrupt(&self, what: String) -> LoadError {
        LoadError::Corrupt { path: self.file.path().to_owned(), what }
    }

    fn unsupported(&self, what: String) -> LoadError {
        LoadError::Unsupported { path: self.file.path().to_owned(), what }
    }
}
