//! One attempt at a key.

use std::time::Duration;

use super::DurableTracker;
use crate::policy::Backoff;
use crate::state::{Decision, Recovery};
use crate::store::error::Error;
use crate::store::future::AsyncStore;
use crate::store::step::{self, Failed, Window};

/// One attempt at a key, from [`DurableTracker::attempt`] or [`DurableTracker::attempt_now`].
/// Dropping it leaves the key as it was.
#[derive(Debug)]
#[must_use = "an attempt that is dropped counts neither as a success nor as a failure"]
pub struct Attempt<'a, S> {
    pub(super) tracker: &'a DurableTracker<S>,
    pub(super) key: String,
    pub(super) window: Window,
}

impl<S: AsyncStore> Attempt<'_, S> {
    /// Ends the streak.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn succeed(self) -> Result<Option<Recovery>, Error<S::Error>> {
        self.tracker.record_success(&self.key).await
    }

    /// Counts a failure, unless another was counted since the attempt began, or the attempt is out
    /// of turn. Either way, says how long to wait. If the streak has ended meanwhile and no other
    /// has begun, the failure is the first of a new one.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn fail(self, cause: &str) -> Result<Decision, Error<S::Error>> {
        let failed = self.tracker.desk.failed(cause);
        self.failed(failed).await
    }

    /// The same by another policy, and with a server's hint. Without a policy the last interval is
    /// repeated, at least a second.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn fail_with(
        self,
        backoff: Option<&Backoff>,
        retry_after: Option<Duration>,
        cause: &str,
    ) -> Result<Decision, Error<S::Error>> {
        let desk = &self.tracker.desk;
        let failed = desk.failed_with(backoff, retry_after, cause);
        self.failed(failed).await
    }

    async fn failed(self, failed: Failed) -> Result<Decision, Error<S::Error>> {
        let change = step::failure_in(self.window, failed);
        self.tracker.update(&self.key, change).await
    }
}

impl<S> Attempt<'_, S> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}
