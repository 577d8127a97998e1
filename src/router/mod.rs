//! Who watches what.
//!
//! Without a store, each instance keeps its fixed share ([`shard`]). With one ([`store`]), instances register there,
//! one of the routers is the planner, and its [`plan`] says which instance watches which [`mod@unit`].

pub mod plan;
pub mod shard;
pub mod store;
pub mod unit;
