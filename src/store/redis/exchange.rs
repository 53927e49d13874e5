//! What is said to the server, and what it answers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::SystemTime;

use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisResult, ScriptInvocation};

use super::ask::{Ask, Told};
use super::draft::Span;
use super::memory::Belief;
use super::{RedisError, RedisStore, scripts, value};
use crate::store::change::{Change, Write};
use crate::store::record::Record;
use crate::store::rounds::{Place, Rounds};
use crate::store::unreadable::Unreadable;

impl<C: ConnectionLike + Clone + Send + Sync> RedisStore<C> {
    /// Runs a script that answers with the time and then with other things, and returns both.
    pub(super) async fn read(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(SystemTime, impl Iterator<Item = Option<Vec<u8>>>), RedisError> {
        let answer = match self.invoke(script).await {
            // A managed connection comes back at once, and a call that was made before counts only
            // once.
            Err(error) if error.is_connection_dropped() && !error.is_connection_refusal() => {
                self.invoke(script).await?
            }
            answer => answer?,
        };
        let mut answer = answer.into_iter();
        let mut part = || {
            let text = String::from_utf8(answer.next()??).ok()?;
            text.parse::<u64>().ok()
        };
        let time = part()
            .zip(part())
            .ok_or((ErrorKind::UnexpectedReturnType, "the answer has no time"));
        let (seconds, micros) = time.map_err(redis::RedisError::from)?;
        let now = value::time(seconds.saturating_mul(1_000_000).saturating_add(micros));
        self.memory.set(now);
        Ok((now, answer))
    }

    async fn invoke(&self, script: &ScriptInvocation<'_>) -> RedisResult<Vec<Option<Vec<u8>>>> {
        script.invoke_async(&mut self.connection.clone()).await
    }

    /// Asks something of each of several keys, in one round trip, and remembers what was told.
    pub(super) async fn ask(
        &self,
        asks: &[(Place<'_>, Ask)],
    ) -> Result<(SystemTime, Vec<Told>), RedisError> {
        let mut script = scripts::CHANGE.prepare_invoke();
        for list in ["due", "written", "gave-up", "token"] {
            script.key(format!("{}{list}", self.prefix));
        }
        let call = self.lines.call();
        script.key(format!("{}call:{}", self.prefix, call.line()));
        let is_write = asks.iter().any(|(_, ask)| ask.is_write());
        script.arg(if is_write { call.number() } else { 0 });
        script.arg(self.name("").len());
        let usual = asks.first().map_or(Span::NEVER, |(_, ask)| ask.span);
        usual.add_to(&mut script);
        for ((_, key), ask) in asks {
            script.key(self.name(key));
            ask.add_to(&mut script, usual);
        }
        let (now, answer) = self.read(&script).await?;
        let told: Option<Vec<_>> = answer.map(|told| Told::read(&told?)).collect();
        let told = told.ok_or((
            ErrorKind::UnexpectedReturnType,
            "an answer that no script of ours gives",
        ));
        let told = told.map_err(redis::RedisError::from)?;
        for (((_, key), ask), told) in asks.iter().zip(&told) {
            let text = match told {
                Told::Made(token) => ask.left(now, *token),
                Told::Says(text) => Some(text.clone()),
                Told::Unsaid => None,
            };
            if let Some(text) = text {
                self.memory.learn(key, text);
            }
        }
        Ok((now, told))
    }

    /// The record that a text says, if any.
    pub(super) fn record(&self, key: &str, text: &[u8]) -> Result<Option<Record>, Unreadable> {
        let record = (!text.is_empty()).then(|| self.decode(key, text));
        record.transpose()
    }

    /// Makes one change to each of several keys that can be read. After an error, `rounds` still
    /// has the answers of those that were made before it.
    pub(super) async fn change_each<R: Send>(
        &self,
        rounds: &mut Rounds<'_, Result<R, Unreadable>>,
        mut change: impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send,
    ) -> Result<(), RedisError> {
        let mut told = HashMap::new();
        loop {
            let keys = rounds.next(Self::BATCH)?;
            if keys.is_empty() {
                return Ok(());
            }
            let made = self.attempt(&keys, &mut told, &mut change).await?;
            rounds.made(keys, made);
        }
    }

    /// Makes changes to several keys, none of them twice, as far as these are as they are believed
    /// to be. Returns the answers of changes that were made, and the errors of those that cannot
    /// be. What the other keys say is noted in `told`.
    async fn attempt<R: Send>(
        &self,
        keys: &[Place<'_>],
        told: &mut HashMap<usize, Belief>,
        change: &mut (impl FnMut(usize, Option<&Record>, SystemTime) -> Change<R> + Send),
    ) -> Result<Vec<Option<Result<R, Unreadable>>>, RedisError> {
        // The same for all keys, so that a call says it only once.
        let now = self.memory.now();
        let mut asks = Vec::with_capacity(keys.len());
        let mut answers = Vec::with_capacity(keys.len());
        for &(n, key) in keys {
            let mut change = |record: Option<&Record>, now| change(n, record, now);
            let recall = |now| self.memory.recall(key, now);
            let belief = told.remove(&n).or_else(|| now.map(recall));
            let ask = match belief {
                None => Ask::nothing(),
                Some(belief) => match self.record(key, &belief.text) {
                    // This was only remembered: somebody may have set it right since.
                    Err(_) if belief.told == 0 => Ask::nothing(),
                    Err(unreadable) => {
                        answers.push(Some(Err(unreadable)));
                        continue;
                    }
                    Ok(record) => {
                        if belief.told > 0 {
                            if let Some(answer) = kept(change(record.as_ref(), belief.now)) {
                                answers.push(Some(Ok(answer)));
                                continue;
                            }
                        }
                        Ask::of(&belief, record, &mut change, |record| self.expires(record))?
                    }
                },
            };
            asks.push(((n, key), ask));
            answers.push(None);
        }
        if asks.is_empty() {
            return Ok(answers);
        }
        let (now, outcomes) = self.ask(&asks).await?;
        let unknown = answers.iter_mut().filter(|answer| answer.is_none());
        for ((answer, ((n, _), ask)), outcome) in unknown.zip(asks).zip(outcomes) {
            match outcome {
                Told::Made(token) => {
                    let change = change(n, ask.record.as_ref(), ask.decided(now));
                    let Ok(settled) = change.settle(|| Ok::<_, Infallible>(token));
                    *answer = Some(Ok(settled.answer));
                }
                Told::Says(text) => {
                    told.insert(n, ask.told(text, now));
                }
                Told::Unsaid => {}
            }
        }
        Ok(answers)
    }
}

/// The answer of a change that changes nothing.
fn kept<R>(change: Change<R>) -> Option<R> {
    if !matches!(change.write(), Write::Keep) {
        return None;
    }
    let Ok(settled) = change.settle(|| Ok::<_, Infallible>(0));
    Some(settled.answer)
}
