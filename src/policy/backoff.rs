//! The descriptor: what a policy says.

use core::time::Duration;

use super::interval::grows;
use super::plan::Plan;
use super::{GiveUp, InvalidBackoff, Jitter, Preview, Rounding, from_nanos, nanos};

/// How long to wait between consecutive failures, and when to stop.
///
/// Plain constant data: make it a `const`, write it in a struct, read it from a configuration file,
/// send it over a wire. It holds no state, so one policy serves any number of loops, keys and
/// processes at once.
///
/// The *interval* starts at [`initial`](Self::initial) after the first failure of a streak, is
/// multiplied by [`exponent`](Self::exponent) at each further one, and never exceeds
/// [`max`](Self::max). The *delay* to wait is drawn around or below that interval by
/// [`jitter`](Self::jitter), and never exceeds `max` either.
///
/// Any value is safe to use: the arithmetic is total, and nonsense is read as
/// [`normalized`](Self::normalized) says. [`validate`](Self::validate) finds it.
///
/// ```
/// use relent::{Backoff, Jitter};
/// use std::time::Duration;
///
/// const POLICY: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30))
///     .jitter(Jitter::Equal)
///     .give_up_after_failures(12);
///
/// assert_eq!(POLICY.validate(), Ok(()));
/// assert_eq!(POLICY.interval_after(None), Duration::from_millis(100));
/// assert_eq!(POLICY.interval_after(Some(Duration::from_secs(20))), Duration::from_secs(30));
/// ```
///
/// # As configuration
///
/// By serde, in any format. A missing field is that of [`DEFAULT`](Self::DEFAULT), so a higher
/// `initial` may need a higher `max` too. An unknown field is refused, unless serde's `flatten` hides
/// it, and so is what `validate` refuses. Durations have units. `"whole-seconds"` may be written
/// `"whole_seconds"`.
///
/// ```
/// # #[cfg(feature = "serde")]
/// # {
/// use relent::{Backoff, Jitter};
///
/// let policy: Backoff = toml::from_str(r#"
///     initial = "500ms"
///     max = "1h 30m"
///     exponent = 2.0
///     jitter = { proportional = 0.2 }  # or "none", "full", "equal", "decorrelated"
///     rounding = "none"                # or "whole-seconds"
///
///     [give_up]
///     after_failures = 10
///     after_elapsed = "1d"
/// "#)?;
/// assert_eq!(policy.jitter, Jitter::Proportional(0.2));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The interval after the first failure of a streak.
    pub initial: Duration,
    /// The longest delay there is: jitter, rounding and hints included.
    ///
    /// Durations above `u64::MAX` nanoseconds (584 years) count as that, here and everywhere.
    pub max: Duration,
    /// What each further failure multiplies the interval by; 1 keeps it at `initial`.
    pub exponent: f64,
    /// How the delay is spread, so that clients that failed together do not return together.
    pub jitter: Jitter,
    /// Whether delays are whole seconds.
    pub rounding: Rounding,
    /// When to stop retrying.
    pub give_up: GiveUp,
}

/// Presets.
impl Backoff {
    /// 500 ms growing by half each time up to 10 minutes, ±50 %, never giving up.
    ///
    /// The classic of background reconcilers: gentle growth, a long horizon.
    pub const DEFAULT: Backoff = Backoff {
        initial: Duration::from_millis(500),
        max: Duration::from_secs(600),
        exponent: 1.5,
        jitter: Jitter::Proportional(0.5),
        rounding: Rounding::None,
        give_up: GiveUp::NEVER,
    };

    /// Doubles from `initial` up to `max` with [full jitter](Jitter::Full), and never gives up.
    ///
    /// The safest choice for many clients of one service: of all spreads, full jitter drains a herd
    /// fastest.
    #[must_use]
    pub const fn exponential(initial: Duration, max: Duration) -> Backoff {
        Backoff {
            initial,
            max,
            exponent: 2.0,
            jitter: Jitter::Full,
            rounding: Rounding::None,
            give_up: GiveUp::NEVER,
        }
    }

