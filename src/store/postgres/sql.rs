//! The statements that read and write rows by their keys. Each is one round trip, and commits by
//! itself where no transaction is open.
//!
//! They stay within what CockroachDB takes too: one change per table and statement, each at the top
//! of the statement and returning something, even where nobody asks; no functions in another
//! language, no locks but those of rows.
//!
//! Parameters that the planner would look into are hidden from it in subqueries. So one plan is
//! made for all their values, and for all namespaces: for a namespace of which the planner knows no
//! rows, the database would go through all of it to find a key.
//!
//! The time is that of the server's machine, `clock_timestamp()`, not that at which the transaction
//! began: a lease may run out in the middle of a transaction, and somebody else may have written a
//! row since it began. It is read after the row, so that what the row says is never from the
//! future; or where rows are not locked, after the moment as of which the statement sees all of
//! them.

mod delete;
mod put;
mod read;

pub(super) use delete::DELETE;
pub(super) use put::{EXTEND, PUT, PUT_NEW, PUT_OVER, REGRANT};
pub(super) use read::{LOCK, READ};

/// A statement about one key, and the same about a few and about many.
pub(super) struct Statement {
    one: String,
    few: String,
    many: String,
}

impl Statement {
    /// A few rows that are to be written over are first locked in order, which takes a third
    /// longer. Many are written in the order in which the database comes upon them. Two batches
    /// that do that to the same rows may wait for each other, until the database notices, and one
    /// of them is made again, in order.
    const FEW: usize = 32;

    fn new(one: String, several: String) -> Statement {
        Statement {
            one,
            few: several.clone(),
            many: several,
        }
    }

    pub(super) fn about(&self, keys: usize) -> &str {
        match keys {
            1 => &self.one,
            2..=Self::FEW => &self.few,
            _ => &self.many,
        }
    }
}

/// A statement that writes all of its keys or none; the same with events to note in the history;
/// and, if there is one, the same for [nothing but failures](super::batch), which binds and answers
/// less.
pub(super) struct Writing {
    failures: Option<Statement>,
    plain: Statement,
    noting: Statement,
}

impl Writing {
    /// `write` answers with the `key` of each row that it has written; of several, it is undone
    /// unless it has written all. `$keys` are its keys, and the events come as `$notes` and the two
    /// after it.
    fn new(write: Statement, keys: u8, notes: u8) -> Writing {
        let if_all = if_all(keys);
        let with_notes = |write: &str, if_all| noting(write, notes, if_all);
        Writing {
            failures: None,
            noting: Statement {
                one: with_notes(&write.one, ""),
                few: with_notes(&write.few, &if_all),
                many: with_notes(&write.many, &if_all),
            },
            plain: Statement {
                one: write.one,
                few: whole(&write.few, &if_all),
                many: whole(&write.many, &if_all),
            },
        }
    }

    pub(super) fn noting(&self, is_noting: bool) -> &Statement {
        if is_noting { &self.noting } else { &self.plain }
    }

    pub(super) fn failures(&self) -> Option<&Statement> {
        self.failures.as_ref()
    }
}

/// What [`row`](super::row) reads of the streak, in this order.
pub(super) const STREAK: &str =
    "key, version, failures, interval_ns, first_failure, since, until, cause";

/// What [`row`](super::row) reads of a row after the [streak](STREAK), in this order.
pub(super) const REST: &str = "revision, gave_up, token, holder, lease_since, lease_until";

/// The time, also in microseconds, and the latest time at which any row was written: in one row,
/// which is read once for all of a statement. The time is read last, so that a write in between
/// does not make it look set back.
pub(super) const CLOCK: &str = "
        SELECT latest, now, (EXTRACT(EPOCH FROM now) * 1000000)::BIGINT AS micros
        FROM (SELECT last_value AS latest, clock_timestamp() AS now FROM relent_latest) AS clock";

