//! The statements that write rows.

use super::{Statement, Writing, is_any, lease_is_as_read, noting};

/// One row, as [`batch`](super::super::batch) tells it.
macro_rules! one {
    ($lease:expr) => {
        concat!(
            "
        SELECT $4::TEXT AS key, $5::BIGINT AS revision, $6::BIGINT AS failures,
            $7::BIGINT AS interval_ns, $8::TIMESTAMPTZ AS first_failure, $9::TIMESTAMPTZ AS since,
            $10::TIMESTAMPTZ AS until, $11::TIMESTAMPTZ AS due, $12::TEXT AS cause,
            $13::TEXT AS gave_up, ",
            $lease
        )
    };
    () => {
        one!(
            "$14::BOOLEAN AS is_granted, $15::BIGINT AS token,
            $16::TEXT AS holder, $17::TIMESTAMPTZ AS lease_since, $18::TIMESTAMPTZ AS lease_until,
            $19::BOOLEAN AS is_new"
        )
    };
}

/// Several. Arrays that end early are filled up with NULL. Not as a table, `FROM UNNEST`: that would
/// write down each array before it reads the first row.
macro_rules! many {
    ($lease:expr) => {
        concat!(
            "
        SELECT UNNEST($4::TEXT[]) AS key, UNNEST($5::BIGINT[]) AS revision,
            UNNEST($6::BIGINT[]) AS failures, UNNEST($7::BIGINT[]) AS interval_ns,
            UNNEST($8::TIMESTAMPTZ[]) AS first_failure, UNNEST($9::TIMESTAMPTZ[]) AS since,
            UNNEST($10::TIMESTAMPTZ[]) AS until, UNNEST($11::TIMESTAMPTZ[]) AS due,
            UNNEST($12::TEXT[]) AS cause, UNNEST($13::TEXT[]) AS gave_up, ",
            $lease
        )
    };
    () => {
        many!(
            "UNNEST($14::BOOLEAN[]) AS is_granted, UNNEST($15::BIGINT[]) AS token,
            UNNEST($16::TEXT[]) AS holder, UNNEST($17::TIMESTAMPTZ[]) AS lease_since,
            UNNEST($18::TIMESTAMPTZ[]) AS lease_until, UNNEST($19::BOOLEAN[]) AS is_new"
        )
    };
}

/// Instead of the columns of a lease where nobody has any.
macro_rules! free {
    () => {
        "FALSE AS is_granted, NULL::BIGINT AS token, NULL::TEXT AS holder,
            NULL::TIMESTAMPTZ AS lease_since, NULL::TIMESTAMPTZ AS lease_until"
    };
}

/// Raises the latest time at which any row was written, once, and is true. Two who do so at once may
/// leave it at the time of the one who read the clock first, until the next who writes.
macro_rules! latest_is_raised {
    () => {
        "(SELECT setval('relent_latest', $3::BIGINT) FROM relent_latest WHERE last_value < $3)
                IS DISTINCT FROM 0"
    };
}

