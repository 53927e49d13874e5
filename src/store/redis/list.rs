//! Listing keys, by scripts.

use std::collections::BTreeMap;
use std::time::SystemTime;

use redis::ScriptInvocation;
use redis::aio::ConnectionLike;

use super::{RedisError, RedisStore, scripts, value};
use crate::store::listing::{Listed, Page, Which};
use crate::store::unreadable::Unreadable;

/// Where a listing goes on: after a key and its score in the list. Without a score, it begins.
#[derive(Default)]
struct Place {
    score: Vec<u8>,
    key: Vec<u8>,
}

/// What a script has found.
struct Look {
    now: SystemTime,
    /// Keys and what they say.
    found: Vec<(String, Vec<u8>)>,
    /// Where to go on, if there is more.
    next: Option<Place>,
}

impl<C: ConnectionLike + Clone + Send + Sync> RedisStore<C> {
    /// Lists a page of what can be read, by as many scripts as it takes, and returns the first
    /// value that cannot be read, if any.
    pub(super) async fn page(
        &self,
        page: &Page,
    ) -> Result<(Vec<Listed>, Option<Unreadable>), RedisError> {
        let mut records = BTreeMap::new();
        let mut unreadable = None;
        let mut place = page.after.as_ref().map(|after| Place {
            score: value::micros(after.due).to_string().into_bytes(),
            key: after.key.clone().into_bytes(),
        });
        if page.limit == 0 {
            return Ok((Vec::new(), None));
        }
        loop {
            let limit = match unreadable {
                None => Self::BATCH.min(page.limit - records.len()),
                // There may be many of them.
                Some(_) => Self::BATCH,
            };
            let look = self.look(page.which, limit, place).await?;
            for (key, text) in look.found {
                match self.decode(&key, &text) {
                    Ok(record) if page.lists(&record, look.now) => {
                        records.insert(key.clone(), record);
                    }
                    // Somebody has changed it by hand.
                    Ok(_) => {}
                    Err(error) => drop(unreadable.get_or_insert(error)),
                }
                self.memory.learn(&key, text);
            }
            if look.next.is_none() || records.len() >= page.limit {
                let records = records.iter();
                let records = records.map(|(key, record)| (key.as_str(), record));
                return Ok((page.of(records, look.now), unreadable));
            }
            place = look.next;
        }
    }

    /// The values of the namespace that cannot be read, up to `limit` of them.
    ///
    /// Such a value is an error wherever its key is asked for, and is not written to. Lists and
    /// claims pass it over, so that it stands in the way of no other key; it is their error only
    /// where there is nothing else to answer. So call this now and then, and repair or delete such
    /// values. It reads all values that are in a list, [`BATCH`](Self::BATCH) of them at once.
    ///
    /// # Errors
    ///
    /// The server's.
    pub async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, RedisError> {
        let mut all = BTreeMap::new();
        for which in [Which::Due, Which::Waiting, Which::GaveUp] {
            let mut place = Some(Place::default());
            while place.is_some() && all.len() < limit {
                let look = self.look(which, Self::BATCH, place).await?;
                for (key, text) in look.found {
                    if let Err(unreadable) = self.decode(&key, &text) {
                        all.insert(key, unreadable);
                    }
                }
                place = look.next;
            }
        }
        Ok(all.into_values().take(limit).collect())
    }

    /// Finds up to `limit` keys from a place on, or fewer, by one script.
    async fn look(
        &self,
        which: Which,
        limit: usize,
        after: Option<Place>,
    ) -> Result<Look, RedisError> {
        let listing = self.listing(which, limit, after);
        let (now, mut answer) = self.read(&listing).await?;
        let mut part = || answer.next().flatten();
        let (score, key) = (part().unwrap_or_default(), part().unwrap_or_default());
        let pairs = std::iter::from_fn(|| part().zip(part()));
        let found = pairs.map(|(key, text)| (String::from_utf8_lossy(&key).into_owned(), text));
        Ok(Look {
            now,
            found: found.collect(),
            next: (!score.is_empty()).then_some(Place { score, key }),
        })
    }

    fn listing(
        &self,
        which: Which,
        limit: usize,
        after: Option<Place>,
    ) -> ScriptInvocation<'static> {
        let (script, list) = match which {
            Which::Due | Which::Waiting => (&scripts::LIST, "due"),
            Which::GaveUp => (&scripts::GAVE_UP, "gave-up"),
        };
        let mut listing = script.prepare_invoke();
        listing.key(format!("{}{list}", self.prefix));
        listing.key(format!("{}written", self.prefix));
        listing.arg(self.name("")).arg(limit).arg(Self::BATCH);
        let after = after.unwrap_or_default();
        listing.arg(after.score).arg(after.key);
        listing.arg(if which == Which::Due {
            "due"
        } else {
            "waiting"
        });
        listing
    }
}
