//! Markdown: tables, and the page that they stand in.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::measure::Figure;

const BEGIN: &str = "<!-- begin: written by benches/peers -->\n";
const END: &str = "<!-- end: written by benches/peers -->\n";

/// Puts `text` in between the two markers of `page`.
pub fn replace(page: &Path, text: &str) -> io::Result<()> {
    let old = fs::read_to_string(page)?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "the page has lost its markers");
    let (before, rest) = old.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    fs::write(page, format!("{before}{BEGIN}\n{text}\n{END}{after}"))
}

/// A table of one contest, `unit` being what is measured in it.
pub fn figures(unit: &str, figures: &[Figure]) -> String {
    let mut rows = vec![[unit, "best", "median", "spread", "ratio"].map(String::from)];
    rows.extend(figures.iter().map(|figure| {
        [
            figure.name.clone(),
            nanos(figure.best),
            nanos(figure.median),
            format!("{:.0} %", figure.spread * 100.0),
            ratio(figure.ratio),
        ]
    }));
    table(&rows)
}

/// A table of which the first row is the head. The first column is text, the others are numbers.
pub fn table(rows: &[impl AsRef<[String]>]) -> String {
    let mut text = String::new();
    for (n, row) in rows.iter().map(AsRef::as_ref).enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if n == 0 {
            let _ = writeln!(text, "|---|{}", "--:|".repeat(row.len() - 1));
        }
    }
    text
}

/// Two digits that mean something.
fn ratio(ratio: f64) -> String {
    match ratio {
        ..0.095 => format!("{ratio:.2}"),
        ..9.95 => format!("{ratio:.1}"),
        _ => format!("{ratio:.0}"),
    }
}

/// Three digits that mean something.
fn nanos(nanos: f64) -> String {
    match nanos {
        ..9.995 => format!("{nanos:.2} ns"),
        ..99.95 => format!("{nanos:.1} ns"),
        ..9_999.5 => format!("{nanos:.0} ns"),
        ..999_500.0 => format!("{:.0} µs", nanos / 1e3),
        _ => format!("{:.2} ms", nanos / 1e6),
    }
}
