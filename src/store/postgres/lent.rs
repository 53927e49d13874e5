//! What a change is made with, and what becomes of it when nobody waits any more.

use sqlx::pool::PoolConnection;
use sqlx::{Postgres, query};
use tokio::runtime::Handle;

/// A connection, and a change that is being made on it; `None` once that is over.
///
/// If this is dropped before, the server may still be at work. The change is kept until it is done,
/// so that others know to wait. And a transaction is ended of which sqlx, up to 0.9.0, knows
/// nothing, because nobody waited for its beginning: whatever is written next on the connection
/// would be part of it, and never be committed.
pub(super) struct Lent<F: Send + 'static>(pub(super) Option<(PoolConnection<Postgres>, F)>);

impl<F: Send + 'static> Drop for Lent<F> {
    fn drop(&mut self) {
        let Some((mut connection, change)) = self.0.take() else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // The pool finds out whether the connection can still be used.
                let _ = query("ROLLBACK").execute(&mut *connection).await;
                drop(connection);
                drop(change);
            });
        }
    }
}
