//! The statements that write rows.

use super::{
    Statement, Writing, all_or_none, if_all, in_order, is_any, lease_is_as_read, locked, noting,
    some_only, whole,
};

/// One row, as [`batch`](super::super::batch) binds it.
macro_rules! one {
    (failures) => {
        "
        SELECT $4::TEXT AS key, $5::BIGINT AS revision, $6::BIGINT AS failures,
            $7::BIGINT AS interval_ns, $8::TIMESTAMPTZ AS first_failure, $9::TIMESTAMPTZ AS until,
            $10::TEXT AS cause"
    };
    (whole) => {
        concat!(
            one!(failures),
            ",
            $11::TIMESTAMPTZ AS since, $12::TIMESTAMPTZ AS due, $13::TEXT AS gave_up,
            $14::BOOLEAN AS is_granted, $15::BIGINT AS token, $16::TEXT AS holder,
            $17::TIMESTAMPTZ AS lease_since, $18::TIMESTAMPTZ AS lease_until,
            $19::BOOLEAN AS is_new"
        )
    };
}

/// Several rows. Arrays that end early are filled up with NULL. Not as a table, `FROM UNNEST`: that
/// would materialize each array before it reads the first row.
macro_rules! many {
    (failures) => {
        "
        SELECT UNNEST($4::TEXT[]) AS key, UNNEST($5::BIGINT[]) AS revision,
            UNNEST($6::BIGINT[]) AS failures, UNNEST($7::BIGINT[]) AS interval_ns,
            UNNEST($8::TIMESTAMPTZ[]) AS first_failure, UNNEST($9::TIMESTAMPTZ[]) AS until,
            UNNEST($10::TEXT[]) AS cause"
    };
    (whole) => {
        concat!(
            many!(failures),
            ",
            UNNEST($11::TIMESTAMPTZ[]) AS since, UNNEST($12::TIMESTAMPTZ[]) AS due,
            UNNEST($13::TEXT[]) AS gave_up, UNNEST($14::BOOLEAN[]) AS is_granted,
            UNNEST($15::BIGINT[]) AS token, UNNEST($16::TEXT[]) AS holder,
            UNNEST($17::TIMESTAMPTZ[]) AS lease_since, UNNEST($18::TIMESTAMPTZ[]) AS lease_until,
            UNNEST($19::BOOLEAN[]) AS is_new"
        )
    };
}

macro_rules! noted {
    (one $write:expr) => {
        noting!($write, "$20", "$21", "$22", "")
    };
    (whole $write:expr) => {
        noting!($write, "$20", "$21", "$22", if_all!("$4"))
    };
}

/// Raises the latest time at which any row was written, once, and is true. Two statements that do
/// so at once may leave it at the time of the one that read the clock first, until the next write.
macro_rules! latest_is_raised {
    () => {
        "(SELECT setval('relent_latest', $3::BIGINT) FROM relent_latest WHERE last_value < $3)
                IS DISTINCT FROM 0"
    };
}

