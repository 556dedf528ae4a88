//! `berth get`, `explain`, `create`, `start`, `stop`, `delete`: the command line over `/v1`; and
//! `bench`, which brings its own cell.

pub mod bench;
pub mod change;
pub mod connection;
pub mod create;
pub mod explain;
pub mod get;
pub mod output;
pub mod pages;
pub mod refused;
pub mod units;
