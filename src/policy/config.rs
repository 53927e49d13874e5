//! A policy as configuration that people write by hand, in any format that serde knows.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::{Backoff, GiveUp, Jitter, Rounding};

/// A duration: `"1m 30s"` in formats for people, the plain number of seconds and nanoseconds in others.
///
/// ```text
/// #[serde(with = "duration")]
/// ```
pub(crate) mod duration {
    use super::{Deserialize, Deserializer, Duration, Error, Serialize, Serializer, Text};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.collect_str(&humantime::format_duration(*duration))
        } else {
            duration.serialize(to)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        if from.is_human_readable() {
            let text = from.deserialize_any(Text)?;
            humantime::parse_duration(&text).map_err(|reason| {
                D::Error::custom(format_args!(
                    "{text:?} is no duration ({reason}); write a number and a unit, as in \"500ms\" or \"1m 30s\""
                ))
            })
        } else {
            Duration::deserialize(from)
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Span(#[serde(with = "duration")] Duration);

/// A number that may be infinite, which JSON has to write as a text.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() && self.0.is_infinite() {
            to.collect_str(&self.0)
        } else {
            to.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number, D::Error> {
        if from.is_human_readable() {
            from.deserialize_any(Numeral)
        } else {
            f64::deserialize(from).map(Number)
        }
    }
}

struct Numeral;

impl Visitor<'_> for Numeral {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or \"inf\"")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
        Ok(Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
        Ok(Number(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
        Ok(Number(number as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        match text {
            "inf" => Ok(Number(f64::INFINITY)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

/// Takes the text of a duration, and tells whoever wrote a bare number what is missing.
struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, as in \"500ms\" or \"1m 30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Every field, in the order that formats without names keep.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "Backoff", default, deny_unknown_fields)]
struct Fields {
    #[serde(with = "duration")]
    initial: Duration,
    #[serde(with = "duration")]
    max: Duration,
    exponent: Number,
    jitter: Jitter,
    rounding: Rounding,
    give_up: GiveUp,
}

impl From<Backoff> for Fields {
    fn from(backoff: Backoff) -> Fields {
        let Backoff {
            initial,
            max,
            exponent,
            jitter,
            rounding,
            give_up,
        } = backoff;
        Fields {
            initial,
            max,
            exponent: Number(exponent),
            jitter,
            rounding,
            give_up,
        }
    }
}

impl From<Fields> for Backoff {
    fn from(fields: Fields) -> Backoff {
        let Fields {
            initial,
            max,
            exponent: Number(exponent),
            jitter,
            rounding,
            give_up,
        } = fields;
        Backoff {
            initial,
            max,
            exponent,
            jitter,
            rounding,
            give_up,
        }
    }
}

impl Default for Fields {
    fn default() -> Fields {
        Backoff::DEFAULT.into()
    }
}

impl Serialize for Backoff {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Fields::from(*self).serialize(to)
    }
}

/// Every field may be missing, and is then that of [`Backoff::DEFAULT`]; one that is not known is refused, and so is
/// what [`Backoff::validate`] refuses.
impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Backoff, D::Error> {
        let backoff = if from.is_human_readable() {
            from.deserialize_map(Table::<Backoff>::new("a backoff policy"))?
        } else {
            Fields::deserialize(from)?.into()
        };
        backoff.validate().map_err(D::Error::custom)?;
        Ok(backoff)
    }
}

impl Serialize for GiveUp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Limits {
            after_failures: self.after_failures,
            after_elapsed: self.after_elapsed.map(Span),
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for GiveUp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<GiveUp, D::Error> {
        if from.is_human_readable() {
            from.deserialize_map(Table::<GiveUp>::new("limits to give up at"))
        } else {
            let Limits {
                after_failures,
                after_elapsed,
            } = Limits::deserialize(from)?;
            Ok(GiveUp {
                after_failures,
                after_elapsed: after_elapsed.map(|span| span.0),
            })
        }
    }
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(rename = "GiveUp", default, deny_unknown_fields)]
struct Limits {
    after_failures: Option<u32>,
    after_elapsed: Option<Span>,
}

/// What is written as a table of named fields, each of which may be missing.
trait Written: Default {
    const FIELDS: &'static [&'static str];

    /// Reads the value of `FIELDS[field]`.
    fn set<'de, A: MapAccess<'de>>(&mut self, field: usize, map: &mut A) -> Result<(), A::Error>;
}

impl Written for Backoff {
    const FIELDS: &'static [&'static str] = &[
        "initial", "max", "exponent", "jitter", "rounding", "give_up",
    ];

    fn set<'de, A: MapAccess<'de>>(&mut self, field: usize, map: &mut A) -> Result<(), A::Error> {
        match field {
            0 => self.initial = map.next_value::<Span>()?.0,
            1 => self.max = map.next_value::<Span>()?.0,
            2 => self.exponent = map.next_value::<Number>()?.0,
            3 => self.jitter = map.next_value()?,
            4 => self.rounding = map.next_value()?,
            _ => self.give_up = map.next_value::<Option<GiveUp>>()?.unwrap_or_default(),
        }
        Ok(())
    }
}

impl Written for GiveUp {
    const FIELDS: &'static [&'static str] = &["after_failures", "after_elapsed"];

    fn set<'de, A: MapAccess<'de>>(&mut self, field: usize, map: &mut A) -> Result<(), A::Error> {
        match field {
            0 => self.after_failures = map.next_value()?,
            _ => self.after_elapsed = map.next_value::<Option<Span>>()?.map(|span| span.0),
        }
        Ok(())
    }
}

/// Reads a table, and says which field an error is about: not every format does.
struct Table<T> {
    what: &'static str,
    value: T,
}

impl<T: Written> Table<T> {
    fn new(what: &'static str) -> Table<T> {
        Table {
            what,
            value: T::default(),
        }
    }
}

impl<'de, T: Written> Visitor<'de> for Table<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        let mut seen = vec![false; T::FIELDS.len()];
        while let Some(key) = map.next_key::<String>()? {
            let Some(field) = T::FIELDS.iter().position(|name| *name == key) else {
                return Err(A::Error::unknown_field(&key, T::FIELDS));
            };
            if std::mem::replace(&mut seen[field], true) {
                return Err(A::Error::duplicate_field(T::FIELDS[field]));
            }
            self.value
                .set(field, &mut map)
                .map_err(|error| A::Error::custom(format_args!("{key}: {error}")))?;
        }
        Ok(self.value)
    }
}

/// `"full"`, or a table where there is a number to say: `{ proportional = 0.5 }`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"full\", \"equal\", \"decorrelated\" or { proportional = 0.5 }"
)]
enum WrittenJitter {
    Named(NamedJitter),
    Proportional(ProportionalJitter),
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NamedJitter {
    None,
    Full,
    Equal,
    Decorrelated,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ProportionalJitter {
    proportional: f64,
}

/// For formats that do not describe themselves.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "Jitter")]
enum CompactJitter {
    None,
    Full,
    Equal,
    Proportional(f64),
    Decorrelated,
}

impl Serialize for Jitter {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return match *self {
                Jitter::None => CompactJitter::None,
                Jitter::Full => CompactJitter::Full,
                Jitter::Equal => CompactJitter::Equal,
                Jitter::Proportional(f) => CompactJitter::Proportional(f),
                Jitter::Decorrelated => CompactJitter::Decorrelated,
            }
            .serialize(to);
        }
        match *self {
            Jitter::None => NamedJitter::None,
            Jitter::Full => NamedJitter::Full,
            Jitter::Equal => NamedJitter::Equal,
            Jitter::Decorrelated => NamedJitter::Decorrelated,
            Jitter::Proportional(proportional) => {
                return ProportionalJitter { proportional }.serialize(to);
            }
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Jitter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Jitter, D::Error> {
        Ok(if from.is_human_readable() {
            match WrittenJitter::deserialize(from)? {
                WrittenJitter::Named(NamedJitter::None) => Jitter::None,
                WrittenJitter::Named(NamedJitter::Full) => Jitter::Full,
                WrittenJitter::Named(NamedJitter::Equal) => Jitter::Equal,
                WrittenJitter::Named(NamedJitter::Decorrelated) => Jitter::Decorrelated,
                WrittenJitter::Proportional(written) => Jitter::Proportional(written.proportional),
            }
        } else {
            match CompactJitter::deserialize(from)? {
                CompactJitter::None => Jitter::None,
                CompactJitter::Full => Jitter::Full,
                CompactJitter::Equal => Jitter::Equal,
                CompactJitter::Proportional(f) => Jitter::Proportional(f),
                CompactJitter::Decorrelated => Jitter::Decorrelated,
            }
        })
    }
}
