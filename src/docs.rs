//! Long reading: how to choose a policy, how to come from another crate, how this one is built.

#[doc = include_str!("docs/choosing.md")]
#[doc = "\n## Pictures\n\nThe outage, under the policies above:\n"]
#[doc = include_str!("docs/img/outage.svg")]
#[doc = "\nThe overload, with and without budgets:\n"]
#[doc = include_str!("docs/img/overload.svg")]
pub mod choosing {}

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/comparison.md")]
pub mod comparison {}

#[doc = include_str!("docs/migration.md")]
pub mod migration {}
