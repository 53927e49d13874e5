//! What limits, hints, futures and budgets do.

use super::Row;

pub fn rows() -> Vec<Row> {
    Vec::new()
}
