//! The statements. Each is one round trip, and commits by itself where no transaction is open.
//!
//! They stay within what CockroachDB takes too: one change per table and statement, no functions in
//! another language, no locks but those of rows.
//!
//! A namespace is compared with a subquery, so that plans are made for any: for one of which it knows
//! no rows, the database would go through all of the namespace to find a key.
//!
//! The time is the machine's own, `clock_timestamp()`, not that at which the transaction began: a
//! lease may run out in the middle of a transaction, and a row may have been written by another
//! since it began. It is read after the row, so that what the row says is never from the future.

/// A statement about one key, and the same about several. The database plans the one about a single
/// key once; of the other it would not know how many keys to plan for, and plan it each time.
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

macro_rules! read {
    ($key:literal) => {
        concat!(
            "
    SELECT clock_timestamp() AS now, relent.*
    FROM (SELECT 1) AS one
    LEFT JOIN relent ON relent.namespace = (SELECT $1::TEXT) AND relent.key = ",
            $key
        )
    };
}

/// Reads rows by their keys, and the time: at least one row, of nothing but the time.
///
/// `$1` namespace, `$2` keys.
pub(super) const READ: Statement = Statement {
    one: read!("$2"),
    many: read!("ANY($2)"),
};

macro_rules! lock {
    ($key:literal) => {
        concat!(
            "
    SELECT clock_timestamp() AS now, locked.*
    FROM (SELECT 1) AS one
    LEFT JOIN (
        SELECT * FROM relent WHERE namespace = (SELECT $1::TEXT) AND key = ",
            $key,
            " ORDER BY key FOR UPDATE
    ) AS locked ON TRUE"
        )
    };
}

/// As [`READ`], and keeps the rows as they are until the end of the transaction. In the order of
/// their keys, so that of two who want several of them, one waits for the other.
pub(super) const LOCK: Statement = Statement {
    one: lock!("$2"),
    many: lock!("ANY($2)"),
};

/// Writes rows that are as they were when they were read, or new ones, or both; and answers which.
///
/// A row is as it was if its revision is one less than the one to write. A new one begins with a
/// random revision, so that it cannot be taken for the one that was there before it was deleted.
/// What was decided while a lease was good is not written once it has run out.
///
/// A new lease gets its token here: from a row that nobody else can change in between. That does
/// not hold for a new row, whose token is drawn before it is in its place: so the last token is told
/// as of after that, and [`REGRANT`] is for when they differ.
///
/// Arrays are not joined with each other: the database takes them for short, and would compare each
/// with each. `IS TRUE` has it look keys up in a table of hashes for the same reason, and `ANY` in
/// the index, whatever it thinks of the table.
///
/// `$1` namespace, `$2` the time of reading; an array per column; what to note of which key.
macro_rules! put {
    ($change:expr, $put:expr) => {
        concat!(
            "
    WITH change AS (",
            $change,
            "), put AS (",
            $put,
            "
        RETURNING relent.key, relent.token
    ), noted AS (
        INSERT INTO relent_history (namespace, key, at, event, cause)
        SELECT $1, key, $2, event, cause
        FROM UNNEST($20::TEXT[], $21::TEXT[], $22::TEXT[])
            WITH ORDINALITY AS event (key, event, cause, n)
        WHERE (key IN (SELECT key FROM put)) IS TRUE ORDER BY n
    )
    SELECT key, token, (SELECT last_value FROM relent_tokens WHERE token IS NOT NULL) AS last_token
    FROM put"
        )
    };
}

macro_rules! one {
    () => {
        "
        SELECT $3::TEXT AS key, $4::BOOLEAN AS is_new, $5::BIGINT AS revision,
            $6::BOOLEAN AS is_granted, $7::BIGINT AS failures, $8::BIGINT AS interval_ns,
            $9::TIMESTAMPTZ AS first_failure, $10::TIMESTAMPTZ AS since, $11::TIMESTAMPTZ AS until,
            $12::TIMESTAMPTZ AS due, $13::TIMESTAMPTZ AS written, $14::TEXT AS gave_up,
            $15::TEXT AS cause, $16::BIGINT AS token, $17::TEXT AS holder,
            $18::TIMESTAMPTZ AS lease_since, $19::TIMESTAMPTZ AS lease_until
    "
    };
}

macro_rules! many {
    () => {
        "
        SELECT * FROM UNNEST(
            $3::TEXT[], $4::BOOLEAN[], $5::BIGINT[], $6::BOOLEAN[], $7::BIGINT[], $8::BIGINT[],
            $9::TIMESTAMPTZ[], $10::TIMESTAMPTZ[], $11::TIMESTAMPTZ[], $12::TIMESTAMPTZ[],
            $13::TIMESTAMPTZ[], $14::TEXT[], $15::TEXT[], $16::BIGINT[], $17::TEXT[],
            $18::TIMESTAMPTZ[], $19::TIMESTAMPTZ[]
        ) AS change (
            key, is_new, revision, is_granted, failures, interval_ns, first_failure, since, until,
            due, written, gave_up, cause, token, holder, lease_since, lease_until
        )
    "
    };
}

