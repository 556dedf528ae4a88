//! Containers: one file a group of endpoints.

pub mod attach;
pub mod create;
mod hijack;
pub mod logs;
mod output;
pub mod run;
pub mod show;
pub mod signal;
pub mod wait;
