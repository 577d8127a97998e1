//! Who watches what.
//!
//! Without a store, each instance keeps its fixed share ([`shard`]). With one ([`store`]), instances register there,
//! one of the routers is the [`planner`], and its [`plan`] says which instance watches which [`mod@unit`]; a [`worker`]
//! follows it.

pub mod cache;
pub mod heartbeat;
pub mod keys;
pub mod ledger;
pub mod plan;
pub mod planner;
pub mod published;
pub mod reseed;
pub mod shard;
pub mod store;
pub mod streams;
pub mod unit;
pub mod worker;