macro_rules! over {
    ($change:expr, $is_key:expr) => {
        concat!(
            "
        UPDATE relent SET
            version = 1, revision = change.revision, failures = change.failures,
            interval_ns = change.interval_ns, first_failure = change.first_failure,
            since = change.since, until = change.until, due = change.due, cause = change.cause,
            gave_up = change.gave_up,
            token = CASE WHEN is_granted THEN nextval('relent_tokens') ELSE change.token END,
            holder = change.holder, lease_since = change.lease_since,
            lease_until = change.lease_until
        FROM (",
            $change,
            ") AS change
        WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key",
            $is_key,
            " AND relent.key = change.key
            AND relent.revision = change.revision - 1
            AND ",
            lease_is_as_read!(),
            "
            AND ",
            latest_is_raised!(),
            "
        RETURNING relent.key, relent.token"
        )
    };
}

/// Writes over rows that are as they were when they were read, and answers which.
///
/// A row is as it was if its revision is one less than the one to write. A new lease gets its token
/// here: from a row that nobody else can change in between.
///
/// `$1` namespace, `$2` and `$3` the time of reading, and that in microseconds; a value or an array
/// per column; what to note.
pub(in crate::store::postgres) const PUT_OVER: Writing = Writing {
    free: Some(Statement {
        one: over!(one!(free!()), " = $4"),
        many: over!(many!(free!()), is_any!("$4")),
    }),
    plain: Statement {
        one: over!(one!(), " = $4"),
        many: over!(many!(), is_any!("$4")),
    },
    noting: Statement {
        one: noting!(over!(one!(), " = $4"), "$20", "$21", "$22"),
        many: noting!(over!(many!(), is_any!("$4")), "$20", "$21", "$22"),
    },
};

macro_rules! insert {
    ($change:expr, $on_conflict:expr) => {
        concat!(
            "
        INSERT INTO relent (
            namespace, key, revision, failures, interval_ns, first_failure, since, until, due,
            cause, gave_up, token, holder, lease_since, lease_until
        )
        SELECT $1, key, revision, failures, interval_ns, first_failure, since, until, due, cause,
            gave_up, CASE WHEN is_granted THEN nextval('relent_tokens') ELSE token END, holder,
            lease_since, lease_until
        FROM (",
            $change,
            ") AS change
        WHERE ",
            latest_is_raised!(),
            "
        ON CONFLICT (namespace, key) DO ",
            $on_conflict,
            "
        RETURNING relent.key, relent.token,
            (SELECT last_value FROM relent_tokens WHERE relent.token IS NOT NULL) AS last_token"
        )
    };
}

/// Writes new rows, and answers which. They begin with a random revision, so that none can be taken
/// for one that was there before it was deleted.
///
/// The token of a new row is drawn before the row is in its place: so the last token is told as of
/// after that, and [`REGRANT`] is for when they differ. Parameters as for [`PUT_OVER`].
pub(in crate::store::postgres) const PUT_NEW: Writing = Writing {
    free: Some(Statement {
        one: insert!(one!(free!()), "NOTHING"),
        many: insert!(many!(free!()), "NOTHING"),
    }),
    plain: Statement {
        one: insert!(one!(), "NOTHING"),
        many: insert!(many!(), "NOTHING"),
    },
    noting: Statement {
        one: noting!(insert!(one!(), "NOTHING"), "$20", "$21", "$22"),
        many: noting!(insert!(many!(), "NOTHING"), "$20", "$21", "$22"),
    },
};

macro_rules! both {
    () => {
        insert!(
            concat!(
                "
            WITH change AS (",
                many!(),
                ")
            SELECT * FROM (
                SELECT change.* FROM change JOIN relent
                    ON relent.key = change.key AND relent.revision = change.revision - 1
                WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key",
                is_any!("$4"),
                " AND ",
                lease_is_as_read!(),
                "
                ORDER BY relent.key FOR UPDATE OF relent
            ) AS as_read
            UNION ALL SELECT * FROM change WHERE is_new"
            ),
            "UPDATE SET
            version = excluded.version, revision = excluded.revision,
            failures = excluded.failures, interval_ns = excluded.interval_ns,
            first_failure = excluded.first_failure, since = excluded.since,
            until = excluded.until, due = excluded.due, cause = excluded.cause,
            gave_up = excluded.gave_up, token = excluded.token, holder = excluded.holder,
            lease_since = excluded.lease_since, lease_until = excluded.lease_until
        WHERE relent.revision = excluded.revision - 1"
        )
    };
}

/// Both. Two changes of one table in one statement would be faster, and are not for every database.
pub(in crate::store::postgres) const PUT: Writing = Writing {
    free: None,
    plain: Statement {
        one: both!(),
        many: both!(),
    },
    noting: Statement {
        one: noting!(both!(), "$20", "$21", "$22"),
        many: noting!(both!(), "$20", "$21", "$22"),
    },
};

/// Gives a lease in a row that is in its place another token. What else was written there meanwhile
/// stays; what was read before will not be written over it.
///
/// `$1` namespace, `$2` key, `$3` the token that it has.
pub(in crate::store::postgres) const REGRANT: &str = "
    UPDATE relent SET revision = revision + 1, token = nextval('relent_tokens')
    WHERE namespace = (SELECT $1::TEXT) AND key = $2 AND token = $3 RETURNING token";
