//! Lays out records and lists as text.
//!
//! At a terminal, the text fits the terminal's width: cells wrap between words, and a list that is
//! still too wide becomes a sequence of records. No value is cut, and no word is split, so a token
//! or an id can be copied in one piece. If standard output is not a terminal, nothing wraps.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use comfy_table::{ColumnConstraint::Absolute, Table, Width::Fixed, presets::NOTHING};
use terminal_size::terminal_size_of;
use unicode_width::UnicodeWidthStr;
use zeroize::Zeroizing;

/// The number of spaces between two columns.
const GAP: u16 = 2;

/// The style of the names of fields.
const NAME: Style = Style::new().bold();

/// Lays out a record: a row for each name and its value.
pub(super) fn record(fields: &[(&str, String)]) -> Zeroizing<String> {
    let names = fields.iter().map(|(name, _)| name.width());
    let words = fields.iter().map(|(_, value)| longest_word(value, ' '));
    let (names, words) = (names.max().unwrap_or(0), words.max().unwrap_or(0));
    let mut table = Table::new();
    table.add_rows(fields.iter().map(|(name, value)| [*name, value.as_str()]));
    if let Some(width) = terminal_width() {
        let values = width.saturating_sub(names + usize::from(GAP));
        set_widths(&mut table, &[names, values.max(words)]);
    }
    let lines = lines(&mut table).map(|line| {
        let (name, value) = line.split_at(names.min(line.len()));
        let colour = colour(name.trim_end(), value.trim_start());
        styled(NAME, name) + &styled(colour, value)
    });
    lines.collect::<Vec<_>>().join("\n").into()
}

/// Lays out a list: a row with the names, and a row for each record.
pub(super) fn list(names: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.set_header(names.iter().copied()).add_rows(rows);
    if let Some(width) = terminal_width() {
        let widest = |measure: fn(&str, char) -> usize| -> Vec<usize> {
            let names = names.iter().enumerate();
            let widths = names.map(|(at, name)| {
                let cells = rows.iter().map(|row| measure(&row[at], delimiter(name)));
                cells.fold(name.width(), usize::max)
            });
            widths.collect()
        };
        let mut widths = widest(longest_word);
        let needed = widths.iter().sum::<usize>() + usize::from(GAP) * (names.len() - 1);
        if needed > width && names.len() > 1 && !rows.is_empty() {
            let records = rows.iter().map(|row| {
                let fields = names.iter().copied().zip(row.iter().cloned());
                record(&fields.collect::<Vec<_>>()).to_string()
            });
            return records.collect::<Vec<_>>().join("\n\n");
        }
        // The columns get the spare width from left to right.
        let mut spare = width.saturating_sub(needed);
        for (column, full) in widths.iter_mut().zip(widest(|text, _| text.width())) {
            let more = spare.min(full - *column);
            *column += more;
            spare -= more;
        }
        set_widths(&mut table, &widths);
    }
    for (column, name) in table.column_iter_mut().zip(names) {
        column.set_delimiter(delimiter(name));
    }
    let lines = lines(&mut table).enumerate();
    let lines = lines.map(|(at, line)| if at == 0 { styled(NAME, &line) } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the character at which the values of a field may wrap. A time wraps between the date and
/// the time of day.
fn delimiter(name: &str) -> char {
    let is_time = name.ends_with("At") || name.ends_with("_at") || name == "expiration_date";
    if is_time { 'T' } else { ' ' }
}

fn longest_word(text: &str, delimiter: char) -> usize {
    let words = text.split(delimiter).map(UnicodeWidthStr::width);
    words.max().unwrap_or(0)
}

/// Returns the colour of a value: whether a token is valid.
fn colour(name: &str, value: &str) -> Style {
    let colour = match (name, value) {
        ("active", "true") | ("state", "active") => AnsiColor::Green,
        ("active", "false") | ("state", _) => AnsiColor::Red,
        _ => return Style::new(),
    };
    colour.on_default()
}

/// Returns the text in this style, if standard output shows styles.
fn styled(style: Style, text: &str) -> String {
    if style.is_plain() || AutoStream::choice(&io::stdout()) == ColorChoice::Never {
        return text.to_owned();
    }
    format!("{style}{text}{style:#}")
}

/// Returns the terminal's width, or `None` if standard output is not a terminal.
fn terminal_width() -> Option<usize> {
    terminal_size_of(io::stdout()).map(|(width, _)| width.0.into())
}

fn set_widths(table: &mut Table, widths: &[usize]) {
    for (column, width) in table.column_iter_mut().zip(widths) {
        let width = u16::try_from(*width).unwrap_or(u16::MAX);
        column.set_constraint(Absolute(Fixed(width.saturating_add(GAP))));
    }
}

/// Returns the table's lines, without borders.
fn lines(table: &mut Table) -> impl Iterator<Item = String> {
    table.load_style(NOTHING);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.lines().map(|line| line.trim_end().to_owned())
}
