//! Where words go: data to standard output, everything else to standard error.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;
use crate::render::text::clean;

/// How data are written: for people, or for programs as one JSON document (one per line where
/// there is no end to wait for).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Json,
}

/// Both outputs of the process.
#[derive(Debug)]
pub(crate) struct Terminal {
    format: OutputFormat,
    out: BufWriter<Stdout>,
    people_read_out: bool,
    people_read_err: bool,
    color: Color,
}

/// Whether color may be used where it helps; it never says anything that words do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Color {
    Allowed,
    /// By `NO_COLOR`, or because no terminal would show it.
    Forbidden,
}

impl Terminal {
    pub(crate) fn new(format: OutputFormat, color: Color) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        Self {
            format,
            color,
            people_read_out: out.is_terminal(),
            people_read_err: err.is_terminal(),
            out: BufWriter::new(out),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Whether a person looks at the data.
    pub(crate) const fn out_is_terminal(&self) -> bool {
        self.people_read_out
    }

    /// Whether a person looks at the messages.
    pub(crate) const fn err_is_terminal(&self) -> bool {
        self.people_read_err
    }

    /// Whether messages may be colored.
    pub(crate) fn color(&self) -> Color {
        if self.people_read_err { self.color } else { Color::Forbidden }
    }

    /// Standard output, buffered until [`Terminal::flush`].
    pub(crate) const fn out(&mut self) -> &mut BufWriter<Stdout> {
        &mut self.out
    }

    /// Writes a line of data.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    /// Writes data as they are.
    pub(crate) fn block(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Writes a JSON document for programs to read: indented when a person looks on.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        if self.people_read_out {
            serde_json::to_writer_pretty(&mut self.out, value).map_err(io::Error::from)?;
        } else {
            serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        }
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// Writes one JSON document on one line and lets the reader see it at once.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        self.flush()
    }

    /// Lets the reader see what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush()?;
        Ok(())
    }

    /// Writes what is still buffered.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// Says something that is not data, on standard error.
pub(crate) fn note(text: &str) {
    let line = format!("{}\n", clean(text));
    // If standard error is gone there is nobody to tell.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
