//! Supertraits that nobody else can implement: the traits of this part are public so that bounds
//! can name them, and may gain methods.
//!
//! ```compile_fail,E0277
//! struct Mine;
//!
//! impl relent::retry::Seed for Mine {
//!     fn seed(&self) -> u64 {
//!         4
//!     }
//! }
//! ```

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Async, CancelToken, Cancelling, Hooks, Lending, RetryBudget, ThreadSleeper, Timed, Unset,
};

pub trait Hook<A, R> {}
impl<A, R, F: FnMut(&A) -> R> Hook<A, R> for F {}
impl<A, R> Hook<A, R> for Unset {}

pub trait LendsBudget {}
impl LendsBudget for &RetryBudget {}
impl LendsBudget for Arc<RetryBudget> {}
impl LendsBudget for Rc<RetryBudget> {}
impl<L: LendsBudget> LendsBudget for &L {}
impl<L: LendsBudget> LendsBudget for Option<L> {}
impl LendsBudget for Unset {}

pub trait Seed {}
impl Seed for u64 {}
impl Seed for Unset {}

pub trait Consult {}
impl<W, H, N, B, C, S> Consult for Hooks<W, H, N, B, C, S> {}

pub trait Pause {}
impl<S: FnMut(Duration)> Pause for S {}
impl Pause for ThreadSleeper {}
impl Pause for CancelToken {}

pub trait Cancel {}
impl Cancel for Unset {}
impl<G, E> Cancel for Cancelling<G, E> {}

pub trait Awaited {}
impl<O, A, S, Z, Q> Awaited for Async<O, A, S, Z, Q> {}

pub trait Operation {}
impl<F: FnMut() -> A, A: Future<Output = Result<T, E>>, T, E> Operation for F {}
impl<F, C> Operation for Lending<F, C> {}
impl<O, X> Operation for Timed<O, X> {}

pub trait OperationMut {}
impl<F: AsyncFnMut() -> Result<T, E>, T, E> OperationMut for F {}
impl<O, X> OperationMut for Timed<O, X> {}
