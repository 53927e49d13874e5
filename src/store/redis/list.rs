//! Which keys there are, as scripts tell it.

use std::collections::BTreeMap;

use redis::ScriptInvocation;
use redis::aio::ConnectionLike;

use super::{RedisError, RedisStore, scripts, value};
use crate::store::listing::{Listed, Page, Which};
use crate::store::unreadable::Unreadable;

/// Where a listing goes on: after a key, in a list where it has some score. Without a score it begins.
#[derive(Default)]
struct Place {
    score: Vec<u8>,
    key: Vec<u8>,
}

impl<C: ConnectionLike + Clone + Send + Sync> RedisStore<C> {
    /// Lists a page of what can be read, by as many scripts as it takes, and tells of the first that
    /// cannot.
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
            let listing = self.listing(page.which, limit, place);
            let (now, mut answer) = self.read(&listing).await?;
            let mut part = || answer.next().flatten();
            let (score, key) = (part().unwrap_or_default(), part().unwrap_or_default());
            while let Some((key, text)) = part().zip(part()) {
                let key = String::from_utf8_lossy(&key).into_owned();
                match self.decode(&key, &text) {
                    Ok(record) if page.lists(&record, now) => {
                        records.insert(key.clone(), record);
                    }
                    // Somebody has changed it by hand.
                    Ok(_) => {}
                    Err(error) => drop(unreadable.get_or_insert(error)),
                }
                self.memory.learn(&key, text);
            }
            if score.is_empty() || records.len() >= page.limit {
                let records = records.iter();
                let listed = page.of(records.map(|(key, record)| (key.as_str(), record)), now);
                return Ok((listed, unreadable));
            }
            place = Some(Place { score, key });
        }
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
