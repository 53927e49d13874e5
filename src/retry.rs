//! Try again: the loops, blocking and async, and the budget that many of them share.
//!
//! A loop begins at a policy and ends at the operation's own result:
//!
//! | operation | loop |
//! |---|---|
//! | `FnMut() -> Result<T, E>` | [`policy.retry(op)`](crate::Backoff::retry)`.call()` |
//! | `FnMut() -> impl Future<Output = Result<T, E>>` | [`policy.retry_async(op)`](crate::Backoff::retry_async)`.await` |
//! | `FnMut(Lent<C>) -> impl Future<Output = Result<T, E>>`, which needs a `&mut` | [`policy.retry_async_with(&mut c, op)`](crate::Backoff::retry_async_with)`.await` |
//! | `AsyncFnMut() -> Result<T, E>`, which borrows mutably and is not spawned | [`policy.retry_async_mut(op)`](crate::Backoff::retry_async_mut)`.run().await` |
//!
//! Between the two come the options, the same for all: see [`Retry`].
//!
//! # A limit on all of it
//!
//! [`give_up_after`](crate::Backoff::give_up_after) bounds how long after the first failure the
//! last attempt may begin, and `.timeout(..)` how long each may take: together they bound an async
//! loop. To cut one off wherever it is, put it into `tokio::time::timeout`, or drop it; then there
//! is no error to return.
//!
//! # Events
//!
//! Under the feature `tracing` a loop emits events, of the target `relent::retry`, with the fields
//! `failures`, `delay_ms`, `elapsed_ms` and `reason`. A success at the first attempt emits none. The
//! error is not among the fields, since it may be of any type: `.notify(..)` is called with it.
//!
//! | level | message | when |
//! |---|---|---|
//! | debug | `attempt failed, will be retried` | before each wait |
//! | debug | `attempt failed` | after the last attempt; the only event of an error that `.when(..)` refuses |
//! | info | `recovered` | after a success that follows failures |
//! | warn | `gave up` | when the policy gives up, the budget is spent, or the wait was cancelled |

mod attempts;
mod blocking;
mod budget;
mod builder;
mod cancelling;
mod future;
mod future_mut;
mod hooks;
mod lent;
mod operation;
mod outcome;
mod sealed;
mod sleeper;

pub use blocking::{Blocking, Pause, ThreadSleeper};
pub use budget::RetryBudget;
pub use builder::Retry;
pub use cancelling::{Cancel, Cancelling};
pub use future::{Async, AsyncHooks, Awaited, OutcomeFuture};
pub use future_mut::AsyncMut;
pub use hooks::{Consult, Failed, Hook, Hooks, LendsBudget, Seed, Unset};
pub use lent::{Lending, Lent};
pub use operation::{Operation, OperationMut, Timed, TimedAttempt};
pub use outcome::{Outcome, StopReason};
pub use sleeper::{RuntimeSleep, RuntimeSleeper, Sleeper};

pub use crate::cancel::{CancelToken, Cancelled};
