//! Finding which of several keys a row belongs to.

use sqlx::postgres::PgRow;

use super::batch::Made;
use super::row;

/// The keys that a statement writes, and their places in the batch.
#[derive(Default)]
pub(super) struct Keys<'a> {
    pub(super) names: Vec<&'a str>,
    places: Vec<usize>,
    finder: Finder,
}

impl<'a> Keys<'a> {
    pub(super) fn add(&mut self, place: usize, name: &'a str) {
        self.places.push(place);
        self.names.push(name);
    }

    /// Which of the keys a row belongs to.
    pub(super) fn at(&mut self, row: &PgRow) -> Result<Option<usize>, sqlx::Error> {
        let key = row::key(row)?;
        Ok(key.and_then(|key| self.find(key)))
    }

    pub(super) fn find(&mut self, key: &str) -> Option<usize> {
        self.finder.find(&self.names, key)
    }

    pub(super) fn make(&self, at: usize, token: u64, made: &mut Made) {
        let made = self.places.get(at).and_then(|&place| made.get_mut(place));
        if let Some(made) = made {
            *made = Some(token);
        }
    }

    /// Notes all as made, without tokens.
    pub(super) fn make_all(&self, made: &mut Made) {
        for at in 0..self.places.len() {
            self.make(at, 0, made);
        }
    }
}

/// Finds keys among sorted ones. Mostly the database answers in their order.
#[derive(Default)]
pub(super) struct Finder(usize);

impl Finder {
    pub(super) fn find(&mut self, keys: &[&str], key: &str) -> Option<usize> {
        if keys.get(self.0) != Some(&key) {
            self.0 = keys.binary_search(&key).ok()?;
        }
        self.0 += 1;
        Some(self.0 - 1)
    }
}
