//! raft-rs logs through slog; this passes its lines on to tracing.

use std::fmt::Write;

/// A logger for raft-rs. Its own `info` lines are our `debug`: an election is told once, by the
/// loop.
pub(crate) fn logger() -> slog::Logger {
    slog::Logger::root(slog::Fuse(Bridge), slog::o!())
}

struct Bridge;

impl slog::Drain for Bridge {
    type Ok = ();
    type Err = slog::Never;

    fn log(
        &self,
        record: &slog::Record<'_>,
        values: &slog::OwnedKVList,
    ) -> Result<(), slog::Never> {
        if !self.is_enabled(record.level()) {
            return Ok(());
        }
        let mut line = record.msg().to_string();
        let mut pairs = Pairs(&mut line);
        // Writing into a string cannot fail.
        let _ = slog::KV::serialize(&record.kv(), record, &mut pairs);
        let _ = slog::KV::serialize(values, record, &mut pairs);
        match record.level() {
            slog::Level::Critical | slog::Level::Error => tracing::error!(target: "raft", "{line}"),
            slog::Level::Warning => tracing::warn!(target: "raft", "{line}"),
            slog::Level::Info => tracing::debug!(target: "raft", "{line}"),
            slog::Level::Debug | slog::Level::Trace => tracing::trace!(target: "raft", "{line}"),
        }
        Ok(())
    }

    /// Asked before a line is formatted; raft-rs formats whole messages into its debug lines.
    fn is_enabled(&self, level: slog::Level) -> bool {
        match level {
            slog::Level::Critical | slog::Level::Error => true,
            slog::Level::Warning => tracing::enabled!(target: "raft", tracing::Level::WARN),
            slog::Level::Info => tracing::enabled!(target: "raft", tracing::Level::DEBUG),
            slog::Level::Debug | slog::Level::Trace => {
                tracing::enabled!(target: "raft", tracing::Level::TRACE)
            }
        }
    }
}

struct Pairs<'a>(&'a mut String);

impl slog::Serializer for Pairs<'_> {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, ", {key}: {value}").map_err(slog::Error::from)
    }
}
