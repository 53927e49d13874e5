//! Remember: durable backoff state and leases, per key.
//!
//! | I have | I use |
//! |---|---|
//! | failures to remember across restarts, processes or hosts | a [`DurableTracker`] over a store; [blocking](blocking::DurableTracker) or async |
//! | work that only one worker at a time may do | [`DurableTracker::start`], a [`Work`] and a [heartbeat](DurableTracker::heartbeat_with) |
//! | a [`BackoffTracker`](crate::BackoffTracker) that must not wait for a disk | [`WriteBehind`] |
//! | one process and no database | `FileStore` (feature `file`) |
//! | processes of one host, or tables to join with | `SqliteStore` (feature `sqlite`) |
//! | a blocking store and an async program | `Unblock` (feature `tokio`), or [`Inline`] |
//! | an async store and a blocking program | `blocking::Block` (feature `tokio`) |
//! | a store that is chosen when the program starts | [`AnyStore`], [blocking](blocking::AnyStore) or async |
//! | a store of my own | [`AsyncStore`] or [`blocking::Store`], and the feature `contract` |
//! | backoff columns in a table of my own | no store: [ten lines](crate::docs::own_table) |
//!
//! Every transition of a key is a pure function from its [`Record`] and the store's time to a
//! [`Change`]: they are all in [`step`]. A store only loads, compares and swaps, and lists. So
//! threads, processes and hosts that share a store agree on every key, whichever face they use.
//!
//! Read on: [how to keep it across restarts](crate::docs) (the page `durable`), and [leases](crate::docs::leases).

mod any;
mod behind;
pub mod blocking;
mod change;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod columns;
#[cfg(feature = "contract")]
pub mod contract;
mod desk;
#[cfg(feature = "file")]
mod document;
mod error;
#[cfg(feature = "file")]
mod file;
mod future;
mod history;
mod inline;
mod key;
mod lease;
mod listing;
mod memory;
mod options;
mod parts;
#[cfg(feature = "postgres")]
mod postgres;
mod record;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod rounds;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
pub mod step;
mod text;
#[cfg(feature = "tokio")]
mod unblock;
mod unreadable;
#[cfg(any(feature = "file", feature = "redis"))]
mod version;

pub use any::AnyError;
pub use change::{Change, Event, Settled, Write};
pub use error::{Error, Fault, StartError, WorkError};
#[cfg(feature = "file")]
pub use file::{FileError, FileStore, FileTransaction};
pub use future::{
    AnyStore, AsyncStore, AsyncTransactional, Attempt, DurableTracker, Work, WriteBehind,
};
pub use history::Entry;
pub use inline::Inline;
pub use key::{InvalidKey, MAX_KEY, MAX_NAMESPACE};
pub use lease::{Granted, Lease, LeaseLost, Refusal};
pub use listing::{Cursor, Listed, Page, Which};
pub use memory::MemoryStore;
pub use options::Options;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresError, PostgresStore};
pub use record::Record;
#[cfg(feature = "redis")]
pub use redis::{RedisError, RedisStore};
pub use session::{Expiry, Session};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteError, SqliteStore};
pub use text::MAX_CAUSE;
#[cfg(feature = "tokio")]
pub use unblock::Unblock;
pub use unreadable::{Problem, Unreadable};
