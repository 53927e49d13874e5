//! Durations for people.

use core::fmt;
use core::time::Duration;

use crate::policy::nanos;

/// A duration in its largest unit: `1.5 s`. A width pads the number, and the unit to a column.
pub(crate) struct Brief(pub(crate) Duration);

impl Brief {
    fn parts(&self) -> (f64, &'static str) {
        const UNITS: [(f64, &str); 6] = [
            (86_400e9, "d"),
            (3_600e9, "h"),
            (60e9, "min"),
            (1e9, "s"),
            (1e6, "ms"),
            (1e3, "µs"),
        ];
        let nanos = nanos(self.0) as f64;
        let (unit, name) = UNITS
            .into_iter()
            .find(|(unit, _)| nanos >= *unit)
            .unwrap_or((1.0, "ns"));
        (nanos / unit, name)
    }
}

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = self.parts();
        match f.width() {
            Some(width) => write!(f, "{value:>width$.1} {unit:<3}"),
            None => write!(f, "{value:.1} {unit}"),
        }
    }
}