macro_rules! over {
    ($key:literal) => {
        concat!(
            "
        UPDATE relent SET
            version = 1, revision = change.revision, failures = change.failures,
            interval_ns = change.interval_ns, first_failure = change.first_failure,
            since = change.since, until = change.until, due = change.due,
            written = change.written, gave_up = change.gave_up, cause = change.cause,
            token = CASE WHEN is_granted THEN nextval('relent_tokens') ELSE change.token END,
            holder = change.holder, lease_since = change.lease_since,
            lease_until = change.lease_until
        FROM change
        WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key = ",
            $key,
            " AND relent.key = change.key
            AND relent.revision = change.revision - 1
            AND (relent.lease_until IS NULL OR relent.lease_until <= $2
                OR relent.lease_until > clock_timestamp())"
        )
    };
}

/// Only rows that were there.
pub(super) const PUT_OVER: Statement = Statement {
    one: put!(one!(), over!("$3")),
    many: put!(many!(), over!("ANY($3)")),
};

macro_rules! new {
    () => {
        "
        INSERT INTO relent (
            namespace, key, revision, failures, interval_ns, first_failure, since, until, due,
            written, gave_up, cause, token, holder, lease_since, lease_until
        )
        SELECT $1, key, revision, failures, interval_ns, first_failure, since, until, due,
            written, gave_up, cause,
            CASE WHEN is_granted THEN nextval('relent_tokens') ELSE token END,
            holder, lease_since, lease_until
        FROM change
        ON CONFLICT (namespace, key) DO NOTHING"
    };
}

/// Only new rows.
pub(super) const PUT_NEW: Statement = Statement {
    one: put!(one!(), new!()),
    many: put!(many!(), new!()),
};

/// Both. Two changes of one table in one statement would be faster, and are not for every database.
pub(super) const PUT: &str = put!(
    many!(),
    "
        INSERT INTO relent (
            namespace, key, revision, failures, interval_ns, first_failure, since, until, due,
            written, gave_up, cause, token, holder, lease_since, lease_until
        )
        SELECT $1, key, revision, failures, interval_ns, first_failure, since, until, due,
            written, gave_up, cause,
            CASE WHEN is_granted THEN nextval('relent_tokens') ELSE token END,
            holder, lease_since, lease_until
        FROM (
            SELECT * FROM (
                SELECT change.* FROM change JOIN relent
                    ON relent.key = change.key AND relent.revision = change.revision - 1
                WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key = ANY($3)
                    AND (relent.lease_until IS NULL OR relent.lease_until <= $2
                        OR relent.lease_until > clock_timestamp())
                ORDER BY relent.key FOR UPDATE OF relent
            ) AS as_read
            UNION ALL SELECT * FROM change WHERE is_new
        ) AS change
        ON CONFLICT (namespace, key) DO UPDATE SET
            version = excluded.version, revision = excluded.revision,
            failures = excluded.failures, interval_ns = excluded.interval_ns,
            first_failure = excluded.first_failure, since = excluded.since,
            until = excluded.until, due = excluded.due, written = excluded.written,
            gave_up = excluded.gave_up, cause = excluded.cause, token = excluded.token,
            holder = excluded.holder, lease_since = excluded.lease_since,
            lease_until = excluded.lease_until
        WHERE relent.revision = excluded.revision - 1"
);

/// Gives a lease in a row that is in its place another token.
///
/// `$1` namespace, `$2` key, `$3` revision.
pub(super) const REGRANT: &str = "
    UPDATE relent SET token = nextval('relent_tokens')
    WHERE namespace = (SELECT $1::TEXT) AND key = $2 AND revision = $3 RETURNING token";

/// Deletes rows that are as they were when they were read, and answers which.
///
/// `$1` namespace, `$2` the time of reading, `$3` keys, `$4` their revisions; what to note.
pub(super) const DELETE: &str = "
    WITH deleted AS (
        DELETE FROM relent USING UNNEST($3::TEXT[], $4::BIGINT[]) AS change (key, revision)
        WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key = change.key
            AND relent.key = ANY($3) AND relent.revision = change.revision
            AND (relent.lease_until IS NULL OR relent.lease_until <= $2
                OR relent.lease_until > clock_timestamp())
        RETURNING relent.key
    ), noted AS (
        INSERT INTO relent_history (namespace, key, at, event, cause)
        SELECT $1, key, $2, event, cause
        FROM UNNEST($5::TEXT[], $6::TEXT[], $7::TEXT[])
            WITH ORDINALITY AS event (key, event, cause, n)
        WHERE (key IN (SELECT key FROM deleted)) IS TRUE ORDER BY n
    )
    SELECT key FROM deleted";

