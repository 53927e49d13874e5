//! A jitter: `"full"`, or a table where there is a number to say, `{ proportional = 0.5 }`.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::policy::Jitter;

/// For people.
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
