//! The statements that read and write rows by their keys. Each is one round trip, and commits by
//! itself where no transaction is open.
//!
//! They stay within what CockroachDB takes too: one change per table and statement, no functions in
//! another language, no locks but those of rows.
//!
//! Parameters that the planner would look into are hidden from it in subqueries. So a plan is made
//! once for all values of them, and for all namespaces: for one of which it knows no rows, the
//! database would go through all of the namespace to find a key.
//!
//! The time is the machine's own, `clock_timestamp()`, not that at which the transaction began: a
//! lease may run out in the middle of a transaction, and a row may have been written by another
//! since it began. It is read after the row, so that what the row says is never from the future.

/// A statement about one key, and the same about several.
#[derive(Clone, Copy)]
pub(super) struct Statement {
    one: &'static str,
    many: &'static str,
}

impl Statement {
    pub(super) fn about(self, keys: usize) -> &'static str {
        if keys == 1 { self.one } else { self.many }
    }
}

/// A statement that writes, and the same with events to note in the history.
#[derive(Clone, Copy)]
pub(super) struct Writing {
    plain: Statement,
    noting: Statement,
}

impl Writing {
    pub(super) fn noting(self, is_noting: bool) -> Statement {
        if is_noting { self.noting } else { self.plain }
    }
}

/// What [`row`](super::row) reads of a row, in this order.
macro_rules! columns {
    () => {
        "key, version, revision, failures, interval_ns, first_failure, since, until, gave_up, \
         cause, token, holder, lease_since, lease_until"
    };
}
pub(super) use columns;

/// The keys of an array, looked up in the index one by one whatever the planner thinks of the table.
macro_rules! is_any {
    ($keys:literal) => {
        concat!(" = ANY ((SELECT ", $keys, "::TEXT[])::TEXT[])")
    };
}

macro_rules! read {
    ($is_key:expr) => {
        concat!(
            "
    SELECT ",
            columns!(),
            ", clock_timestamp() AS now
    FROM (SELECT 1) AS one
    LEFT JOIN relent ON relent.namespace = (SELECT $1::TEXT) AND relent.key",
            $is_key
        )
    };
}

/// Reads rows by their keys, and the time: at least one row, of nothing but the time.
///
/// `$1` namespace, `$2` keys.
pub(super) const READ: Statement = Statement {
    one: read!(" = $2"),
    many: read!(is_any!("$2")),
};

macro_rules! lock {
    ($is_key:expr) => {
        concat!(
            "
    SELECT ",
            columns!(),
            ", clock_timestamp() AS now
    FROM (SELECT 1) AS one
    LEFT JOIN (
        SELECT * FROM relent WHERE namespace = (SELECT $1::TEXT) AND key",
            $is_key,
            " ORDER BY key FOR UPDATE
    ) AS locked ON TRUE"
        )
    };
}

/// As [`READ`], and keeps the rows as they are until the end of the transaction. In the order of
/// their keys, so that of two who want several of them, one waits for the other.
pub(super) const LOCK: Statement = Statement {
    one: lock!(" = $2"),
    many: lock!(is_any!("$2")),
};

