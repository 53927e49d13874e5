//! The statements that read rows, and lock them.

use std::sync::LazyLock;

use super::{REST, STREAK, Statement, is_any};

/// Reads rows by their keys, and the time: if there are none, one row of nothing but the time.
///
/// `$1` namespace, `$2` keys.
pub(in crate::store::postgres) static READ: LazyLock<Statement> =
    LazyLock::new(|| Statement::new(read("= $2"), read(&is_any(2))));

fn read(is_key: &str) -> String {
    format!(
        "
    SELECT {STREAK}, {REST}, (SELECT clock_timestamp()) AS now
    FROM (SELECT 1) AS one
    LEFT JOIN relent ON relent.namespace = (SELECT $1::TEXT) AND relent.key {is_key}"
    )
}

/// As [`READ`], and locks the rows until the end of the transaction, in the order of their keys, so
/// that of two transactions that want several of them, one waits for the other.
///
/// Where there are several keys, it also locks those that have no row: it puts a row there, with
/// the revision that is given for it and no content, to be written over or deleted before the end.
///
/// `$1` namespace, `$2` keys; of several, `$3` revisions.
pub(in crate::store::postgres) static LOCK: LazyLock<Statement> =
    LazyLock::new(|| Statement::new(lock(), place()));

fn lock() -> String {
    format!(
        "
    SELECT {STREAK}, {REST}, clock_timestamp() AS now
    FROM (SELECT 1) AS one
    LEFT JOIN (
        SELECT * FROM relent WHERE namespace = (SELECT $1::TEXT) AND key = $2 FOR UPDATE
    ) AS locked ON TRUE"
    )
}

fn place() -> String {
    format!(
        "
    INSERT INTO relent (
        namespace, key, revision, failures, first_failure, since, until, due, cause
    )
    SELECT $1, key, revision, 0, time, time, time, time, ''
    FROM (
        SELECT UNNEST($2::TEXT[]) AS key, UNNEST($3::BIGINT[]) AS revision,
            TIMESTAMPTZ '1970-01-01 00:00:00+00' AS time
        ORDER BY key
    ) AS change
    ON CONFLICT (namespace, key) DO UPDATE SET revision = relent.revision
    RETURNING {STREAK}, {REST}, clock_timestamp() AS now"
    )
}
