//! A record as a JSON object that people can read: times as RFC 3339, durations with their units.

/// A time: `"2026-05-01T12:00:00.123456789Z"`.
pub(crate) mod time {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::store::record::within;

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_nanos(within(*time)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        let time = humantime::parse_rfc3339(&text).map_err(|reason| {
            D::Error::custom(format_args!(
                "{text:?} is no time ({reason}); write it as in \"2026-05-01T12:00:00.5Z\""
            ))
        })?;
        Ok(within(time))
    }
}

/// The state's two numbers. Without an interval, as an older writer may have left it, the streak
/// counts as none: a clean slate.
pub(crate) mod state {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::policy::config::duration;
    use crate::state::BackoffState;

    pub(crate) fn serialize<S: Serializer>(state: &BackoffState, to: S) -> Result<S::Ok, S::Error> {
        state.serialize(to)
    }

    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        failures: u32,
        #[serde(default)]
        interval: Option<Interval>,
    }

    #[derive(Deserialize)]
    struct Interval(#[serde(with = "duration")] Duration);

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BackoffState, D::Error> {
        let Written { failures, interval } = Written::deserialize(from)?;
        Ok(
            interval.map_or_else(BackoffState::default, |interval| BackoffState {
                failures,
                interval: interval.0,
            }),
        )
    }
}
