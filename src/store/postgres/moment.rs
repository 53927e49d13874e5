//! A time as the database keeps it: whole microseconds.

use std::time::SystemTime;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

use crate::store::columns;

/// A `TIMESTAMPTZ`, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

/// The database counts from 2000.
const IN_2000: i64 = 946_684_800_000_000;

/// The end of time, which is where 64 bits of nanoseconds end, in whole microseconds.
const END: i64 = i64::MAX / 1000;

impl Moment {
    /// Before anything was ever due.
    pub(super) const BEGINNING: Moment = Moment(-1);

    /// When a key that gave up is due: never.
    pub(super) const NEVER: Moment = Moment(END);

    /// Rounded down.
    pub(super) fn of(time: SystemTime) -> Moment {
        Moment(columns::time(time) / 1000)
    }

    /// Microseconds since 1970.
    pub(super) fn micros(self) -> i64 {
        self.0
    }

    /// `None` if no record can have this time.
    pub(super) fn time(self) -> Option<SystemTime> {
        columns::to_time(match self.0 {
            // The end of time stays that.
            END => i64::MAX,
            micros => micros.checked_mul(1000)?,
        })
    }
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Moment {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0.saturating_sub(IN_2000), buffer)
    }
}

impl Decode<'_, Postgres> for Moment {
    fn decode(value: PgValueRef<'_>) -> Result<Moment, BoxDynError> {
        let since_2000 = value.as_bytes()?.try_into()?;
        Ok(Moment(
            i64::from_be_bytes(since_2000).saturating_add(IN_2000),
        ))
    }
}
