//! What is asked of the server about one key.

use std::str;
use std::time::{Duration, SystemTime};

use redis::ScriptInvocation;

use super::draft::{Draft, Span};
use super::memory::Belief;
use crate::store::change::{Change, Write};
use crate::store::record::{Record, after};

/// A change to make if the key is as it is believed to be, and the time is within the span.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) record: Option<Record>,
    believed: Vec<u8>,
    pub(super) span: Span,
    verb: Verb,
    /// Whether the change is that of the span's first moment, whenever it is made.
    is_as_of_first: bool,
    told: u32,
}

#[derive(Debug)]
enum Verb {
    Keep,
    Delete,
    Put(Draft),
}

/// What became of a change that was asked for.
#[derive(Debug)]
pub(super) enum Told {
    /// The change was made. Holds the token of the lease that it granted, or 0.
    Made(u64),
    /// Nothing was changed: the key says this.
    Says(Vec<u8>),
    /// Nothing was changed. What the key said is lost with the answer to a call that was sent
    /// again.
    Unsaid,
}

impl Told {
    pub(super) fn read(answer: &[u8]) -> Option<Told> {
        match answer.split_first()? {
            (b'+', token) => Some(Told::Made(str::from_utf8(token).ok()?.parse().ok()?)),
            (b'-', text) => Some(Told::Says(text.to_owned())),
            (b'?', []) => Some(Told::Unsaid),
            _ => None,
        }
    }
}

impl Ask {
    /// How far the server's time may be ahead of the time as of which a change is decided.
    const SPAN: Duration = Duration::from_secs(1);

    /// Asks for nothing but to be told what the key says.
    pub(super) fn nothing() -> Ask {
        Ask {
            record: None,
            believed: Vec::new(),
            span: Span::NEVER,
            verb: Verb::Keep,
            is_as_of_first: false,
            told: 0,
        }
    }

    /// Asks for a change to a key, given what is believed of it.
    ///
    /// Nobody knows the moment at which it will be made, so it is decided at both ends of a span in
    /// which that moment should be. If both come to the same, except for times that move along with
    /// the moment, so does every moment in between, since a transition decides by whether this or
    /// that moment has passed. If not, the server is asked what the key says. If it has just said
    /// that, the change is made as of that time; but not much later.
    pub(super) fn of<R>(
        belief: &Belief,
        record: Option<Record>,
        mut change: impl FnMut(Option<&Record>, SystemTime) -> Change<R>,
        expires: impl Fn(&Record) -> Option<SystemTime>,
    ) -> Result<Ask, serde_json::Error> {
        let from = belief.now;
        let mut span = Span {
            from,
            before: after(from, Ask::ahead(belief.told)),
        };
        let first = change(record.as_ref(), from);
        let last = change(record.as_ref(), span.before);
        let mut verb = Verb::between(&first, &last, span, record.as_ref(), &expires)?;
        let is_as_of_first = verb.is_none() && belief.told > 0;
        if is_as_of_first {
            // What was decided while a lease was good is not written once it has run out.
            let lease = record.as_ref().and_then(|record| record.live_lease(from));
            span.before = lease.map_or(span.before, |lease| lease.until.min(span.before));
            verb = Verb::between(&first, &first, span, record.as_ref(), &expires)?;
        }
        Ok(match verb {
            None => Ask::nothing(),
            Some(verb) => Ask {
                believed: belief.text.clone(),
                record,
                span,
                verb,
                is_as_of_first,
                told: belief.told,
            },
        })
    }

    /// How much later than it was decided a change may be written. Twice as much each time that it
    /// was too late after all, so that a slow connection gets there.
    fn ahead(told: u32) -> Duration {
        Ask::SPAN * 2_u32.pow(told.saturating_sub(1).min(10))
    }

    /// Adds the arguments that the script takes for the key. `usual` is the span of each ask of the
    /// call that does not say another.
    pub(super) fn add_to(&self, script: &mut ScriptInvocation<'_>, usual: Span) {
        script.arg(self.believed.as_slice());
        if self.span != usual {
            script.arg("within");
            self.span.add_to(script);
        }
        // The key may be in that list although it has no record, if somebody has deleted the record
        // by hand.
        let gave_up = |record: &Record| record.gave_up.is_some();
        let is_revived = self.record.as_ref().is_none_or(gave_up);
        match &self.verb {
            Verb::Keep => drop(script.arg("keep")),
            Verb::Delete => drop(script.arg("delete")),
            Verb::Put(draft) if is_revived => draft.add_to(script.arg("revive")),
            Verb::Put(draft) => draft.add_to(script.arg("put")),
        }
    }

    /// Whether the server may have something to write.
    pub(super) fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Keep)
    }

    /// What to believe after the server, at `now`, has not made the change but said that the key
    /// says `text`.
    pub(super) fn told(&self, text: Vec<u8>, now: SystemTime) -> Belief {
        let is_late = text == self.believed;
        let told = if is_late {
            self.told.saturating_add(1)
        } else {
            1
        };
        Belief { text, now, told }
    }

    /// The moment as of which the change was decided, if the server made it at `now`.
    pub(super) fn decided(&self, now: SystemTime) -> SystemTime {
        if self.is_as_of_first {
            self.span.from
        } else {
            now
        }
    }

    /// What the key says after the server has made the change at `now`, if that is something new.
    pub(super) fn left(&self, now: SystemTime, token: u64) -> Option<Vec<u8>> {
        match &self.verb {
            Verb::Keep => None,
            Verb::Delete => Some(Vec::new()),
            Verb::Put(draft) => Some(draft.made(now, token)),
        }
    }
}

impl Verb {
    /// What is to be done at any moment of a span, given the change at its first moment and at the
    /// one after its last; `None` if that depends on the moment.
    fn between<R>(
        first: &Change<R>,
        last: &Change<R>,
        span: Span,
        record: Option<&Record>,
        expires: &impl Fn(&Record) -> Option<SystemTime>,
    ) -> Result<Option<Verb>, serde_json::Error> {
        let is_granted = first.is_grant();
        Ok(match (first.write(), last.write()) {
            (Write::Keep, Write::Keep) => Some(Verb::Keep),
            (Write::Delete, Write::Delete) if record.is_none() => Some(Verb::Keep),
            (Write::Delete, Write::Delete) => Some(Verb::Delete),
            (Write::Put(first), Write::Put(other)) if last.is_grant() == is_granted => {
                Draft::new(first, other, span, is_granted, expires)?.map(Verb::Put)
            }
            _ => None,
        })
    }
}
