//! Long reading: how to choose a policy, how to come from another crate, how this one is built.

#[cfg(all(feature = "file", feature = "sqlite"))]
#[doc = include_str!("docs/durable.md")]
pub mod durable {}

#[doc = include_str!("docs/leases.md")]
#[cfg(feature = "std")]
pub mod leases {}

#[doc = include_str!("docs/own_table.md")]
#[cfg(feature = "std")]
pub mod own_table {}
