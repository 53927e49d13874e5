//! Remember: durable backoff state and leases, per key.

pub mod blocking;
mod change;
#[cfg(feature = "sqlite")]
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
mod record;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
pub mod step;
mod unreadable;

pub use change::{Change, Event, Settled, Write};
pub use error::{Error, StartError, WorkError};
#[cfg(feature = "file")]
pub use file::{FileError, FileStore, FileTransaction};
pub use future::{AsyncStore, AsyncTransactional, Attempt, DurableTracker, Work};
pub use history::Entry;
pub use inline::Inline;
#[cfg(feature = "tokio")]
pub use inline::Unblock;
pub use key::{InvalidKey, MAX_KEY, MAX_NAMESPACE};
pub use lease::{Granted, Lease, LeaseLost, Refusal};
pub use listing::{Cursor, Listed, Page, Which};
pub use memory::MemoryStore;
pub use options::Options;
pub use record::Record;
pub use session::{Expiry, Session};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteError, SqliteStore};
pub use unreadable::{Problem, Unreadable};
