//! What the child processes say: with their names on the screen, or in files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::terminal::Color;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// A longer line is cut: it is no log line.
const MAX_LINE: usize = 64 << 10;

/// Lines of each process that are remembered, to be shown if it ends unasked.
const TAIL: usize = 12;

/// Names are padded to this, so that the lines below each other begin in one column.
const NAME_WIDTH: usize = 11;

/// Where log lines go.
#[derive(Debug, Clone)]
pub(crate) enum LogTarget {
    /// Standard error, after the process's name; the name may be colored.
    Screen { color: Color },
    /// A file for each process in this folder.
    Folder(PathBuf),
}

/// The log of one process over all its lives. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    tail: VecDeque<String>,
}

#[derive(Debug)]
enum Writer {
    Screen { prefix: String },
    File(File),
}

impl Log {
    /// Opens the log of the process `name`, the `index`th of the fleet.
    pub(crate) fn open(target: &LogTarget, name: &str, index: usize) -> io::Result<Self> {
        let writer = match target {
            LogTarget::Screen { color } => Writer::Screen { prefix: prefix(name, index, *color) },
            LogTarget::Folder(folder) => Writer::File(
                File::options()
                    .create(true)
                    .append(true)
                    .open(folder.join(format!("{name}.log")))?,
            ),
        };
        Ok(Self { shared: Arc::new(Mutex::new(Shared { writer, tail: VecDeque::new() })) })
    }

    /// A new process begins: what the one before said does not explain this one.
    pub(crate) fn begin(&self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).tail.clear();
    }

    /// The last lines of the present process, or of the last one.
    pub(crate) fn tail(&self) -> Vec<String> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.tail.iter().cloned().collect()
    }

    fn write(&self, line: &str) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.tail.len() == TAIL {
            shared.tail.pop_front();
        }
        shared.tail.push_back(line.to_owned());
        // A screen or disk that takes no log must not end the fleet.
        let _ = match &mut shared.writer {
            Writer::Screen { prefix } => {
                let text = format!("{prefix}{line}\n");
                io::stderr().lock().write_all(text.as_bytes())
            }
            Writer::File(file) => file.write_all(format!("{line}\n").as_bytes()),
        };
    }

    /// Copies lines until the process closes its side.
    pub(crate) async fn copy(self, from: impl AsyncRead + Unpin) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(true) = read_line(&mut from, &mut line).await {
            self.write(&String::from_utf8_lossy(&line));
        }
    }
}

fn prefix(name: &str, index: usize, color: Color) -> String {
    const COLORS: [u8; 6] = [36, 33, 32, 35, 34, 31];
    if color == Color::Allowed {
        format!("\x1b[{}m{name:NAME_WIDTH$} |\x1b[0m ", COLORS[index % COLORS.len()])
    } else {
        format!("{name:NAME_WIDTH$} | ")
    }
}

/// Reads a line without its end into `line`; `false` at the end of the input.
async fn read_line(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let available = from.fill_buf().await?;
        if available.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let text = &available[..end.unwrap_or(available.len())];
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(&text[..text.len().min(room)]);
        let used = text.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_go_to_the_file_and_the_last_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let target = LogTarget::Folder(folder.path().to_owned());
        let log = Log::open(&target, "worker-1", 1).unwrap();
        let text = "a line\n".repeat(20);
        log.clone().copy(text.as_bytes()).await;
        log.clone().copy(&b"not \xff text, no end"[..]).await;
        let written = std::fs::read_to_string(folder.path().join("worker-1.log")).unwrap();
        assert_eq!(written.lines().count(), 21);
        assert_eq!(log.tail().len(), TAIL);
        assert_eq!(log.tail().last().unwrap(), "not \u{fffd} text, no end");
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let target = LogTarget::Folder(folder.path().to_owned());
        let log = Log::open(&target, "w", 0).unwrap();
        let input = [vec![b'x'; 3 * MAX_LINE], b"\nnext\n".to_vec()].concat();
        log.clone().copy(input.as_slice()).await;
        assert_eq!(log.tail().iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 4]);
    }

    #[test]
    fn names_line_up_with_and_without_color() {
        assert_eq!(prefix("worker-1", 1, Color::Forbidden), "worker-1    | ");
        assert_eq!(prefix("coordinator", 0, Color::Allowed), "\x1b[36mcoordinator |\x1b[0m ");
    }
}
