//! Stores on servers, with what happens to servers: many processes, restarts, cut connections,
//! paused workers, killed workers, full disks, foreign data.
//!
//! `RELENT_CONTENTION_SECONDS` sets how long processes contend; a few seconds by default.

#![cfg(all(unix, feature = "postgres", feature = "redis", feature = "tokio"))]

#[path = "store_shared/contention.rs"]
mod contention;
#[path = "store_servers/crash.rs"]
mod crash;
#[path = "store_servers/disk.rs"]
mod disk;
#[path = "store_shared/history.rs"]
mod history;
#[path = "store_crash/model.rs"]
mod model;
#[path = "store_servers/postgres.rs"]
mod postgres;
#[path = "store_servers/processes.rs"]
mod processes;
#[path = "store_servers/redis.rs"]
mod redis;
#[path = "store_servers/round_trips.rs"]
mod round_trips;
mod servers;
