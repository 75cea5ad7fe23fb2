//! A table of a recorded trace: comma-separated cells with a line of names, and errors that say where.

use std::fs;
use std::path::{Path, PathBuf};

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("reading the trace {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} has no column `{column}`; it has: {columns}")]
    Column { path: PathBuf, column: String, columns: String },
    #[error("{path} has no rows")]
    NoRows { path: PathBuf },
    #[error("{path}, line {line}: `{text}` is not a number")]
    Number { path: PathBuf, line: usize, text: String },
    #[error("{path}, line {line}: {what}")]
    Row { path: PathBuf, line: usize, what: String },
    #[error("{path}: {what}")]
    File { path: PathBuf, what: String },
}

/// A file of comma-separated cells with a line of names.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    /// Each with the number of its line, from 1.
    rows: Vec<(usize, Vec<String>)>,
}

impl Table {
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let text = fs::read_to_string(path)
            .map_err(|source| TraceError::Read { path: path.to_owned(), source })?;
        Ok(Self::parse(path, &text))
    }

    /// Takes the text of a file; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Self {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let split = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect();
        let mut rows = lines.map(|(at, line)| (at + 1, split(line)));
        let names = rows.next().map(|(_, names)| names).unwrap_or_default();
        Self { path: path.to_owned(), names, rows: rows.collect() }
    }

    /// Names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn has(&self, column: &str) -> bool {
        self.names.iter().any(|name| name == column)
    }

    /// Says which of these columns is missing.
    pub fn needs(&self, columns: &[&str]) -> Result<(), TraceError> {
        match columns.iter().find(|column| !self.has(column)) {
            None => Ok(()),
            Some(column) => Err(TraceError::Column {
                path: self.path.clone(),
                column: (*column).to_owned(),
                columns: self.names.join(", "),
            }),
        }
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|(line, cells)| Row { table: self, line: *line, cells })
    }

    /// A column as numbers, one in each row.
    pub fn column(&self, name: &str) -> Result<Vec<f64>, TraceError> {
        self.needs(&[name])?;
        let number = |row: Row<'_>| match row.number(name)? {
            Some(number) => Ok(number),
            None => Err(row.wrong(&format!("`{name}` is empty"))),
        };
        self.rows().map(number).collect()
    }

    /// An error about the whole file.
    pub fn wrong(&self, what: &str) -> TraceError {
        TraceError::File { path: self.path.clone(), what: what.to_owned() }
    }

    /// Starts of intervals in seconds, each after the one before, and what a column says of each: at least 0.
    pub fn intervals(&self, column: &str) -> Result<(Vec<f64>, Vec<f64>), TraceError> {
        let (at, values) = (self.column("t_s")?, self.column(column)?);
        if at.is_empty() {
            return Err(TraceError::NoRows { path: self.path.clone() });
        }
        let mut before = f64::NEG_INFINITY;
        for (row, (at, value)) in self.rows().zip(at.iter().zip(&values)) {
            if *at < 0.0 {
                return Err(row.wrong("`t_s` is below 0"));
            }
            if *at <= before {
                return Err(row.wrong("`t_s` is not after that of the row before"));
            }
            if *value < 0.0 {
                return Err(row.wrong(&format!("`{column}` is below 0")));
            }
            before = *at;
        }
        Ok((at, values))
    }
}

/// A row of a table.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    table: &'a Table,
    line: usize,
    cells: &'a [String],
}

impl<'a> Row<'a> {
    /// A cell; `None` where it is empty or missing.
    pub fn cell(&self, column: &str) -> Option<&'a str> {
        let at = self.table.names.iter().position(|name| name == column)?;
        self.cells.get(at).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A cell that must not be empty.
    pub fn text(&self, column: &str) -> Result<&'a str, TraceError> {
        self.cell(column).ok_or_else(|| self.wrong(&format!("`{column}` is empty")))
    }

    /// A cell as a number.
    pub fn number(&self, column: &str) -> Result<Option<f64>, TraceError> {
        let Some(text) = self.cell(column) else { return Ok(None) };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(TraceError::Number {
                path: self.table.path.clone(),
                line: self.line,
                text: text.to_owned(),
            }),
        }
    }

    /// An error about this row.
    pub fn wrong(&self, what: &str) -> TraceError {
        let (path, line) = (self.table.path.clone(), self.line);
        TraceError::Row { path, line, what: what.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table::parse(Path::new("trace.csv"), text)
    }

    #[test]
    fn lines_are_counted_as_an_editor_counts_them() {
        let error = table("t_s,rate\n\n0,1\n\n60,x\n").column("rate").unwrap_err();
        assert_eq!(error.to_string(), "trace.csv, line 5: `x` is not a number");
    }

    #[test]
    fn what_is_wrong_with_intervals_is_said_with_file_and_line() {
        for (text, said) in [
            ("t_s\n0\n", "trace.csv has no column `rate`; it has: t_s"),
            ("t_s,rate\n", "trace.csv has no rows"),
            ("t_s,rate\n0,1\n60\n", "trace.csv, line 3: `rate` is empty"),
            ("t_s,rate\n0,inf\n", "trace.csv, line 2: `inf` is not a number"),
            ("t_s,rate\n0,-1\n", "trace.csv, line 2: `rate` is below 0"),
            ("t_s,rate\n-5,1\n", "trace.csv, line 2: `t_s` is below 0"),
            (
                "t_s,rate\n60,1\n60,1\n",
                "trace.csv, line 3: `t_s` is not after that of the row before",
            ),
        ] {
            assert_eq!(table(text).intervals("rate").unwrap_err().to_string(), said);
        }
    }
}
