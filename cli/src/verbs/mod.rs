//! The verbs of the command line over `/v1`, a file each; and `bench`, which brings its own cell.

pub mod ask;
pub mod bench;
pub mod change;
pub mod connection;
pub mod create;
pub mod demand;
pub mod events;
pub mod explain;
pub mod get;
pub mod operate;
pub mod output;
pub mod pages;
pub mod place;
pub mod policy;
pub mod refused;
pub mod rule;
pub mod selector;
pub mod units;
