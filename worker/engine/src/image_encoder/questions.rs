//! What images are compared with: the labels of jobs, read once for all images of a job.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stoker_core::zero_shot;
use stoker_engine_api::{ItemError, Question};

use crate::tokens::TextTokenizer;
use crate::towers::{End, TextTower};

/// Questions that are kept for images to come. Each has at most a thousand labels.
const KEPT: usize = 16;

/// The questions that were asked lately.
pub(super) struct Questions {
    tokenizer: TextTokenizer,
    end: End,
    /// The one that was asked last stands last.
    kept: Mutex<Vec<(Question, Arc<Asked>)>>,
}

/// A vector for each label.
type Vectors = Arc<Vec<Vec<f32>>>;

/// Labels, ready to be read by the network.
#[derive(Debug)]
pub(crate) struct Asked {
    /// A sentence for each label, as token ids.
    sentences: Vec<Vec<u32>>,
    /// What the network made of them.
    vectors: Mutex<Option<Vectors>>,
}

impl Questions {
    pub(super) const fn new(tokenizer: TextTokenizer, end: End) -> Self {
        Self { tokenizer, end, kept: Mutex::new(Vec::new()) }
    }

    /// The question as it was asked before, if it was.
    ///
    /// # Errors
    /// When a label is longer than the network reads, or nothing that is known.
    pub(super) fn ask(&self, question: &Question) -> Result<Arc<Asked>, ItemError> {
        let mut kept = locked(&self.kept);
        let found = match kept.iter().position(|(known, _)| known == question) {
            Some(place) => kept.remove(place),
            None => (question.clone(), Arc::new(self.read(question)?)),
        };
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        let asked = Arc::clone(&found.1);
        kept.push(found);
        Ok(asked)
    }

    fn read(&self, question: &Question) -> Result<Asked, ItemError> {
        let Question { labels, template } = question;
        let problem = zero_shot::labels_problem(labels).map(|problem| format!("labels: {problem}"));
        let problem = problem.or_else(|| {
            zero_shot::template_problem(template).map(|problem| format!("the template {problem}"))
        });
        if let Some(message) = problem {
            return Err(ItemError::Invalid { message });
        }
        let sentences = labels.iter().map(|label| self.sentence(template, label));
        Ok(Asked { sentences: sentences.collect::<Result<_, _>>()?, vectors: Mutex::new(None) })
    }

    fn sentence(&self, template: &str, label: &str) -> Result<Vec<u32>, ItemError> {
        let tokens = self.tokenizer.encode(&zero_shot::sentence(template, label))?;
        let problem = if tokens.truncated {
            "with its template is longer than the model reads"
        } else if self.end.of(&tokens.ids).is_none() {
            "has no end that the model knows"
        } else {
            return Ok(tokens.ids);
        };
        Err(ItemError::Invalid { message: format!("the label `{label}` {problem}") })
    }
}

impl Asked {
    /// A vector for each label. Others who ask at the same time wait for the first.
    ///
    /// # Errors
    /// When the network fails; the next who asks tries again.
    pub(super) fn vectors(&self, text: &TextTower) -> candle_core::Result<Vectors> {
        let mut vectors = locked(&self.vectors);
        if let Some(known) = &*vectors {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(text.vectors(&self.sentences)?);
        *vectors = Some(Arc::clone(&read));
        Ok(read)
    }
}

/// What is kept is whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
