//! Listing what is due, waits or gave up.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use rusqlite::Connection;

use super::error::SqliteError;
use super::{SqliteStore, row};
use crate::clock::Clock;
use crate::store::columns;
use crate::store::listing::{Listed, Page, Which};

impl<C: Clock> SqliteStore<C> {
    pub(super) fn page(
        &self,
        connection: &Connection,
        page: &Page,
        now: SystemTime,
    ) -> Result<Vec<Listed>, SqliteError> {
        let time = columns::time(now);
        let mut listed = self.range(connection, row::Range::of(page.which), page, time)?;
        let is_set_back = time < self.shared.latest.load(Relaxed);
        if page.which == Which::Due && is_set_back && listed.len() < page.limit {
            let rest = Page {
                limit: page.limit - listed.len(),
                ..page.clone()
            };
            listed.extend(self.range(connection, row::Range::FromTheFuture, &rest, time)?);
        }
        Ok(listed)
    }

    fn range(
        &self,
        connection: &Connection,
        range: row::Range,
        page: &Page,
        now: i64,
    ) -> Result<Vec<Listed>, SqliteError> {
        let rows = row::list(connection, &self.namespace, range, page, now)?;
        let listed = rows.into_iter().map(|(key, record)| match record {
            Ok(record) => Ok(Listed { key, record }),
            Err(why) => Err(self.damaged("relent", &key, why)),
        });
        listed.collect()
    }
}