/// Lists what is due, and what is from the future. That no index finds among what waits; but one
/// tells at once that there is none, as long as the clock was not set back.
///
/// `$1` namespace, `$2` and `$3` the place after which to begin, `$4` how many.
pub(super) const DUE: &str = "
    WITH clock AS (SELECT clock_timestamp() AS now)
    SELECT * FROM (
        (SELECT * FROM relent
         WHERE namespace = (SELECT $1::TEXT) AND (due, key) > ($2, $3) AND gave_up IS NULL
            AND due <= (SELECT now FROM clock)
         ORDER BY due, key LIMIT $4)
        UNION ALL
        (SELECT * FROM relent
         WHERE namespace = (SELECT $1::TEXT) AND (due, key) > ($2, $3) AND gave_up IS NULL
            AND due > (SELECT now FROM clock) AND written > (SELECT now FROM clock)
            AND (SELECT now FROM clock) < (
                SELECT written FROM relent WHERE namespace = (SELECT $1::TEXT) ORDER BY written DESC LIMIT 1)
         ORDER BY due, key LIMIT $4)
    ) AS listed ORDER BY due, key LIMIT $4";

/// Lists what waits. Parameters as for [`DUE`]; `$2` is NULL to begin with now, so that what is due is
/// not gone through first.
pub(super) const WAITING: &str = "
    WITH clock AS (SELECT clock_timestamp() AS now)
    SELECT * FROM relent
    WHERE namespace = (SELECT $1::TEXT) AND gave_up IS NULL
        AND (due, key) > (COALESCE($2, (SELECT now FROM clock)), $3)
        AND due > (SELECT now FROM clock) AND written <= (SELECT now FROM clock)
    ORDER BY due, key LIMIT $4";

/// Lists what gave up: all of that is due at the end of time. Parameters as for [`DUE`].
pub(super) const GAVE_UP: &str = "
    SELECT * FROM relent
    WHERE namespace = (SELECT $1::TEXT) AND (due, key) > ($2, $3) AND gave_up IS NOT NULL
        AND due >= TIMESTAMPTZ '2262-04-11 23:47:16.854775+00'
    ORDER BY due, key LIMIT $4";

/// Takes what is due and has no lease, and answers with the rows as they were before, with the
/// tokens of their new leases. What is due and has a lease that ran out, or is from the future, it
/// answers too, and leaves: what becomes of that is not for a statement to decide.
///
/// Rows that somebody else is about to change are passed over, not waited for.
///
/// `$1` namespace, `$2` how many, `$3` holder, `$4` time to live in microseconds, `$5` the end of
/// time, `$6` whether to note it, `$7` the version of the rows that are understood.
pub(super) const CLAIM: &str = "
    WITH clock AS (SELECT clock_timestamp() AS now),
    due AS (
        SELECT * FROM relent
        WHERE namespace = (SELECT $1::TEXT) AND gave_up IS NULL AND version <= $7
            AND due <= (SELECT now FROM clock)
        ORDER BY due, key LIMIT $2 FOR UPDATE SKIP LOCKED
    ), future AS (
        SELECT * FROM relent
        WHERE namespace = (SELECT $1::TEXT) AND gave_up IS NULL AND version <= $7
            AND due > (SELECT now FROM clock) AND written > (SELECT now FROM clock)
            AND (SELECT now FROM clock) < (
                SELECT written FROM relent WHERE namespace = (SELECT $1::TEXT) ORDER BY written DESC LIMIT 1)
        ORDER BY due, key LIMIT $2
    ), taken AS (
        UPDATE relent SET revision = relent.revision + 1, token = free.next, holder = $3,
            lease_since = clock.now, written = clock.now,
            lease_until = LEAST($5, clock.now + $4 * INTERVAL '1 microsecond'),
            due = LEAST($5, clock.now + $4 * INTERVAL '1 microsecond')
        FROM clock, (
            SELECT *, nextval('relent_tokens') AS next FROM due WHERE token IS NULL
        ) AS free
        WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key = free.key
        RETURNING free.*
    ), noted AS (
        INSERT INTO relent_history (namespace, key, at, event)
        SELECT $1, taken.key, clock.now, 'started' FROM taken, clock WHERE $6
    )
    SELECT clock.now, found.* FROM clock CROSS JOIN (
        SELECT * FROM taken
        UNION ALL SELECT *, NULL FROM due WHERE token IS NOT NULL
        UNION ALL SELECT *, NULL FROM future
    ) AS found ORDER BY due, key";

/// `$1` namespace, `$2` key, `$3` how many.
pub(super) const HISTORY: &str = "
    SELECT at, event, cause FROM relent_history
    WHERE namespace = $1 AND key = $2 ORDER BY id DESC LIMIT $3";

/// `$1` namespace, `$2` time.
pub(super) const PRUNE: &str = "DELETE FROM relent_history WHERE namespace = $1 AND at < $2";
