//! The engine that does nothing, for end-to-end tests and for measuring everything around it.

use std::thread;
use std::time::Duration;

use crate::{
    Engine, EngineError, EngineInfo, ItemError, ItemInput, ItemOutput, LoadSeconds, Prepared,
    TaskKind,
};

/// Returns each text as it came, after a fixed time per item.
#[derive(Debug)]
pub struct EchoEngine {
    info: EngineInfo,
    delay_per_item: Duration,
}

impl EchoEngine {
    /// `lanes` is raised to 1 when it is 0.
    pub fn new(model: String, lanes: u32, delay_per_item: Duration) -> Self {
        let info = EngineInfo {
            model,
            task: TaskKind::Echo,
            output_dimensions: None,
            labels: None,
            max_tokens: u32::MAX,
            max_batch_tokens: 16_384,
            weights_bytes: 0,
            weights_sha256: None,
            lanes: lanes.max(1),
            device: "cpu".to_owned(),
            load: LoadSeconds::default(),
        };
        Self { info, delay_per_item }
    }
}

impl Engine for EchoEngine {
    type Prepared = EchoItem;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, input: ItemInput) -> Result<EchoItem, ItemError> {
        match input {
            ItemInput::Text(text) => Ok(EchoItem { text }),
            other @ (ItemInput::Generation(_)
            | ItemInput::Image(_)
            | ItemInput::Caption(_)
            | ItemInput::Faces(_)
            | ItemInput::Recording(_)) => {
                Err(ItemError::wrong_kind(TaskKind::Echo, "text", &other))
            }
        }
    }

    fn run(&self, items: &[&EchoItem]) -> Result<Vec<ItemOutput>, EngineError> {
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let delay = self.delay_per_item.saturating_mul(count);
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        Ok(items.iter().map(|item| ItemOutput::Text(item.text.clone())).collect())
    }
}

/// A text on its way back.
#[derive(Debug)]
pub struct EchoItem {
    text: String,
}

impl Prepared for EchoItem {
    /// About one token per four bytes.
    fn cost(&self) -> u32 {
        u32::try_from(self.text.len() / 4).unwrap_or(u32::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_contract_of_engines() {
        crate::contract::check(EchoEngine::new("echo".to_owned(), 2, Duration::ZERO));
    }
}
