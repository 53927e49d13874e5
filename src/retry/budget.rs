//! A bound on retries that many loops share.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicU64;
use crate::policy::product;

/// A token bucket that keeps retries from multiplying an outage. Full at first.
///
/// A limit per operation does not protect a service: when everything fails, three attempts each are
/// three times the load, at the worst moment. A budget is shared by all callers of one service.
/// Every retry withdraws a token, and every *success* deposits some part of one, so that in the
/// long run retries are at most that share of the successes. While nothing succeeds, there is one
/// bucket's worth of retries; after that each operation fails at once with its own error, until the
/// service answers again. (A deposit per *request* would go on feeding an overload.)
///
/// A refused retry ends its loop at once, with the last error and [`StopReason::Budget`]. A token
/// withdrawn is spent, even if the loop is cancelled or dropped while it waits.
///
/// ```
/// use relent::{Backoff, RetryBudget};
/// use std::time::Duration;
///
/// /// At most one retry per ten successes, after ten at first.
/// static BUDGET: RetryBudget = RetryBudget::new(10, 0.1);
/// const POLICY: Backoff = Backoff::fixed(Duration::ZERO);
///
/// let outcome = POLICY.retry(|| Err::<(), _>("down")).budget(&BUDGET).outcome();
/// assert_eq!(outcome.stop, relent::StopReason::Budget);
/// assert_eq!(outcome.attempts, 11);
/// ```
///
/// Code that retries without a loop, as with a tracker, does by hand what the loops do:
///
/// ```
/// # use relent::RetryBudget;
/// # let (budget, first_attempt, result) = (RetryBudget::new(10, 0.1), false, Ok::<(), ()>(()));
/// if first_attempt || budget.withdraw() {
///     // .. attempt ..
///     if result.is_ok() {
///         budget.deposit();
///     }
/// }
/// ```
///
/// Lock-free. While nothing fails it is full, and a deposit only reads.
///
/// [`StopReason::Budget`]: super::StopReason::Budget
pub struct RetryBudget {
    /// In billionths of a token, like the others: in these, the shares that people write are exact.
    balance: AtomicU64,
    capacity: u64,
    deposit: u64,
}

const TOKEN: u64 = 1_000_000_000;

impl RetryBudget {
    /// A full budget of `capacity` retries, to which each success adds `deposit_per_success`.
    ///
    /// The deposit is exact to a billionth; one that is negative or not a number counts as 0, and
    /// nothing is kept above `capacity`. A capacity of 0 allows no retry at all.
    #[must_use]
    pub const fn new(capacity: u32, deposit_per_success: f64) -> RetryBudget {
        let capacity = capacity as u64 * TOKEN;
        RetryBudget {
            balance: AtomicU64::new(capacity),
            capacity,
            deposit: if deposit_per_success > 0.0 {
                product(TOKEN, deposit_per_success)
            } else {
                0
            },
        }
    }

    /// Takes the token for one retry, if there is one.
    #[must_use = "without a token there is no retry"]
    pub fn withdraw(&self) -> bool {
        self.balance
            .fetch_update(Relaxed, Relaxed, |balance| balance.checked_sub(TOKEN))
            .is_ok()
    }

    /// Adds the share of one success.
    pub fn deposit(&self) {
        // An error is a full bucket: nothing to do, and nothing written.
        let _ = self.balance.fetch_update(Relaxed, Relaxed, |balance| {
            (balance < self.capacity)
                .then(|| balance.saturating_add(self.deposit).min(self.capacity))
        });
    }

    /// How many retries there are tokens for.
    #[must_use]
    pub fn balance(&self) -> u32 {
        (self.balance.load(Relaxed) / TOKEN) as u32
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = |billionths: u64| billionths as f64 / TOKEN as f64;
        f.debug_struct("RetryBudget")
            .field("balance", &tokens(self.balance.load(Relaxed)))
            .field("capacity", &(self.capacity / TOKEN))
            .field("deposit_per_success", &tokens(self.deposit))
            .finish()
    }
}
