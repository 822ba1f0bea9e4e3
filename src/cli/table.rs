//! Text in columns.

use std::fmt::Write as _;

use super::output::{Colour, Paint};

/// One cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) colour: Colour,
    pub(super) side: Side,
}

/// To which side of its column a text keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Cell {
    pub(super) fn left(text: impl Into<String>, colour: Colour) -> Cell {
        Cell { text: text.into(), colour, side: Side::Left }
    }

    pub(super) fn right(text: impl Into<String>, colour: Colour) -> Cell {
        Cell { text: text.into(), colour, side: Side::Right }
    }
}

/// Rows with their columns aligned, two spaces between them, none at a line's end.
pub(super) fn aligned(rows: &[Vec<Cell>], paint: Paint) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|it| it.text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let space = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let text = paint.paint(cell.colour, &cell.text);
            // Writing to a string cannot fail.
            let _ = match cell.side {
                Side::Left => write!(line, "{text}{space}  "),
                Side::Right => write!(line, "{space}{text}  "),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
