//! What a transition comes to: what to write, what to note, what to answer.

use std::fmt;

use super::record::Record;

/// The outcome of a transition: made by [`step`](super::step), carried out by a store.
#[derive(Debug)]
#[must_use = "a change has no effect until a store makes it"]
pub struct Change<R> {
    outcome: Outcome<R>,
    events: [Option<Event>; 2],
}

enum Outcome<R> {
    Known(Write, R),
    /// The record's new lease still lacks its token, which only the store can give.
    Grant(Record, Box<dyn FnOnce(Record) -> R + Send>),
}

/// What a store has to do to a key's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write<T = Record> {
    /// Nothing.
    Keep,
    /// Replace whatever is there by this.
    Put(T),
    /// Delete it.
    Delete,
}

/// What happened to a key, for a store that keeps a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Event {
    /// A worker took the key.
    Started,
    /// The key succeeded.
    Finished,
    /// The key failed; the record holds the cause.
    Failed,
    /// The worker gave the key back as it was.
    Cancelled,
    /// The worker's lease ran out.
    Expired,
    /// An operator made the store forget the streak.
    Forgotten,
}

/// As a history keeps it: `started`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Event {
    pub(super) fn name(self) -> &'static str {
        match self {
            Event::Started => "started",
            Event::Finished => "finished",
            Event::Failed => "failed",
            Event::Cancelled => "cancelled",
            Event::Expired => "expired",
            Event::Forgotten => "forgotten",
        }
    }
}

/// A change taken apart by [`Change::settle`].
#[derive(Debug)]
#[must_use]
pub struct Settled<R> {
    /// What to write.
    pub write: Write,
    /// What to note in the history, in this order.
    pub events: [Option<Event>; 2],
    /// What to answer once that is durable.
    pub answer: R,
}

impl<R> Change<R> {
    /// Writes as `write` says.
    pub fn new(write: Write, answer: R) -> Change<R> {
        Change::of(Outcome::Known(write, answer))
    }

    /// Leaves the record as it is.
    pub fn keep(answer: R) -> Change<R> {
        Change::new(Write::Keep, answer)
    }

    /// Writes the record.
    pub fn put(record: Record, answer: R) -> Change<R> {
        Change::new(Write::Put(record), answer)
    }

    /// Deletes the record.
    pub fn delete(answer: R) -> Change<R> {
        Change::new(Write::Delete, answer)
    }

    /// Writes the record with its new lease, which gets its fencing token from the store. The
    /// answer is made from the record as written.
    pub fn grant(record: Record, answer: impl FnOnce(Record) -> R + Send + 'static) -> Change<R> {
        Change::of(Outcome::Grant(record, Box::new(answer)))
    }

    fn of(outcome: Outcome<R>) -> Change<R> {
        Change {
            outcome,
            events: [None; 2],
        }
    }

    /// The same change, with an event to note in the history, after those noted so far.
    pub fn noting(mut self, event: Event) -> Change<R> {
        self.events = [self.events[1], Some(event)];
        self
    }

    /// The same change, with an event to note in the history before the other one.
    pub(super) fn noting_first(mut self, event: Event) -> Change<R> {
        self.events[0] = Some(event);
        self
    }

    /// The same change, with its answer turned into another.
    pub fn map<T>(self, answer: impl FnOnce(R) -> T + Send + 'static) -> Change<T>
    where
        R: 'static,
    {
        let outcome = match self.outcome {
            Outcome::Known(write, known) => Outcome::Known(write, answer(known)),
            Outcome::Grant(record, granted) => {
                Outcome::Grant(record, Box::new(move |record| answer(granted(record))))
            }
        };
        Change {
            outcome,
            events: self.events,
        }
    }

    /// Whether [`settle`](Self::settle) will ask for a token.
    #[must_use]
    pub fn is_grant(&self) -> bool {
        matches!(self.outcome, Outcome::Grant(..))
    }

    /// What will be written, for a store that draws tokens as it writes: where a lease [is
    /// granted](Self::is_grant), its token is not known yet.
    #[must_use]
    pub fn write(&self) -> Write<&Record> {
        match &self.outcome {
            Outcome::Known(Write::Keep, _) => Write::Keep,
            Outcome::Known(Write::Put(record), _) | Outcome::Grant(record, _) => Write::Put(record),
            Outcome::Known(Write::Delete, _) => Write::Delete,
        }
    }

    /// What to note in the history, in this order.
    #[must_use]
    pub fn events(&self) -> [Option<Event>; 2] {
        self.events
    }

    /// Takes the change apart, for a store to carry out.
    ///
    /// `token` is called if a lease is granted, and only then. It must return a number greater than
    /// the token of every lease that the key ever had, and be called while nobody else can change
    /// the key: of two workers that take a key one after the other, the second must get the greater
    /// token. One counter for the whole store will do.
    ///
    /// # Errors
    ///
    /// That of `token`.
    pub fn settle<E>(self, token: impl FnOnce() -> Result<u64, E>) -> Result<Settled<R>, E> {
        let (write, answer) = match self.outcome {
            Outcome::Known(write, answer) => (write, answer),
            Outcome::Grant(mut record, answer) => {
                if let Some(lease) = &mut record.lease {
                    lease.token = token()?;
                }
                (Write::Put(record.clone()), answer(record))
            }
        };
        Ok(Settled {
            write,
            events: self.events,
            answer,
        })
    }
}

impl<R: fmt::Debug> fmt::Debug for Outcome<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Known(write, answer) => {
                f.debug_tuple("Known").field(write).field(answer).finish()
            }
            Outcome::Grant(record, _) => f.debug_tuple("Grant").field(record).finish(),
        }
    }
}
