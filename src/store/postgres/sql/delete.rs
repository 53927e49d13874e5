//! The statement that deletes rows.

use super::{
    Statement, Writing, all_or_none, if_all, in_order, is_any, lease_is_as_read, locked, noting,
    some_only, whole,
};

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
            locked!("SELECT UNNEST($3::TEXT[]) AS key, UNNEST($4::BIGINT[]) AS revision"),
            is_any!("$3")
        )
    };
}

/// Deletes rows that are as they were when they were read, and answers which: of several, all or
/// none.
///
/// `$1` namespace, `$2` the time of reading, `$3` keys, `$4` their revisions; what to note.
pub(in crate::store::postgres) const DELETE: Writing = Writing {
    failures: None,
    plain: Statement::new(delete_one!(), whole!(delete_many!(), "$3")),
    noting: Statement::new(
        noting!(delete_one!(), "$5", "$6", "$7", ""),
        noting!(delete_many!(), "$5", "$6", "$7", if_all!("$3")),
    ),
};
