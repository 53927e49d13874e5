//! A policy as configuration that people write by hand, in any format that serde knows.

pub(crate) mod duration;
mod jitter;
mod number;

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
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
            Table::<Backoff>::read(from)?
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
            Table::read(from)
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
    const NAME: &'static str;
    const FIELDS: &'static [&'static str];
    const EXAMPLE: &'static str;

    /// Reads the value of `FIELDS[field]`.
    fn set<'de, D: Deserializer<'de>>(&mut self, field: usize, from: D) -> Result<(), D::Error>;
}

impl Written for Backoff {
    const NAME: &'static str = "Backoff";
    const FIELDS: &'static [&'static str] = &[
        "initial", "max", "exponent", "jitter", "rounding", "give_up",
    ];
    const EXAMPLE: &'static str = r#"a backoff policy, as in { initial = "500ms", max = "10m" }"#;

    fn set<'de, D: Deserializer<'de>>(&mut self, field: usize, from: D) -> Result<(), D::Error> {
        match field {
            0 => self.initial = duration::deserialize(from)?,
            1 => self.max = duration::deserialize(from)?,
            2 => self.exponent = Number::deserialize(from)?.0,
            3 => self.jitter = Jitter::deserialize(from)?,
            4 => self.rounding = Rounding::deserialize(from)?,
            // Of any type, as it may be `null`: a table of which all lines are commented out.
            _ => self.give_up = from.deserialize_any(Table(GiveUp::default()))?,
        }
        Ok(())
    }
}

impl Written for GiveUp {
    const NAME: &'static str = "GiveUp";
    const FIELDS: &'static [&'static str] = &["after_failures", "after_elapsed"];
    const EXAMPLE: &'static str =
        r#"limits to give up at, as in { after_failures = 10, after_elapsed = "1h" }"#;

    fn set<'de, D: Deserializer<'de>>(&mut self, field: usize, from: D) -> Result<(), D::Error> {
        match field {
            0 => self.after_failures = Option::deserialize(from)?,
            _ => self.after_elapsed = Option::<Span>::deserialize(from)?.map(|span| span.0),
        }
        Ok(())
    }
}

/// Reads a table, and says which field an error is about: not every format does.
struct Table<T>(T);

impl<T: Written> Table<T> {
    /// As a struct, by its fields: a format may write structs in another way than maps, and where a
    /// table is flattened into another, only its own fields are to be seen.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        from.deserialize_struct(T::NAME, T::FIELDS, Table(T::default()))
    }
}

impl<'de, T: Written> Visitor<'de> for Table<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXAMPLE)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        let mut seen = vec![false; T::FIELDS.len()];
        while let Some(field) = map.next_key_seed(Name(T::FIELDS))? {
            if std::mem::replace(&mut seen[field], true) {
                return Err(A::Error::duplicate_field(T::FIELDS[field]));
            }
            map.next_value_seed(Field {
                of: &mut self.0,
                field,
            })?;
        }
        Ok(self.0)
    }
}

/// Reads the name of a field: which of these it is.
///
/// What is wrong is found where it is read, here as in [`Field`]: only then does a format that
/// shows the place of a mistake show this one.
struct Name(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<usize, E> {
        let field = self.0.iter().position(|name| *name == key);
        field.ok_or_else(|| E::unknown_field(key, self.0))
    }
}

/// Reads one field, and says which in its error.
struct Field<'a, T> {
    of: &'a mut T,
    field: usize,
}

impl<'de, T: Written> DeserializeSeed<'de> for Field<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let name = T::FIELDS[self.field];
        let read = self.of.set(self.field, from);
        read.map_err(|error| D::Error::custom(format_args!("{name}: {error}")))
    }
}
