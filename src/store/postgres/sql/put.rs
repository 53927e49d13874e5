//! The statements that write rows.
//!
//! Their parameters: `$1` namespace, `$2` and `$3` the time of reading, and that in microseconds;
//! the [columns](COLUMNS) of one row, or an array for each of them; what to note.

use std::sync::LazyLock;

use super::{LEASE_IS_AS_READ, Statement, Writing, all_or_none, in_order, is_any, locked};

/// What is bound of each row, as [`batch`](super::super::batch) binds it, from `$4` on: names and
/// types.
const COLUMNS: [(&str, &str); 16] = [
    ("key", "TEXT"),
    ("revision", "BIGINT"),
    ("failures", "BIGINT"),
    ("interval_ns", "BIGINT"),
    ("first_failure", "TIMESTAMPTZ"),
    ("until", "TIMESTAMPTZ"),
    ("cause", "TEXT"),
    ("since", "TIMESTAMPTZ"),
    ("due", "TIMESTAMPTZ"),
    ("gave_up", "TEXT"),
    ("is_granted", "BOOLEAN"),
    ("token", "BIGINT"),
    ("holder", "TEXT"),
    ("lease_since", "TIMESTAMPTZ"),
    ("lease_until", "TIMESTAMPTZ"),
    ("is_new", "BOOLEAN"),
];

const ALL: usize = COLUMNS.len();

/// How many of the columns there are to bind where all are failures.
const OF_FAILURES: usize = 7;

const KEYS: u8 = 4;

/// The events to note come after the columns.
const NOTES: u8 = 20;

/// Writes over rows that are as they were when they were read, and answers which: of several, all
/// or none.
///
/// A row is as it was if its revision is one less than the one to write. A new lease gets its token
/// here, while the row is one that nobody else can change.
pub(in crate::store::postgres) static PUT_OVER: LazyLock<Writing> = LazyLock::new(|| {
    let is_key = &is_any(KEYS);
    let failures = Statement {
        one: failures_over(&one(OF_FAILURES), "= $4"),
        few: counted(&failures_over(&locked(&several(OF_FAILURES), ""), is_key)),
        many: counted(&failures_over(&several(OF_FAILURES), is_key)),
    };
    let write = Statement {
        one: rows_over(&one(ALL), "= $4"),
        few: rows_over(&locked(&several(ALL), ""), is_key),
        many: rows_over(&several(ALL), is_key),
    };
    Writing {
        failures: Some(failures),
        ..Writing::new(write, KEYS, NOTES)
    }
});

/// The same for each row by itself, and only for rows that nobody else has locked: it waits for
/// nobody.
pub(in crate::store::postgres) static EXTEND: LazyLock<Statement> = LazyLock::new(|| {
    let free = |changes: &str| locked(changes, " SKIP LOCKED");
    Statement::new(
        rows_over(&free(&one(ALL)), "= $4"),
        rows_over(&free(&several(ALL)), &is_any(KEYS)),
    )
});

/// Writes new rows, and answers which: of several, all or none. They begin with a random revision,
/// so that none can be mistaken for an earlier one that was deleted.
///
/// The token of a new row is drawn before the row is in its place. So the statement also answers
/// what the last token was after that; if the two differ, [`REGRANT`] is for that.
pub(in crate::store::postgres) static PUT_NEW: LazyLock<Writing> = LazyLock::new(|| {
    let failures = Statement::new(
        new_failures(&one(OF_FAILURES)),
        counted(&new_failures(&in_order(&several(OF_FAILURES)))),
    );
    let write = Statement::new(
        new_rows(&one(ALL), "NOTHING"),
        new_rows(&in_order(&several(ALL)), "NOTHING"),
    );
    Writing {
        failures: Some(failures),
        ..Writing::new(write, KEYS, NOTES)
    }
});

/// Writes new rows and over others, key by key: each row that is there is locked and then written
/// before the next is looked at. Two changes of one table in one statement would be faster, but not
/// every database takes them.
pub(in crate::store::postgres) static PUT: LazyLock<Writing> = LazyLock::new(|| {
    let changes = in_order(&several(ALL));
    let as_read = format!(
        "
            SELECT change.* FROM ({changes}) AS change
            LEFT JOIN LATERAL (
                SELECT key FROM relent
                WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key = change.key
                    AND relent.revision = change.revision - 1
                    AND {LEASE_IS_AS_READ}
                FOR UPDATE
            ) AS as_read ON TRUE
            WHERE change.is_new OR as_read.key IS NOT NULL"
    );
    let write_over = "UPDATE SET
            version = excluded.version, revision = excluded.revision,
            failures = excluded.failures, interval_ns = excluded.interval_ns,
            first_failure = excluded.first_failure, since = excluded.since,
            until = excluded.until, due = excluded.due, cause = excluded.cause,
            gave_up = excluded.gave_up, token = excluded.token, holder = excluded.holder,
            lease_since = excluded.lease_since, lease_until = excluded.lease_until
        WHERE relent.revision = excluded.revision - 1";
    let both = new_rows(&as_read, write_over);
    Writing::new(Statement::new(both.clone(), both), KEYS, NOTES)
});

