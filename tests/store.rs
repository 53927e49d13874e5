//! One contract, every store, in every face.

#[cfg(feature = "sqlite")]
#[path = "store/any.rs"]
mod any;
#[path = "store/behind.rs"]
mod behind;
#[path = "store/faces.rs"]
mod faces;
#[cfg(feature = "file")]
#[path = "store/file.rs"]
mod file;
#[path = "store/flaky.rs"]
mod flaky;
#[path = "store/flusher.rs"]
mod flusher;
#[path = "store/flushes.rs"]
mod flushes;
#[path = "store/heartbeat.rs"]
mod heartbeat;
#[path = "store/memory.rs"]
mod memory;
#[cfg(all(unix, feature = "postgres"))]
#[path = "store/postgres.rs"]
mod postgres;
#[path = "store/record.rs"]
mod record;
#[cfg(all(unix, feature = "redis"))]
#[path = "store/redis.rs"]
mod redis;
#[cfg(all(unix, any(feature = "postgres", feature = "redis")))]
mod servers;
#[path = "store/session.rs"]
mod session;
#[cfg(feature = "sqlite")]
#[path = "store/sqlite.rs"]
mod sqlite;
#[path = "store/steps.rs"]
mod steps;
#[path = "store/twins.rs"]
mod twins;
#[path = "store/unblock.rs"]
mod unblock;
#[cfg(feature = "sqlite")]
#[path = "store/within.rs"]
mod within;
