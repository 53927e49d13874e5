//! Listing what is due, waits or gave up.

use rusqlite::Connection;

use super::SqliteStore;
use super::database::Moment;
use super::error::SqliteError;
use super::range::{self, Found, Range};
use crate::clock::Clock;
use crate::store::columns;
use crate::store::listing::{Listed, Page, Which};
use crate::store::unreadable::Unreadable;

impl<C: Clock> SqliteStore<C> {
    pub(super) fn page(
        &self,
        connection: &Connection,
        page: &Page,
        moment: Moment,
    ) -> Result<Vec<Listed>, SqliteError> {
        let mut found = Found::default();
        let now = columns::time(moment.now);
        let mut add = |range| {
            range::list(connection, &self.namespace, range, page, now, &mut found)
                .map_err(self.failed())
        };
        add(Range::of(page.which))?;
        if page.which == Which::Due && moment.is_set_back {
            add(Range::FromTheFuture)?;
        }
        match found.unreadable {
            Some((key, why)) if found.listed.is_empty() && page.after.is_none() => {
                Err(self.damaged("relent", &key, why).into())
            }
            _ => Ok(found.listed),
        }
    }

    /// The keys of the namespace whose rows cannot be read, up to `limit` of them, in the order of
    /// the keys.
    ///
    /// Such a row is an error wherever its key is asked for, and is not written to. Lists and
    /// claims pass it over, so that it stands in the way of no other key; it is their error only
    /// where there is nothing else to answer. So call this now and then, and repair or delete such
    /// rows. It reads the whole table.
    ///
    /// # Errors
    ///
    /// The database's.
    pub fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, SqliteError> {
        let connection = self.database.reader().lock();
        let rows = range::unreadable(&connection, &self.namespace, limit).map_err(self.failed())?;
        let rows = rows.into_iter();
        Ok(rows
            .map(|(key, why)| self.damaged("relent", &key, why))
            .collect())
    }
}
