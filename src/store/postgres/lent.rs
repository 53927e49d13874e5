//! A connection on loan from the pool.

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{Connection, Postgres, Transaction};

/// A connection that goes back to its pool, unless a transaction was to begin on it, and nobody
/// waited for that: sqlx, up to 0.9.0, then knows nothing of the transaction, and nothing that is
/// written on the connection would ever be committed. So it is closed.
pub(super) struct Lent {
    pub(super) connection: PoolConnection<Postgres>,
    is_beginning: bool,
}

impl Lent {
    pub(super) async fn from(pool: &PgPool) -> Result<Lent, sqlx::Error> {
        Ok(Lent {
            connection: pool.acquire().await?,
            is_beginning: false,
        })
    }

    pub(super) async fn begin(
        &mut self,
        statement: &'static str,
    ) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
        let Lent {
            connection,
            is_beginning,
        } = self;
        *is_beginning = true;
        let transaction = Connection::begin_with(&mut **connection, statement).await?;
        *is_beginning = false;
        Ok(transaction)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.is_beginning {
            self.connection.close_on_drop();
        }
    }
}
