//! Extending leases: each by itself, and waiting for nobody.

use std::time::{Duration, SystemTime};

use super::PostgresStore;
use super::batch::Batch;
use super::error::PostgresError;
use super::update::Reading;
use crate::store::desk;
use crate::store::lease::LeaseLost;
use crate::store::rounds::Rounds;

impl PostgresStore {
    /// Extends leases as [`AsyncStore::extend`](crate::store::AsyncStore::extend) says, in two
    /// round trips. A lease whose row somebody has locked is left out, and so is one whose row
    /// cannot be read.
    pub(super) async fn extend_each(
        &self,
        leases: &[(&str, u64)],
        time_to_live: Duration,
        mut told: impl FnMut(usize, Result<SystemTime, LeaseLost>) + Send,
    ) -> Result<(), PostgresError> {
        /// How many times in succession a row may be locked, or changed since it was read.
        const MOST: u32 = 3;
        let keys: Vec<_> = leases.iter().map(|&(key, _)| key).collect();
        let mut extensions = desk::extensions(leases, time_to_live);
        let mut rounds = Rounds::of(&keys);
        let mut failed = Ok(());
        let mut misses = 0;
        let mut connection = self.pool.acquire().await?;
        loop {
            let places = rounds.next(usize::MAX)?;
            let Some(&(_, first)) = places.first() else {
                return failed;
            };
            if misses >= MOST {
                return Err(PostgresError::Locked(first.to_owned()));
            }
            let names: Vec<_> = places.iter().map(|&(_, key)| key).collect();
            let read = self.find(&mut connection, Reading::Open, &names).await;
            let (read, now) = match read {
                Err(error) if error.is_conflict() => {
                    rounds.made(places, Vec::new());
                    continue;
                }
                read => read?,
            };
            let (mut readable, mut found, mut others) = (Vec::new(), Vec::new(), Vec::new());
            for (place, read) in places.into_iter().zip(read) {
                match read {
                    Ok(read) => {
                        readable.push(place);
                        found.push(read);
                    }
                    Err(unreadable) => {
                        failed = Err(unreadable.into());
                        others.push(place);
                    }
                }
            }
            let done = others.iter().map(|_| Some(())).collect();
            rounds.made(others, done);
            let batch = Batch::of_extensions();
            let made = self.make(
                &mut connection,
                &readable,
                &found,
                now,
                batch,
                &mut extensions,
            );
            let made = match made.await {
                Err(error) if error.is_conflict() => {
                    rounds.made(readable, Vec::new());
                    continue;
                }
                made => made?,
            };
            misses += 1;
            let answers = readable.iter().zip(made).map(|(&(n, _), answer)| {
                told(n, answer?);
                misses = 0;
                Some(())
            });
            let answers = answers.collect();
            rounds.made(readable, answers);
        }
    }
}