/// With events to note of the keys that were written; each has to answer with its `key`.
///
/// `IS TRUE` has the database look keys up in a table of hashes; it takes arrays for short, and would
/// compare each with each.
macro_rules! noting {
    ($write:expr, $keys:literal, $events:literal, $causes:literal) => {
        concat!(
            "
    WITH written AS (",
            $write,
            "), noted AS (
        INSERT INTO relent_history (namespace, key, at, event, cause)
        SELECT $1, key, $2, event, cause
        FROM UNNEST(",
            $keys,
            "::TEXT[], ",
            $events,
            "::TEXT[], ",
            $causes,
            "::TEXT[]) WITH ORDINALITY AS event (key, event, cause, n)
        WHERE (key IN (SELECT key FROM written)) IS TRUE ORDER BY n
    )
    SELECT * FROM written"
        )
    };
}

/// One row, as [`batch`](super::batch) tells it.
macro_rules! one {
    () => {
        "
        SELECT $4::TEXT AS key, $5::BIGINT AS revision, $6::BIGINT AS failures,
            $7::BIGINT AS interval_ns, $8::TIMESTAMPTZ AS first_failure, $9::TIMESTAMPTZ AS since,
            $10::TIMESTAMPTZ AS until, $11::TIMESTAMPTZ AS due, $12::TEXT AS cause,
            $13::TEXT AS gave_up, $14::BOOLEAN AS is_granted, $15::BIGINT AS token,
            $16::TEXT AS holder, $17::TIMESTAMPTZ AS lease_since, $18::TIMESTAMPTZ AS lease_until,
            $19::BOOLEAN AS is_new
    "
    };
}

/// Several. Arrays that end early are filled up with NULL. Not as a table, `FROM UNNEST`: that would
/// write down each array before it reads the first row.
macro_rules! many {
    () => {
        "
        SELECT UNNEST($4::TEXT[]) AS key, UNNEST($5::BIGINT[]) AS revision,
            UNNEST($6::BIGINT[]) AS failures, UNNEST($7::BIGINT[]) AS interval_ns,
            UNNEST($8::TIMESTAMPTZ[]) AS first_failure, UNNEST($9::TIMESTAMPTZ[]) AS since,
            UNNEST($10::TIMESTAMPTZ[]) AS until, UNNEST($11::TIMESTAMPTZ[]) AS due,
            UNNEST($12::TEXT[]) AS cause, UNNEST($13::TEXT[]) AS gave_up,
            UNNEST($14::BOOLEAN[]) AS is_granted, UNNEST($15::BIGINT[]) AS token,
            UNNEST($16::TEXT[]) AS holder, UNNEST($17::TIMESTAMPTZ[]) AS lease_since,
            UNNEST($18::TIMESTAMPTZ[]) AS lease_until, UNNEST($19::BOOLEAN[]) AS is_new
    "
    };
}

/// What was decided while a lease was good is not written once it has run out.
macro_rules! lease_is_as_read {
    () => {
        "(relent.lease_until IS NULL OR relent.lease_until <= $2
                OR relent.lease_until > clock_timestamp())"
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
pub(super) const PUT_OVER: Writing = Writing {
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
pub(super) const PUT_NEW: Writing = Writing {
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
pub(super) const PUT: Writing = Writing {
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
pub(super) const REGRANT: &str = "
    UPDATE relent SET revision = revision + 1, token = nextval('relent_tokens')
    WHERE namespace = (SELECT $1::TEXT) AND key = $2 AND token = $3 RETURNING token";

macro_rules! delete {
    ($change:expr, $is_key:expr) => {
        concat!(
            "
        DELETE FROM relent USING (",
            $change,
            ") AS change
        WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key",
            $is_key,
            " AND relent.key = change.key AND relent.revision = change.revision
            AND ",
            lease_is_as_read!(),
            "
        RETURNING relent.key"
        )
    };
}

macro_rules! delete_one {
    () => {
        delete!("SELECT $3::TEXT AS key, $4::BIGINT AS revision", " = $3")
    };
}

macro_rules! delete_many {
    () => {
        delete!(
            "SELECT UNNEST($3::TEXT[]) AS key, UNNEST($4::BIGINT[]) AS revision",
            is_any!("$3")
        )
    };
}

/// Deletes rows that are as they were when they were read, and answers which.
///
/// `$1` namespace, `$2` the time of reading, `$3` keys, `$4` their revisions; what to note.
pub(super) const DELETE: Writing = Writing {
    plain: Statement {
        one: delete_one!(),
        many: delete_many!(),
    },
    noting: Statement {
        one: noting!(delete_one!(), "$5", "$6", "$7"),
        many: noting!(delete_many!(), "$5", "$6", "$7"),
    },
};
