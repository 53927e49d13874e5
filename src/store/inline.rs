//! A blocking store behind the async face, called in place.

use std::time::{Duration, SystemTime};

use super::blocking::{Store, Transactional};
use super::change::Change;
use super::error::Fault;
use super::future::{AsyncStore, AsyncTransactional};
use super::lease::LeaseLost;
use super::listing::{Listed, Page};
use super::record::Record;
use super::step::Start;

/// A blocking store behind the async face, called where the future is polled.
///
/// For stores that answer in no time, and for executors that may be blocked: one on a thread of its
/// own, say, or in a program that does nothing else. With tokio, see `Unblock`.
#[derive(Clone, Debug, Default)]
pub struct Inline<S>(pub S);

impl<S: Store + Send + Sync> AsyncStore for Inline<S> {
    type Error = S::Error;

    fn fault(&self, error: &S::Error) -> Fault {
        self.0.fault(error)
    }

    async fn update<R: Send + 'static>(
        &self,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, S::Error> {
        self.0.update(key, change)
    }

    async fn update_all<R: Send + 'static>(
        &self,
        keys: &[&str],
        change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<Vec<R>, S::Error> {
        self.0.update_all(keys, change)
    }

    async fn load(&self, key: &str) -> Result<(Option<Record>, SystemTime), S::Error> {
        self.0.load(key)
    }

    async fn list(&self, page: &Page) -> Result<Vec<Listed>, S::Error> {
        self.0.list(page)
    }

    async fn claim(&self, start: &Start, limit: usize) -> Result<Vec<Listed>, S::Error> {
        self.0.claim(start, limit)
    }

    async fn extend(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), S::Error> {
        self.0.extend(leases, time_to_live, told)
    }
}

impl<S: Transactional + Send + Sync> AsyncTransactional for Inline<S>
where
    for<'a> S::Connection<'a>: Send,
{
    type Connection<'a> = S::Connection<'a>;

    async fn update_in<R: Send + 'static>(
        &self,
        connection: S::Connection<'_>,
        key: &str,
        change: impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static,
    ) -> Result<R, S::Error> {
        self.0.update_in(connection, key, change)
    }
}
