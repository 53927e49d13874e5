//! What the blocking and the async tracker share: everything but the call of the store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use super::change::Change;
use super::error::{Error, StartError, WorkError};
use super::key::InvalidKey;
use super::lease::LeaseLost;
use super::options::Options;
use super::record::Record;
use super::session::{Expiry, LeaseId, Session};
use super::step::{self, Failed, Start};
use crate::atomic::AtomicU64;
use crate::policy::Backoff;
use crate::random;
use crate::state::Decision;

/// A store, and what its transitions are made with.
pub(super) struct Desk<S> {
    pub(super) store: Arc<S>,
    pub(super) backoff: Option<Backoff>,
    pub(super) session: Session,
    entropy: Arc<Entropy>,
}

#[derive(Debug)]
struct Entropy {
    seed: u64,
    draws: AtomicU64,
}

impl<S> Clone for Desk<S> {
    fn clone(&self) -> Desk<S> {
        Desk {
            store: Arc::clone(&self.store),
            backoff: self.backoff,
            session: self.session.clone(),
            entropy: Arc::clone(&self.entropy),
        }
    }
}

impl<S> fmt::Debug for Desk<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("backoff", &self.backoff)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl<S> Desk<S> {
    pub(super) fn new(store: Arc<S>, options: &Options) -> Desk<S> {
        Desk {
            store,
            backoff: options.backoff,
            session: Session::new(options),
            entropy: Arc::new(Entropy {
                seed: options.seed.unwrap_or_else(random::seed),
                draws: AtomicU64::new(0),
            }),
        }
    }

    pub(super) fn renewed(&self) -> Desk<S> {
        let mut desk = self.clone();
        desk.session = self.session.renewed();
        desk
    }

    /// The same over another face of the store.
    #[cfg(feature = "tokio")]
    pub(super) fn over<T>(&self, store: Arc<T>) -> Desk<T> {
        Desk {
            store,
            backoff: self.backoff,
            session: self.session.clone(),
            entropy: Arc::clone(&self.entropy),
        }
    }

    /// The failure to record by this tracker's own policy.
    pub(super) fn failed(&self, cause: &str) -> Failed {
        self.failed_with(self.backoff.as_ref(), None, cause)
    }

    pub(super) fn failed_with(
        &self,
        backoff: Option<&Backoff>,
        retry_after: Option<Duration>,
        cause: &str,
    ) -> Failed {
        Failed {
            backoff: backoff.copied(),
            retry_after,
            cause: cause.to_owned(),
            entropy: self.entropy(),
        }
    }

    /// The request to start work, unless the session has expired.
    pub(super) fn start<E>(&self) -> Result<Start, StartError<E>> {
        if self.session.expired() {
            return Err(StartError::SessionExpired);
        }
        Ok(Start {
            holder: self.session.holder().to_owned(),
            time_to_live: self.session.time_to_live(),
            backoff: self.backoff,
            entropy: self.entropy(),
        })
    }

    /// The failures to record for pairs of a key and a cause.
    pub(super) fn each_failed(&self, failures: &[(&str, &str)]) -> Vec<Failed> {
        failures
            .iter()
            .map(|&(_, cause)| self.failed(cause))
            .collect()
    }

    pub(super) fn entropy(&self) -> u64 {
        let entropy = &self.entropy;
        random::draw(entropy.seed, entropy.draws.fetch_add(1, Relaxed))
    }
}

/// The transition for each of several failures.
pub(super) fn failures(
    each_failed: Vec<Failed>,
) -> impl FnMut(usize, Option<&Record>, SystemTime) -> Change<Decision> + Send + 'static {
    each(each_failed.into_iter().map(step::failure).collect())
}

/// The transition for each lease of a heartbeat: a key and a token.
pub(super) fn extensions(
    leases: &[(&str, u64)],
    time_to_live: Duration,
) -> impl FnMut(usize, Option<&Record>, SystemTime) -> Change<Result<SystemTime, LeaseLost>>
+ Send
+ 'static {
    let extend = |&(_, token): &(&str, u64)| step::extend(token, time_to_live);
    each(leases.iter().map(extend).collect())
}

