//! Aligned tables of plain text.

/// On which side a column's values are flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) align: Align,
    /// Columns with the greatest rank go first where the table is too wide; 0 stays.
    pub(super) rank: u8,
}

pub(super) const fn left(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        align: Align::Left,
        rank,
    }
}

pub(super) const fn right(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        align: Align::Right,
        rank,
    }
}

/// A table; each row has as many cells as there are columns.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

const INDENT: usize = 2;
const GAP: usize = 2;

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Its lines, the titles first, in at most `width` columns as far as leaving columns out helps.
    pub(super) fn lines(mut self, width: Option<usize>) -> Vec<String> {
        let mut widths = self.widths();
        while let Some(width) = width
            && total(&widths) > width
            && let Some(index) = self.most_dispensable()
        {
            self.columns.remove(index);
            for row in &mut self.rows {
                if index < row.len() {
                    row.remove(index);
                }
            }
            widths = self.widths();
        }
        let titles = self.columns.iter().map(|column| column.title.to_owned());
        let titles: Vec<String> = titles.collect();
        std::iter::once(&titles)
            .chain(&self.rows)
            .map(|row| line(row, &self.columns, &widths))
            .collect()
    }

    fn most_dispensable(&self) -> Option<usize> {
        let ranked = self.columns.iter().enumerate();
        ranked
            .filter(|(_, column)| column.rank > 0)
            .max_by_key(|(_, column)| column.rank)
            .map(|(index, _)| index)
    }

    fn widths(&self) -> Vec<usize> {
        let widest = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let cells = cells.map(|cell| cell.chars().count());
            cells.chain([column.title.len()]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(widest).collect()
    }
}

fn total(widths: &[usize]) -> usize {
    INDENT + widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

fn line(row: &[String], columns: &[Column], widths: &[usize]) -> String {
    let mut line = " ".repeat(INDENT);
    for (index, ((cell, column), width)) in row.iter().zip(columns).zip(widths).enumerate() {
        if index > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        match column.align {
            Align::Left => line.extend([cell, padding.as_str()]),
            Align::Right => line.extend([padding.as_str(), cell]),
        }
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[left("NAME", 0), right("COUNT", 2), right("RATE", 1)]);
        for (name, count, rate) in [("a", "1,000", "1"), ("longer", "2", "20")] {
            table.row(vec![name.to_owned(), count.to_owned(), rate.to_owned()]);
        }
        table
    }

    #[test]
    fn columns_are_aligned() {
        let expected = [
            "  NAME    COUNT  RATE",
            "  a       1,000     1",
            "  longer      2    20",
        ];
        assert_eq!(table().lines(None), expected);
        assert_eq!(table().lines(Some(21)), expected);
    }

    #[test]
    fn the_least_needed_columns_go_where_there_is_no_room() {
        assert_eq!(
            table().lines(Some(20)),
            ["  NAME    RATE", "  a          1", "  longer    20"]
        );
        assert_eq!(table().lines(Some(1)), ["  NAME", "  a", "  longer"]);
    }
}
