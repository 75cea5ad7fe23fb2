//! The terminal while it shows the dashboard, and as it was before when that is over.

use std::io;

use ratatui::DefaultTerminal;

use super::{View, draw};

/// The terminal in raw mode, with a screen of its own. It is given back when this is dropped, and before a panic
/// says anything.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When standard output is no terminal that can do this; it is left as it was.
    pub(crate) fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                // It may have come half way.
                ratatui::restore();
                Err(error)
            }
        }
    }

    /// Shows the view, in the terminal's present size.
    pub(crate) fn draw(&mut self, view: &View<'_>) -> io::Result<()> {
        self.terminal.draw(|frame| draw(view, frame)).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