/// Gives a lease another token, now that its row is in its place. What else was written there
/// meanwhile stays; whoever read the row before cannot write over it.
///
/// `$1` namespace, `$2` key, `$3` the token that it has.
pub(in crate::store::postgres) const REGRANT: &str = "
    UPDATE relent SET revision = revision + 1, token = nextval('relent_tokens')
    WHERE namespace = (SELECT $1::TEXT) AND key = $2 AND token = $3 RETURNING token";

/// Raises the latest time at which any row was written, once, and is true. Two statements that do
/// so at once may leave it at the time of the one that read the clock first, until the next write.
const LATEST_IS_RAISED: &str =
    "(SELECT setval('relent_latest', $3::BIGINT) FROM relent_latest WHERE last_value < $3)
                IS DISTINCT FROM 0";

/// One row.
fn one(columns: usize) -> String {
    bound(columns, |n, kind| format!("${n}::{kind}"))
}

/// Several rows. Arrays that end early are filled up with NULL. Not as a table, `FROM UNNEST`: that
/// would materialize each array before it reads the first row.
fn several(columns: usize) -> String {
    bound(columns, |n, kind| format!("UNNEST(${n}::{kind}[])"))
}

fn bound(columns: usize, value: impl Fn(u8, &str) -> String) -> String {
    let columns = COLUMNS.iter().take(columns).zip(KEYS..);
    let columns = columns.map(|(&(name, kind), n)| format!("{} AS {name}", value(n, kind)));
    let columns: Vec<_> = columns.collect();
    format!("SELECT {}", columns.join(", "))
}

/// Writes the rows of all keys, and answers how many those are; or writes none.
fn counted(write: &str) -> String {
    let all_or_none = all_or_none(KEYS);
    format!(
        "
    WITH written AS ({write} RETURNING relent.key){all_or_none}"
    )
}

fn rows_over(change: &str, is_key: &str) -> String {
    let set = "since = change.since, due = change.due, gave_up = change.gave_up,
            token = CASE WHEN is_granted THEN nextval('relent_tokens') ELSE change.token END,
            holder = change.holder, lease_since = change.lease_since,
            lease_until = change.lease_until";
    let update = update(set, change, is_key);
    format!(
        "{update}
        RETURNING relent.key, relent.token"
    )
}

fn failures_over(change: &str, is_key: &str) -> String {
    let set = "since = $2, due = change.until, gave_up = NULL, token = NULL, holder = NULL,
            lease_since = NULL, lease_until = NULL";
    update(set, change, is_key)
}

/// Writes over rows that are there; `set` says the rest of what to write.
fn update(set: &str, change: &str, is_key: &str) -> String {
    format!(
        "
        UPDATE relent SET
            version = 1, revision = change.revision, failures = change.failures,
            interval_ns = change.interval_ns, first_failure = change.first_failure,
            until = change.until, cause = change.cause, {set}
        FROM ({change}) AS change
        WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key {is_key}
            AND relent.key = change.key
            AND relent.revision = change.revision - 1
            AND {LEASE_IS_AS_READ}
            AND {LATEST_IS_RAISED}"
    )
}

fn new_rows(change: &str, on_conflict: &str) -> String {
    let columns = "since, due, gave_up, token, holder, lease_since, lease_until";
    let values = "since, due, gave_up,
            CASE WHEN is_granted THEN nextval('relent_tokens') ELSE token END, holder, lease_since,
            lease_until";
    let insert = insert(columns, values, change, on_conflict);
    format!(
        "{insert}
        RETURNING relent.key, relent.token,
            (SELECT last_value FROM relent_tokens WHERE relent.token IS NOT NULL) AS last_token"
    )
}

fn new_failures(change: &str) -> String {
    insert("since, due", "$2, until", change, "NOTHING")
}

/// Puts rows where there are none; `columns` and `values` say the rest of what to write.
fn insert(columns: &str, values: &str, change: &str, on_conflict: &str) -> String {
    format!(
        "
        INSERT INTO relent (
            namespace, key, revision, failures, interval_ns, first_failure, until, cause, {columns}
        )
        SELECT $1, key, revision, failures, interval_ns, first_failure, until, cause, {values}
        FROM ({change}) AS change
        WHERE {LATEST_IS_RAISED}
        ON CONFLICT (namespace, key) DO {on_conflict}"
    )
}