/// The transition for each lease that is given back.
pub(super) fn given_back(
    tokens: impl Iterator<Item = u64>,
) -> impl FnMut(usize, Option<&Record>, SystemTime) -> Change<bool> + Send + 'static {
    each(tokens.map(step::give_back).collect())
}

/// One transition for each of several keys.
fn each<R>(
    mut transitions: Vec<impl FnMut(Option<&Record>, SystemTime) -> Change<R> + Send + 'static>,
) -> impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send + 'static {
    move |n, record, now| transitions[n](record, now)
}

/// The key, if it is valid.
pub(super) fn checked<E>(key: &str) -> Result<&str, Error<E>> {
    InvalidKey::check(key).map_err(Error::Key)?;
    Ok(key)
}

/// A lease in hand, and what the session knows of it. Dropping it releases the lease from the
/// session.
#[derive(Debug)]
pub(super) struct Held {
    session: Session,
    lease: LeaseId,
    key: Arc<str>,
    record: Record,
    token: u64,
}

impl Held {
    pub(super) fn new(
        session: &Session,
        key: impl Into<Arc<str>>,
        record: Record,
        asked: Duration,
    ) -> Held {
        let key = key.into();
        let token = record.lease.as_ref().map_or(0, |lease| lease.token);
        Held {
            session: session.clone(),
            lease: session.hold(&key, token, asked),
            key,
            record,
            token,
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    pub(super) fn expired(&self) -> bool {
        !self.session.holds(self.lease)
    }

    pub(super) fn expiry(&self) -> Expiry {
        self.session.expiry_of(self.lease)
    }

    /// Why a lease that was just granted cannot be relied on, if so: it must be given back.
    pub(super) fn too_late<E>(&self) -> Option<StartError<E>> {
        if !self.expired() {
            return None;
        }
        Some(if self.session.expired() {
            StartError::SessionExpired
        } else {
            StartError::TooLate
        })
    }

    /// Marks the work as being ended, until the result is dropped.
    pub(super) fn ending(&self) -> Ending<'_> {
        self.session.set_ending(self.lease, true);
        Ending(self)
    }

    /// Ends the work as a failure, which does not count if the work was out of turn, unless the
    /// streak has ended meanwhile.
    pub(super) fn failing(
        &self,
        failed: Failed,
    ) -> impl FnMut(Option<&Record>, SystemTime) -> Change<Result<Decision, LeaseLost>> + Send + 'static
    {
        step::fail_in_turn(self.token, failed, step::is_in_turn(&self.record))
    }

    /// Takes note of how an attempt to end the work went. Only an error of the store leaves the
    /// work in hand.
    pub(super) fn ended<T, E>(
        &self,
        ended: Result<Result<T, LeaseLost>, E>,
    ) -> Result<T, WorkError<E>> {
        match ended {
            Ok(Ok(done)) => {
                self.session.release(self.lease);
                Ok(done)
            }
            Ok(Err(lost)) => {
                self.session.lose(self.lease, &lost);
                Err(WorkError::Lost(lost))
            }
            Err(error) => Err(WorkError::Store(error)),
        }
    }

    /// The same within the caller's transaction, which leaves the work in hand.
    pub(super) fn ended_in<T, E>(
        &self,
        ended: Result<Result<T, LeaseLost>, E>,
    ) -> Result<T, WorkError<E>> {
        match &ended {
            // Once the caller commits, a heartbeat that finds the work ended must not take that for
            // a loss.
            Ok(Ok(_)) => self.session.set_ending_within(self.lease),
            Ok(Err(lost)) if *lost != LeaseLost::Ended => {
                self.session.lose(self.lease, lost);
            }
            // The work may have ended earlier in the same transaction, which may yet be rolled
            // back. But if the lease ran out, the session must notice before the lease is released.
            _ => {
                let _ = self.session.expired();
            }
        }
        ended.map_err(WorkError::Store)?.map_err(WorkError::Lost)
    }
}

/// Work that is being ended.
#[must_use]
pub(super) struct Ending<'a>(&'a Held);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Held { session, lease, .. } = self.0;
        session.set_ending(*lease, false);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.session.release(self.lease);
    }
}
