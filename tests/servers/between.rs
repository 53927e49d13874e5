//! A connection to Redis that a test puts between a store and its server.

use std::future::Future;

use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, Pipeline, RedisFuture, RedisResult, Value};

/// What answers the calls, of which each is one command.
pub(crate) trait Answers: Send {
    fn answer(&mut self, call: &Cmd) -> impl Future<Output = RedisResult<Value>> + Send;
}

/// The connection.
#[derive(Clone, Default)]
pub(crate) struct Between<A>(pub(crate) A);

impl<A: Answers> ConnectionLike for Between<A> {
    fn req_packed_command<'a>(&'a mut self, call: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.0.answer(call))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        _: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        panic!("all is done by scripts")
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// The words of a call: its command, and the arguments.
pub(crate) fn words(call: &Cmd) -> Vec<Vec<u8>> {
    let word = |argument| match argument {
        Arg::Simple(word) => Some(<[u8]>::to_vec(word)),
        _ => None,
    };
    call.args_iter().filter_map(word).collect()
}
