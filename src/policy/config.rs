//! A policy as configuration that people write by hand, in any format that serde knows.

pub(crate) mod duration;
mod jitter;
mod number;

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::{Backoff, GiveUp, Jitter, Rounding};
use number::Number;

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Span(#[serde(with = "duration")] Duration);

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

/// Every field may be missing, and is then that of [`Backoff::DEFAULT`]; one that is not known is
/// refused, and so is what [`Backoff::validate`] refuses.
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