    /// Always waits exactly `interval`, and never gives up.
    ///
    /// A server's hint cannot lengthen the wait, since no wait exceeds `max`, which is `interval`
    /// too: raise [`max`](Self::max) to heed hints.
    ///
    /// ```
    /// # use relent::Backoff;
    /// # use std::time::Duration;
    /// let every_second = Backoff::fixed(Duration::from_secs(1));
    /// assert!(every_second.schedule_seeded(0).take(1000).all(|wait| wait == Duration::from_secs(1)));
    /// ```
    #[must_use]
    pub const fn fixed(interval: Duration) -> Backoff {
        Backoff {
            initial: interval,
            max: interval,
            exponent: 1.0,
            jitter: Jitter::None,
            rounding: Rounding::None,
            give_up: GiveUp::NEVER,
        }
    }

    /// Gives up at the first failure.
    ///
    /// ```
    /// # use relent::Backoff;
    /// assert_eq!(Backoff::never_retry().schedule_seeded(0).next(), None);
    /// ```
    #[must_use]
    pub const fn never_retry() -> Backoff {
        Backoff::fixed(Duration::ZERO).give_up_after_failures(1)
    }
}

/// Setters: each returns the changed copy.
impl Backoff {
    /// The same policy with another [`initial`](Self::initial) interval.
    #[must_use]
    pub const fn initial(mut self, initial: Duration) -> Backoff {
        self.initial = initial;
        self
    }

    /// The same policy with another [`max`](Self::max).
    #[must_use]
    pub const fn max(mut self, max: Duration) -> Backoff {
        self.max = max;
        self
    }

    /// The same policy with another [`exponent`](Self::exponent).
    #[must_use]
    pub const fn exponent(mut self, exponent: f64) -> Backoff {
        self.exponent = exponent;
        self
    }

    /// The same policy with another [`jitter`](Self::jitter).
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Backoff {
        self.jitter = jitter;
        self
    }

    /// The same policy with another [`rounding`](Self::rounding).
    #[must_use]
    pub const fn rounding(mut self, rounding: Rounding) -> Backoff {
        self.rounding = rounding;
        self
    }

    /// The same policy in [whole seconds](Rounding::WholeSeconds).
    #[must_use]
    pub const fn whole_seconds(self) -> Backoff {
        self.rounding(Rounding::WholeSeconds)
    }

    /// The same policy with other [limits](Self::give_up).
    #[must_use]
    pub const fn give_up(mut self, give_up: GiveUp) -> Backoff {
        self.give_up = give_up;
        self
    }

    /// The same policy, giving up at the `failures`-th consecutive failure: an operation is
    /// attempted at most `failures` times. 0 and 1 both mean that nothing is retried.
    #[must_use]
    pub const fn give_up_after_failures(mut self, failures: u32) -> Backoff {
        self.give_up.after_failures = Some(failures);
        self
    }

    /// The same policy, giving up once the next attempt would begin more than `elapsed` after the
    /// first failure of the streak. Zero means that nothing is retried.
    #[must_use]
    pub const fn give_up_after(mut self, elapsed: Duration) -> Backoff {
        self.give_up.after_elapsed = Some(elapsed);
        self
    }
}

