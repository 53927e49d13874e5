//! How long? The policy and its arithmetic: pure, constant, without a clock, I/O or randomness.

mod backoff;
mod give_up;
mod interval;
mod invalid;
mod jitter;
mod plan;
mod preview;
mod product;

pub use backoff::Backoff;
pub use give_up::{GiveUp, GiveUpReason};
pub use interval::Rounding;
pub use invalid::{InvalidBackoff, Problem};
pub use jitter::Jitter;
pub use preview::{Preview, PreviewRow, Warning};

#[cfg(feature = "std")]
pub(crate) use product::product;
pub(crate) use {
    interval::{from_nanos, nanos},
    plan::Plan,
    preview::Brief,
};

#[cfg(feature = "serde")]
pub(crate) mod config;
