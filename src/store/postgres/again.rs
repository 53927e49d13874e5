//! Asking again for what the database could not put in order with what others did.

use std::future::Future;

use super::error::PostgresError;
use crate::store::rounds::{Contended, Rounds};

/// Asks with a statement that commits by itself, until the database does not refuse it for the sake
/// of others. Where transactions are serializable, it may refuse even those that only read.
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
