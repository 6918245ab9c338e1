//! Tables. On a terminal, columns are aligned under titles. Elsewhere, a row is a line of values that tabs separate,
//! without titles, for programs such as `cut`.

use std::io::{self, IsTerminal};

use anstyle::Style;
use c3_server::printable::Printable;
use unicode_width::UnicodeWidthStr;

use super::style::{PLAIN, TITLE, paint};
use super::write_line;
use crate::error::CliError;

/// Rows that are collected before the widths of the columns are chosen. Later rows may widen the columns.
const PAGE: usize = 100;
/// Spaces between columns.
const GAP: &str = "  ";

/// Column of a table: its title and the alignment of its values.
pub(crate) type Column = (&'static str, Align);

/// Alignment of the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Value in a row.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    /// Text outside terminals, if it differs.
    plain: Option<String>,
    style: Style,
}

/// Table that is printed page by page.
pub(crate) struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
    rows: Vec<Vec<Cell>>,
    is_terminal: bool,
    has_titles: bool,
}

impl Cell {
    pub(crate) fn new(text: impl ToString) -> Self {
        Self { text: Printable(text.to_string()).to_string(), plain: None, style: PLAIN }
    }

    /// Sets the text that is printed outside terminals, such as an id that terminals show shortened.
    pub(crate) fn plain(self, text: impl ToString) -> Self {
        Self { plain: Some(Printable(text.to_string()).to_string()), ..self }
    }

    pub(crate) fn style(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

impl Table {
    /// Starts a table on standard output.
    pub(crate) fn new(columns: &'static [Column]) -> Self {
        Self::with(columns, io::stdout().is_terminal())
    }

    fn with(columns: &'static [Column], is_terminal: bool) -> Self {
        let widths = columns.iter().map(|(title, _)| title.width()).collect();
        Self { columns, widths, rows: Vec::new(), is_terminal, has_titles: is_terminal }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> Result<(), CliError> {
        self.rows.push(cells.into_iter().collect());
        if self.rows.len() >= PAGE || !self.is_terminal { self.print_page() } else { Ok(()) }
    }

    /// Prints the rows that are left. A table without rows is not printed.
    pub(crate) fn finish(mut self) -> Result<(), CliError> {
        self.print_page()
    }

    fn print_page(&mut self) -> Result<(), CliError> {
        self.page().into_iter().try_for_each(write_line)
    }

    /// Takes the collected rows and returns their lines.
    fn page(&mut self) -> Vec<String> {
        let mut rows = std::mem::take(&mut self.rows);
        if !self.is_terminal {
            let plain = |cell: Cell| cell.plain.unwrap_or(cell.text);
            return rows.into_iter().map(|row| Vec::from_iter(row.into_iter().map(plain)).join("\t")).collect();
        }
        if std::mem::take(&mut self.has_titles) && !rows.is_empty() {
            let title = |(title, _): &Column| Cell::new(title.to_ascii_uppercase()).style(TITLE);
            rows.insert(0, self.columns.iter().map(title).collect());
        }
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[Cell]) -> String {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            let padding = " ".repeat(width - cell.text.width());
            let text = paint(cell.style, &cell.text);
            line += &match self.columns[column].1 {
                Align::Left => text + &padding,
                Align::Right => padding + &text,
            };
            line += GAP;
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[("id", Align::Left), ("bytes", Align::Right), ("name", Align::Left)];

    fn lines(is_terminal: bool) -> Vec<String> {
        let mut table = Table::with(COLUMNS, is_terminal);
        table.rows = vec![
            vec![Cell::new("ab").plain("abcd"), 12.into(), "é\u{1b}".into()],
            vec![Cell::new("cd"), 123_456.into(), "".into()],
        ];
        table.page().iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn a_terminal_gets_aligned_columns_and_a_pipe_gets_tabs() {
        assert_eq!(lines(true), ["ID   BYTES  NAME", "ab      12  é\\u001b", "cd  123456"]);
        assert_eq!(lines(false), ["abcd\t12\té\\u001b", "cd\t123456\t"]);
    }
}
