//! The domain: a job is its container. Everything here works over the engine alone and keeps no state of its own.
//!
//! [`state`] draws the states and derives them, [`labels`] holds every fact that outlives a process, [`spec`] says what a cell is.
//! [`start`] and [`deliver`] make a job, [`preview`] says what that would send, [`inherit`] is what it gets of its user's own Codex, [`reviewing`] is what a review has besides, [`continuing`] what one has that goes on with another, [`deliverer`] tells whether the process that does it lives, [`watch`], [`status`], [`list`] and [`log`] look at it, [`collect`] brings its result,
//! [`events`] and [`changes`] tell who waits that something has changed.
//! [`restore`] finds one whose container was removed from outside, [`overstay`] ends one that was frozen,
//! [`consume`], [`bury`] and [`gc`] end it, and [`claim`] decides who of several may. [`gateway`] finds or makes the gateway and speaks to it, [`limits`] changes what holds for all of its jobs.

mod admin;
mod attempts;
pub mod attest;
mod audit;
mod authorities;
mod away;
mod bury;
mod changes;
mod check;
mod claim;
mod collect;
mod consume;
mod continuing;
mod create;
mod deliver;
mod delivered;
mod deliverer;
mod deliveries;
mod download;
mod events;
mod failure;
mod fetch;
mod gateway;
mod gc;
pub mod id;
mod inherit;
mod isolation;
mod labels;
mod limits;
mod list;
mod log;
pub mod model;
mod overstay;
pub mod preview;
pub mod readiness;
mod restore;
mod reviewing;
mod seal;
pub mod service;
mod spec;
mod start;
mod state;
pub mod stats;
mod status;
mod time;
mod trace;
mod version;
mod watch;
pub mod weakness;

pub use attempts::{MAX_ATTEMPTS, Snapshot};
pub use audit::LedgerPart;
pub use changes::{Following, Stand};
pub use consume::{Claimed, Consumed};
pub use id::JobId;
pub use inherit::{Inherited, NotTaken, Report as InheritedReport, TakenFile, inherited};
pub use limits::{GatewayState, LimitChange};
/// The readers of hostile bytes, for the fuzz targets (`docs/FUZZING.md`); nothing else uses them from outside.
pub mod readers {
    pub use super::download::{Expected, Piece, Pieces, read as read_download, read_one as read_one_file};
    pub use super::inherit::take_config;
    pub use super::log::Lines;
}

pub use model::*;
pub use preview::{Preview, PreviewChange};
pub use service::Jobs;
