//! Long reading: how to choose a policy, how to keep state, how to come from another crate, how
//! this one is built.

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
#[cfg(feature = "std")]
pub mod choosing {}

#[doc = include_str!("docs/durable.md")]
#[cfg(all(feature = "file", feature = "sqlite"))]
pub mod durable {}

#[doc = include_str!("docs/leases.md")]
#[cfg(feature = "std")]
pub mod leases {}

#[doc = include_str!("docs/own_table.md")]
#[cfg(feature = "std")]
pub mod own_table {}

#[doc = include_str!("docs/migration.md")]
#[cfg(feature = "std")]
pub mod migration {}

#[doc = include_str!("docs/comparison.md")]
#[cfg(feature = "std")]
pub mod comparison {}

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/recipes.md")]
#[cfg(feature = "std")]
pub mod recipes {}
