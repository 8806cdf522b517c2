//! Tables, as text and page show them.

use std::borrow::Cow;

use super::wrap::wrap;

/// What a column has, and thus how it looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Text,
    /// Text that may be broken into lines: only the last column.
    Prose,
    /// A name or value as a shell takes it.
    Code,
    Number,
    /// 0 to 1, with the thresholds of its meter.
    Ratio {
        warning: f64,
        critical: f64,
    },
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

pub(super) const fn column(title: &'static str, kind: Kind, rank: u8) -> Column {
    Column { title, kind, rank }
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
const INDENT: usize = 2;
const GAP: usize = 2;
/// Prose is not made narrower than this.
const MIN_PROSE: usize = 24;

impl Table {
    pub(super) fn new(title: &'static str, caption: impl Into<String>, columns: &[Column]) -> Self {
        Self {
            title,
            caption: caption.into(),
            columns: columns.to_vec(),
            rows: Vec::new(),
            note: None,
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The name for links within the page.
    pub(crate) fn anchor(&self) -> String {
        self.title.to_lowercase().replace(' ', "-")
    }

    /// Its lines as text, the titles first, in at most `width` columns as far as leaving columns out helps.
    pub(super) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut order: Vec<usize> = (0..self.columns.len()).collect();
        // Names of rows are long: behind the numbers these stay aligned.
        if self
            .columns
            .iter()
            .any(|column| matches!(column.kind, Kind::Ratio { .. }))
        {
            order.rotate_left(1);
        }
        let mut widths = self.widths(&order);
        while let Some(width) = width
            && total(&widths) > width
            && let Some(place) = self.least_needed(&order)
        {
            let is_prose = |index| self.kind(index) == Some(Kind::Prose);
            let room = width.saturating_sub(total(&widths) - widths.last().unwrap_or(&0));
            if order.last().is_some_and(|last| is_prose(*last)) && room >= MIN_PROSE {
                widths.pop();
                widths.push(room);
                break;
            }
            order.remove(place);
            widths.remove(place);
        }
        let titles = order
            .iter()
            .map(|index| self.title_of(*index).to_uppercase());
        let mut lines = line(titles.map(Cow::Owned), &self.columns, &order, &widths);
        for row in &self.rows {
            let cells = order.iter().map(|index| self.text(row, *index));
            lines.extend(line(cells, &self.columns, &order, &widths));
        }
        lines
    }

    fn kind(&self, index: usize) -> Option<Kind> {
        self.columns.get(index).map(|column| column.kind)
    }

    fn title_of(&self, index: usize) -> &'static str {
        self.columns.get(index).map_or("", |column| column.title)
    }

    fn text<'a>(&self, row: &'a [Cell], index: usize) -> Cow<'a, str> {
        let text = row.get(index).map_or("", |cell| &*cell.text);
        match self.kind(index) {
            Some(Kind::Code) if text.is_empty() => "(none)".into(),
            Some(Kind::Code) if text.chars().count() > MAX_CODE => {
                let kept: String = text.chars().take(MAX_CODE - 1).collect();
                format!("{kept}…").into()
            }
            _ => text.into(),
        }
    }

    fn least_needed(&self, order: &[usize]) -> Option<usize> {
        let rank = |index: usize| self.columns.get(index).map_or(0, |column| column.rank);
        let ranked = order
            .iter()
            .enumerate()
            .map(|(place, index)| (place, rank(*index)));
        let needless = ranked.filter(|(_, rank)| *rank > 0);
        needless
            .max_by_key(|(_, rank)| *rank)
            .map(|(place, _)| place)
    }

    fn widths(&self, order: &[usize]) -> Vec<usize> {
        let widest = |index: &usize| {
            let cells = self
                .rows
                .iter()
                .map(|row| self.text(row, *index).chars().count());
            cells
                .chain([self.title_of(*index).len()])
                .max()
                .unwrap_or(0)
        };
        order.iter().map(widest).collect()
    }
}

fn total(widths: &[usize]) -> usize {
    INDENT + widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// One row, in several lines if its last cell is too long.
fn line<'a>(
    cells: impl Iterator<Item = Cow<'a, str>>,
    columns: &[Column],
    order: &[usize],
    widths: &[usize],
) -> Vec<String> {
    let mut line = " ".repeat(INDENT);
    let mut rest = Vec::new();
    for (place, ((cell, index), width)) in cells.zip(order).zip(widths).enumerate() {
        if place > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        let kind = columns.get(*index).map(|column| column.kind);
        if kind == Some(Kind::Prose) {
            let margin = line.chars().count();
            let wrapped = wrap(&cell, margin + width, margin);
            let mut lines = wrapped.lines();
            line.push_str(lines.next().unwrap_or_default().trim_start());
            rest.extend(lines.map(str::to_owned));
            continue;
        }
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        match kind {
            Some(Kind::Number | Kind::Ratio { .. }) => line.extend([&*padding, &*cell]),
            _ => line.extend([&*cell, &*padding]),
        }
    }
    line.truncate(line.trim_end().len());
    std::iter::once(line).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[Column]) -> Table {
        let mut table = Table::new("Any", "", columns);
        for cells in [["a", "1,000", "1"], ["longer", "2", "20"]] {
            table.row(cells.map(Cell::from));
        }
        table
    }

    #[test]
    fn columns_are_aligned() {
        let table = table(&[
            column("Name", Kind::Text, 0),
            column("Count", Kind::Number, 2),
            column("Rate", Kind::Number, 1),
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
        let ratio = Kind::Ratio {
            warning: 0.5,
            critical: 1.0,
        };
        let table = table(&[
            column("Name", Kind::Text, 0),
            column("Count", Kind::Number, 0),
            column("Ratio", ratio, 0),
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
    fn prose_is_broken_into_lines_in_its_own_column() {
        let mut table = Table::new(
            "Any",
            "",
            &[
                column("Name", Kind::Code, 0),
                column("Meaning", Kind::Prose, 1),
            ],
        );
        let words = "one two three four five six seven eight nine ten eleven";
        table.row(["".into(), words.into()]);
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
