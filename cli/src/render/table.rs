//! Columns for people: plain text without lines or color, aligned, easy to cut and grep.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::text::clean;

/// A column's heading and how its cells stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    alignment: CellAlignment,
}

/// A column of words.
pub(crate) const fn left(title: &'static str) -> Column {
    Column { title, alignment: CellAlignment::Left }
}

/// A column of numbers.
pub(crate) const fn right(title: &'static str) -> Column {
    Column { title, alignment: CellAlignment::Right }
}

/// A heading and a line for each row, each of which ends with a newline.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = bare();
    table.set_header(columns.iter().map(|column| column.title));
    fill(&mut table, rows);
    for (index, column) in columns.iter().enumerate() {
        if let Some(shown) = table.column_mut(index) {
            shown.set_cell_alignment(column.alignment);
        }
    }
    trimmed(&table)
}

/// Names and values, one pair a line.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = bare();
    let rows = pairs.into_iter().map(|(name, value)| vec![format!("{name}:"), value]);
    fill(&mut table, rows);
    trimmed(&table)
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Every cell is on one line and cannot control the terminal.
fn fill(table: &mut Table, rows: impl IntoIterator<Item = Vec<String>>) {
    for row in rows {
        table.add_row(row.iter().map(|cell| clean(cell).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
}

/// No spaces at the end of a line: they would be copied along.
fn trimmed(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A dash where there is nothing to show.
pub(crate) fn or_dash(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_trimmed() {
        let rows = vec![vec!["echo".into(), "12".into()], vec!["a\nb".into(), "3".into()]];
        assert_eq!(
            table(&[left("MODEL"), right("JOBS")], rows),
            "MODEL  JOBS\necho     12\na\\nb      3\n"
        );
    }

    #[test]
    fn pairs_line_up() {
        let text = pairs([("id", "7".to_owned()), ("state", "queued".to_owned())]);
        assert_eq!(text, "id:     7\nstate:  queued\n");
    }
}
