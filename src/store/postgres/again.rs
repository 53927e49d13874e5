//! Asking again, where the database could not serialize a statement with what others did.

use std::future::Future;

use super::error::PostgresError;
use crate::store::rounds::{Contended, Rounds};

/// Runs a statement that commits by itself, until the database does not refuse it because of what
/// others do. Where transactions are serializable, it may refuse even those that only read.
pub(super) async fn again<T, E, F>(mut ask: impl FnMut() -> F) -> Result<T, PostgresError>
where
    PostgresError: From<E>,
    F: Future<Output = Result<T, E>>,
{
    for _ in 0..Rounds::<T>::MOST {
        match ask().await.map_err(PostgresError::from) {
            Err(error) if error.is_conflict() => {}
            answer => return answer,
        }
    }
    Err(Contended.into())
}
