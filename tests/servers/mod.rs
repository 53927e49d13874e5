//! Servers to throw away: a test starts its own, and they end with it.
#![allow(dead_code)] // each test needs other parts

#[cfg(feature = "redis")]
pub(crate) mod between;
#[cfg(feature = "postgres")]
pub(crate) mod cockroach;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod process;
#[cfg(feature = "postgres")]
pub(crate) mod proxy;
#[cfg(feature = "redis")]
pub(crate) mod redis;