/// The condition that [`row`](super::row) can read a row. Nothing in the table ensures it, so a
/// statement that looks for rows passes the others over, and never writes to them.
pub(super) const IS_READABLE: &str = "version <= 1 AND revision < 9223372036854775807
                AND failures BETWEEN 0 AND 4294967295
                AND (interval_ns IS NULL OR interval_ns >= 0)
                AND LEAST(first_failure, since, until) >= TIMESTAMPTZ '1970-01-01 00:00:00+00'
                AND GREATEST(first_failure, since, until)
                    <= TIMESTAMPTZ '2262-04-11 23:47:16.854775+00'
                AND (gave_up IS NULL OR gave_up IN ('failures', 'elapsed'))
                AND (token IS NULL OR token >= 0 AND holder IS NOT NULL
                    AND LEAST(lease_since, lease_until) >= TIMESTAMPTZ '1970-01-01 00:00:00+00'
                    AND GREATEST(lease_since, lease_until)
                        <= TIMESTAMPTZ '2262-04-11 23:47:16.854775+00'
                    AND lease_since IS NOT NULL AND lease_until IS NOT NULL)";

/// The condition that [`row`](super::row) can read a row, or that parameter `$any` asks for all, to
/// learn of those that cannot be read.
pub(super) fn is_wanted(any: u8) -> String {
    format!("((SELECT ${any}::BOOLEAN) OR {IS_READABLE})")
}

/// What was decided while a lease was good is not written once it has run out.
const LEASE_IS_AS_READ: &str = "(relent.lease_until IS NULL OR relent.lease_until <= $2
                OR relent.lease_until > clock_timestamp())";

/// The keys of an array, looked up in the index one by one whatever the planner thinks of the
/// table.
fn is_any(keys: u8) -> String {
    format!("= ANY ((SELECT ${keys}::TEXT[])::TEXT[])")
}

/// Changes to several rows, in the one order in which everybody locks several, so that no two wait
/// for each other.
fn in_order(changes: &str) -> String {
    format!("{changes} ORDER BY key")
}

/// The changes to rows that are there, each of which is locked before the next is looked at.
/// `or_else` says what becomes of those that somebody else has locked, unless they are waited for.
fn locked(changes: &str, or_else: &str) -> String {
    let changes = in_order(changes);
    format!(
        "
        SELECT change.* FROM ({changes}) AS change
        CROSS JOIN LATERAL (
            SELECT key FROM relent AS held
            WHERE held.namespace = (SELECT $1::TEXT) AND held.key = change.key FOR UPDATE{or_else}
        ) AS held OFFSET 0"
    )
}

/// A text that the database is made to take for a number, which fails, and so undoes a statement
/// that wrote only some of its rows. Its error quotes the text.
pub(super) const SOME_ONLY: &str = "relent: others were quicker, to be done again";

/// How many rows were `written`: none, or as many as there are keys. Otherwise it is an error, and
/// none are.
fn all_or_none(keys: u8) -> String {
    format!(
        "
    SELECT CASE WHEN count(*) IN (0, array_length(${keys}::TEXT[], 1)) THEN count(*)
        ELSE CAST('{SOME_ONLY} (' || count(*)::TEXT || ')' AS BIGINT) END
    FROM written"
    )
}

/// Answers what was `written` only if all was; otherwise it is an error.
fn if_all(keys: u8) -> String {
    let all_or_none = all_or_none(keys);
    format!(" WHERE ({all_or_none}) > 0")
}

/// A statement about many keys that writes all of their rows, or none.
fn whole(write: &str, if_all: &str) -> String {
    format!(
        "
    WITH written AS ({write})
    SELECT * FROM written{if_all}"
    )
}

/// A write with events to note of the keys that were written, which come as `$notes` and the two
/// parameters after it: keys, events and causes.
///
/// `IS TRUE` has the database look keys up in a hash table; otherwise it would assume that arrays
/// are short, and compare each key with each.
fn noting(write: &str, notes: u8, if_all: &str) -> String {
    let (keys, events, causes) = (notes, notes + 1, notes + 2);
    format!(
        "
    WITH written AS ({write}), noted AS (
        INSERT INTO relent_history (namespace, key, at, event, cause)
        SELECT $1, key, $2, event, cause
        FROM UNNEST(${keys}::TEXT[], ${events}::TEXT[], ${causes}::TEXT[]) WITH ORDINALITY
            AS event (key, event, cause, n)
        WHERE (key IN (SELECT key FROM written)) IS TRUE ORDER BY n
        RETURNING key
    )
    SELECT * FROM written{if_all}"
    )
}
