//! The statement that deletes rows.

use std::sync::LazyLock;

use super::{LEASE_IS_AS_READ, Statement, Writing, is_any, locked};

/// Deletes rows that are as they were when they were read, and answers which: of several, all or
/// none.
///
/// `$1` namespace, `$2` the time of reading, `$3` keys, `$4` their revisions; what to note.
pub(in crate::store::postgres) static DELETE: LazyLock<Writing> = LazyLock::new(|| {
    let one = "SELECT $3::TEXT AS key, $4::BIGINT AS revision";
    let several = "SELECT UNNEST($3::TEXT[]) AS key, UNNEST($4::BIGINT[]) AS revision";
    let delete = Statement::new(
        delete(one, "= $3"),
        delete(&locked(several, ""), &is_any(3)),
    );
    Writing::new(delete, 3, 5)
});

fn delete(change: &str, is_key: &str) -> String {
    format!(
        "
        DELETE FROM relent USING ({change}) AS change
        WHERE relent.namespace = (SELECT $1::TEXT) AND relent.key {is_key}
            AND relent.key = change.key AND relent.revision = change.revision
            AND {LEASE_IS_AS_READ}
        RETURNING relent.key"
    )
}
