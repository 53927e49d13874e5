//! Long reading: how to choose a policy, how to come from another crate, how this one is built.

#[doc = include_str!("docs/choosing.md")]
///
/// ## Pictures
///
/// Drawn by `cargo run --release --example herd -- --only outage`:
///
#[doc = include_str!("docs/img/outage.svg")]
///
/// and by `cargo run --release --example herd -- --only overload`:
///
#[doc = include_str!("docs/img/overload.svg")]
pub mod choosing {}

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/comparison.md")]
pub mod comparison {}

#[doc = include_str!("docs/migration.md")]
pub mod migration {}

#[cfg(all(feature = "file", feature = "sqlite"))]
#[doc = include_str!("docs/durable.md")]
pub mod durable {}

#[doc = include_str!("docs/leases.md")]
#[cfg(feature = "std")]
pub mod leases {}

#[doc = include_str!("docs/own_table.md")]
#[cfg(feature = "std")]
pub mod own_table {}
