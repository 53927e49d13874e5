//! A duration: `"1m 30s"` in formats for people, the plain number of seconds and nanoseconds in
//! others.
//!
//! ```text
//! #[serde(with = "duration")]
//! ```

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() {
        to.collect_str(&humantime::format_duration(*duration))
    } else {
        duration.serialize(to)
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    if from.is_human_readable() {
        from.deserialize_any(Text)
    } else {
        Duration::deserialize(from)
    }
}

/// Reads the text of a duration, and tells whoever wrote a bare number what is missing.
struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, as in \"500ms\" or \"1m 30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        humantime::parse_duration(text).map_err(|reason| {
            E::custom(format_args!(
                "{text:?} is no duration ({reason}); write a number and a unit, as in \"500ms\" or \"1m 30s\""
            ))
        })
    }
}