/// Writes the rows of all keys, and answers how many those are; or writes none.
macro_rules! counted {
    ($write:expr) => {
        concat!(
            "
    WITH written AS (",
            $write,
            " RETURNING relent.key)",
            all_or_none!("$4")
        )
    };
}

macro_rules! over {
    (failures, $change:expr, $is_key:expr) => {
        over!(
            "since = $2, due = change.until, gave_up = NULL, token = NULL, holder = NULL,
            lease_since = NULL, lease_until = NULL",
            $change,
            $is_key
        )
    };
    (whole, $change:expr, $is_key:expr) => {
        concat!(
            over!(
                "since = change.since, due = change.due, gave_up = change.gave_up,
            token = CASE WHEN is_granted THEN nextval('relent_tokens') ELSE change.token END,
            holder = change.holder, lease_since = change.lease_since,
            lease_until = change.lease_until",
                $change,
                $is_key
            ),
            "
        RETURNING relent.key, relent.token"
        )
    };
    ($rest:expr, $change:expr, $is_key:expr) => {
        concat!(
            "
        UPDATE relent SET
            version = 1, revision = change.revision, failures = change.failures,
            interval_ns = change.interval_ns, first_failure = change.first_failure,
            until = change.until, cause = change.cause, ",
            $rest,
            "
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
            latest_is_raised!()
        )
    };
}

/// Writes over rows that are as they were when they were read, and answers which: of several, all
/// or none.
///
/// A row is as it was if its revision is one less than the one to write. A new lease gets its token
/// here, while the row is one that nobody else can change.
///
/// `$1` namespace, `$2` and `$3` the time of reading, and that in microseconds; a value or an array
/// per column; what to note.
pub(in crate::store::postgres) const PUT_OVER: Writing = Writing {
    failures: Some(Statement {
        one: over!(failures, one!(failures), " = $4"),
        few: counted!(over!(failures, locked!(many!(failures)), is_any!("$4"))),
        many: counted!(over!(failures, many!(failures), is_any!("$4"))),
    }),
    plain: Statement {
        one: over!(whole, one!(whole), " = $4"),
        few: whole!(over!(whole, locked!(many!(whole)), is_any!("$4")), "$4"),
        many: whole!(over!(whole, many!(whole), is_any!("$4")), "$4"),
    },
    noting: Statement {
        one: noted!(one over!(whole, one!(whole), " = $4")),
        few: noted!(whole over!(whole, locked!(many!(whole)), is_any!("$4"))),
        many: noted!(whole over!(whole, many!(whole), is_any!("$4"))),
    },
};

/// The same for each row by itself, and only for rows that nobody else has locked: it waits for
/// nobody.
pub(in crate::store::postgres) const EXTEND: Statement = Statement::new(
    over!(whole, locked!(one!(whole), " SKIP LOCKED"), " = $4"),
    over!(whole, locked!(many!(whole), " SKIP LOCKED"), is_any!("$4")),
);

macro_rules! insert {
    (failures, $change:expr) => {
        insert!("since, due", "$2, until", $change, "NOTHING")
    };
    (whole, $change:expr, $on_conflict:expr) => {
        concat!(
            insert!(
                "since, due, gave_up, token, holder, lease_since, lease_until",
                "since, due, gave_up,
            CASE WHEN is_granted THEN nextval('relent_tokens') ELSE token END, holder, lease_since,
            lease_until",
                $change,
                $on_conflict
            ),
            "
        RETURNING relent.key, relent.token,
            (SELECT last_value FROM relent_tokens WHERE relent.token IS NOT NULL) AS last_token"
        )
    };
    ($columns:expr, $values:expr, $change:expr, $on_conflict:expr) => {
        concat!(
            "
        INSERT INTO relent (
            namespace, key, revision, failures, interval_ns, first_failure, until, cause, ",
            $columns,
            "
        )
        SELECT $1, key, revision, failures, interval_ns, first_failure, until, cause, ",
            $values,
            "
        FROM (",
            $change,
            ") AS change
        WHERE ",
            latest_is_raised!(),
            "
        ON CONFLICT (namespace, key) DO ",
            $on_conflict
        )
    };
}

/// Writes new rows, and answers which: of several, all or none. They begin with a random revision,
/// so that none can be mistaken for an earlier one that was deleted.
///
/// The token of a new row is drawn before the row is in its place. So the statement also answers
/// what the last token was after that; if the two differ, [`REGRANT`] is for that. Parameters as
/// for [`PUT_OVER`].
pub(in crate::store::postgres) const PUT_NEW: Writing = Writing {
    failures: Some(Statement::new(
        insert!(failures, one!(failures)),
        counted!(insert!(failures, in_order!(many!(failures)))),
    )),
    plain: Statement::new(
        insert!(whole, one!(whole), "NOTHING"),
        whole!(insert!(whole, in_order!(many!(whole)), "NOTHING"), "$4"),
    ),
    noting: Statement::new(
        noted!(one insert!(whole, one!(whole), "NOTHING")),
        noted!(whole insert!(whole, in_order!(many!(whole)), "NOTHING")),
    ),
};

macro_rules! both {
    () => {
        insert!(
            whole,
            concat!(
                "
            SELECT change.* FROM (",
                in_order!(many!(whole)),
                ") AS change
            LEFT JOIN LATERAL (
                SELECT key FROM relent
                WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key = change.key
                    AND relent.revision = change.revision - 1
                    AND ",
                lease_is_as_read!(),
                "
                FOR UPDATE
            ) AS as_read ON TRUE
            WHERE change.is_new OR as_read.key IS NOT NULL"
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

/// Writes new rows and over others, key by key: each row that is there is locked and then written
/// before the next is looked at. Two changes of one table in one statement would be faster, but not
/// every database takes them.
pub(in crate::store::postgres) const PUT: Writing = Writing {
    failures: None,
    plain: Statement::new(both!(), whole!(both!(), "$4")),
    noting: Statement::new(noted!(one both!()), noted!(whole both!())),
};

/// Gives a lease another token, now that its row is in its place. What else was written there
/// meanwhile stays; whoever read the row before cannot write over it.
///
/// `$1` namespace, `$2` key, `$3` the token that it has.
pub(in crate::store::postgres) const REGRANT: &str = "
    UPDATE relent SET revision = revision + 1, token = nextval('relent_tokens')
    WHERE namespace = (SELECT $1::TEXT) AND key = $2 AND token = $3 RETURNING token";