/// What it means.
impl Backoff {
    /// Checks that every field makes sense, and if not, says all that is wrong.
    ///
    /// A policy need not be valid to be used: see [`normalized`](Self::normalized). Call this where
    /// a person wrote the policy, to tell them of a mistake. Deserializing calls it.
    ///
    /// A policy of zeros in [whole seconds](Rounding::WholeSeconds) is valid and means one second,
    /// always; an exponent of 0 is "unset" and means 1.
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff`], which lists each [`Problem`](super::Problem) with its field, value and
    /// remedy.
    ///
    /// ```
    /// # use relent::Backoff;
    /// # use std::time::Duration;
    /// let typo = Backoff::exponential(Duration::from_secs(60), Duration::from_secs(1)).exponent(0.5);
    /// let complaint = typo.validate().unwrap_err().to_string();
    /// assert!(complaint.contains("max: 1s is below initial (60s)"), "{complaint}");
    /// assert!(complaint.contains("exponent: 0.5 is below 1"), "{complaint}");
    /// ```
    ///
    /// A constant can be checked when it is compiled. This one has its bounds the wrong way round:
    ///
    /// ```compile_fail,E0080
    /// # use relent::Backoff;
    /// # use std::time::Duration;
    /// const POLICY: Backoff = Backoff::exponential(Duration::from_secs(30), Duration::from_secs(1));
    /// const _: () = assert!(POLICY.validate().is_ok());
    /// ```
    pub const fn validate(&self) -> Result<(), InvalidBackoff> {
        InvalidBackoff::of(self)
    }

    /// The policy that the arithmetic really uses in place of this one.
    ///
    /// - An exponent that is not a number or below 1 counts as 1. Infinity stays: straight to
    ///   `max`.
    /// - A [proportion](Jitter::Proportional) is limited to 0..=1; one that is not a number counts
    ///   as 0.
    /// - In whole seconds, `initial` is rounded up, to at least one second, and `max` is rounded
    ///   down.
    /// - After that, a `max` below `initial` counts as `initial`.
    /// - Durations above `u64::MAX` nanoseconds count as that.
    ///
    /// ```
    /// # use relent::Backoff;
    /// # use std::time::Duration;
    /// let policy = Backoff::exponential(Duration::from_millis(1500), Duration::from_millis(9900)).whole_seconds();
    /// let used = policy.normalized();
    /// assert_eq!((used.initial, used.max), (Duration::from_secs(2), Duration::from_secs(9)));
    /// ```
    #[must_use]
    pub const fn normalized(self) -> Backoff {
        let plan = Plan::of(&self);
        Backoff {
            initial: from_nanos(plan.initial),
            max: from_nanos(plan.max),
            exponent: if grows(self.exponent) {
                self.exponent
            } else {
                1.0
            },
            jitter: self.jitter.normalized(),
            rounding: self.rounding,
            give_up: self.give_up,
        }
    }

    /// The interval after a failure, before jitter: `initial` after the first of a streak (`None`),
    /// else the one that follows `previous`.
    ///
    /// The product is exact to the nearest nanosecond (half up), then rounded up to the resolution
    /// (a second in whole seconds, else a nanosecond), then at most `max`. While below `max` and
    /// with an exponent above 1 it is always longer than `previous`, however small the growth.
    /// `previous` may come from storage: it needs no relation to `initial`, and one above `max`
    /// gives `max`. With an exponent of 1 the interval is `initial`, whatever `previous` is.
    ///
    /// ```
    /// # use relent::Backoff;
    /// # use std::time::Duration;
    /// let policy = Backoff::exponential(Duration::from_secs(60), Duration::from_secs(120)).exponent(1.1);
    /// assert_eq!(policy.interval_after(None), Duration::from_secs(60));
    /// assert_eq!(policy.interval_after(Some(Duration::from_secs(90))), Duration::from_secs(99));
    /// ```
    #[must_use]
    pub const fn interval_after(&self, previous: Option<Duration>) -> Duration {
        let previous = match previous {
            None => None,
            Some(previous) => Some(nanos(previous)),
        };
        from_nanos(Plan::of(self).interval_after(previous))
    }

    /// What this policy does, failure by failure, for a person to read before they trust it.
    ///
    /// The rows end where the policy gives up, or else where nothing changes any more, and after
    /// 100 at the latest. See [`Preview`].
    ///
    /// ```
    /// # use relent::Backoff;
    /// # use std::time::Duration;
    /// let policy = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60)).give_up_after_failures(5);
    /// println!("{}", policy.preview());
    /// ```
    #[must_use]
    pub const fn preview(&self) -> Preview {
        Preview::new(*self)
    }
}

/// [`Backoff::DEFAULT`].
impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::DEFAULT
    }
}
