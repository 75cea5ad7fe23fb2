//! A fleet that never changes.

use crate::fleet::policy::{Orders, Policy, View};

/// `N` instances, always.
#[derive(Debug, Clone, Copy)]
pub struct Static(pub usize);

impl Policy for Static {
    fn name(&self) -> String {
        format!("static N={}", self.0)
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        orders.toward(view, view.on_demand(), self.0);
    }
}
