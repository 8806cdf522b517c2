//! Tables, as text and page show them.

use super::wrap::{shortened, wrap};

/// What a column has, and thus how it looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Text,
    /// Text that may be broken into lines: only the last column.
    Prose,
    /// A name or value as a shell takes it.
    Code,
    Number,
    /// 0 to 1, with the thresholds of its meter: warning and critical.
    Ratio(f64, f64),
    /// A state in capitals.
    State,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    /// In a narrow terminal columns with the highest rank go first; 0 stays.
    rank: u8,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    /// For a meter.
    pub(crate) ratio: Option<f64>,
    /// The section of the page that this cell links to.
    pub(crate) section: Option<usize>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

/// A table; each row has as many cells as there are columns, the first one names the row.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) caption: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// What is not in it.
    pub(crate) note: Option<String>,
}

/// Longer values are cut in a terminal.
const MAX_CODE: usize = 26;
/// Before each column.
const GAP: &str = "  ";
/// Prose is not made narrower than this.
const MIN_PROSE: usize = 24;

/// A column in a terminal.
struct Shown {
    column: Column,
    /// The title first.
    cells: Vec<String>,
    width: usize,
}

/// A table with a row for each item, to which columns are added.
pub(super) struct TableOf<T> {
    items: Vec<T>,
    pub(super) table: Table,
}

impl<T> TableOf<T> {
    pub(super) fn new(
        title: &'static str,
        caption: impl Into<String>,
        items: impl IntoIterator<Item = T>,
    ) -> Self {
        let items: Vec<T> = items.into_iter().collect();
        let table = Table {
            title,
            caption: caption.into(),
            columns: Vec::new(),
            rows: vec![Vec::new(); items.len()],
            note: None,
        };
        Self { items, table }
    }

    pub(super) fn column<C: Into<Cell>>(
        mut self,
        kind: Kind,
        title: &'static str,
        rank: u8,
        cell: impl Fn(&T) -> C,
    ) -> Self {
        self.table.columns.push(Column { title, kind, rank });
        for (row, item) in self.table.rows.iter_mut().zip(&self.items) {
            row.push(cell(item).into());
        }
        self
    }
}

impl Table {
    /// The name for links within the page.
    pub(crate) fn anchor(&self) -> String {
        self.title.to_lowercase().replace(' ', "-")
    }

    /// Its lines as text, the titles first, in at most `width` columns as far as leaving columns out helps.
    pub(super) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let columns = self.columns.iter().enumerate();
        let columns = columns.map(|(index, column)| self.shown(index, *column));
        let mut shown: Vec<Shown> = columns.collect();
        // Names of rows are long: behind the numbers these stay aligned.
        let is_ratio = |one: &Shown| matches!(one.column.kind, Kind::Ratio(..));
        if shown.iter().any(is_ratio) {
            shown.rotate_left(1);
        }
        let total = |shown: &[Shown]| shown.iter().map(|one| GAP.len() + one.width).sum::<usize>();
        let width = width.unwrap_or(usize::MAX);
        while total(&shown) > width {
            let excess = total(&shown) - width;
            if let Some(last) = shown.last_mut()
                && last.column.kind == Kind::Prose
                && last.width >= excess + MIN_PROSE
            {
                last.width -= excess;
                break;
            }
            let ranks = shown.iter().map(|one| one.column.rank).enumerate();
            let needless = ranks.filter(|(_, rank)| *rank > 0);
            let Some((place, _)) = needless.max_by_key(|(_, rank)| *rank) else {
                break;
            };
            shown.remove(place);
        }
        let rows: Vec<String> = (0..=self.rows.len()).map(|row| line(&shown, row)).collect();
        rows.join("\n").lines().map(str::to_owned).collect()
    }

    fn shown(&self, index: usize, column: Column) -> Shown {
        let cells = self.rows.iter().filter_map(|row| row.get(index));
        let cells = cells.map(|cell| match column.kind {
            Kind::Code if cell.text.is_empty() => "(none)".to_owned(),
            Kind::Code => shortened(&cell.text, MAX_CODE),
            _ => cell.text.clone(),
        });
        let mut cells: Vec<String> = cells.collect();
        cells.insert(0, column.title.to_uppercase());
        let width = cells.iter().map(|cell| cell.chars().count()).max();
        Shown {
            column,
            cells,
            width: width.unwrap_or(0),
        }
    }
}

/// One row, in several lines if its last cell is too long.
fn line(shown: &[Shown], row: usize) -> String {
    let mut line = String::new();
    for one in shown {
        line.push_str(GAP);
        let (width, margin) = (one.width, line.chars().count());
        let cell = one.cells.get(row).map_or("", String::as_str);
        let text = match one.column.kind {
            Kind::Prose => wrap(cell, margin + width, margin).trim_start().to_owned(),
            Kind::Number | Kind::Ratio(..) => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        };
        line.push_str(&text);
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: [(Kind, &'static str, u8); 3]) -> Table {
        let rows = [("a", "1,000", "1"), ("longer", "2", "20")];
        let [first, second, third] = columns;
        TableOf::new("Any", "", rows)
            .column(first.0, first.1, first.2, |row| row.0)
            .column(second.0, second.1, second.2, |row| row.1)
            .column(third.0, third.1, third.2, |row| row.2)
            .table
    }

    #[test]
    fn columns_are_aligned() {
        let table = table([
            (Kind::Text, "Name", 0),
            (Kind::Number, "Count", 2),
            (Kind::Number, "Rate", 1),
        ]);
        let expected = [
            "  NAME    COUNT  RATE",
            "  a       1,000     1",
            "  longer      2    20",
        ];
        assert_eq!(table.lines(None), expected);
        assert_eq!(table.lines(Some(21)), expected);
        assert_eq!(
            table.lines(Some(20)),
            ["  NAME    RATE", "  a          1", "  longer    20"]
        );
        assert_eq!(table.lines(Some(1)), ["  NAME", "  a", "  longer"]);
    }

    #[test]
    fn names_follow_the_numbers_where_there_are_ratios() {
        let ratio = Kind::Ratio(0.5, 1.0);
        let table = table([
            (Kind::Text, "Name", 0),
            (Kind::Number, "Count", 0),
            (ratio, "Ratio", 0),
        ]);
        assert_eq!(
            table.lines(None),
            [
                "  COUNT  RATIO  NAME",
                "  1,000      1  a",
                "      2     20  longer"
            ]
        );
    }

    #[test]
    fn prose_is_wrapped_in_its_own_column() {
        let words = "one two three four five six seven eight nine ten eleven";
        let table = TableOf::new("Any", "", [words])
            .column(Kind::Code, "Name", 0, |_| "")
            .column(Kind::Prose, "Meaning", 1, |words| *words)
            .table;
        assert_eq!(
            table.lines(Some(40)),
            [
                "  NAME    MEANING",
                "  (none)  one two three four five six",
                "          seven eight nine ten eleven",
            ]
        );
    }
}
