//! What apply promises, kind by kind, and against random commands.

mod containers;
mod golden;
mod keys;
mod objects;
mod oracle;
mod place;
mod policies;
mod random;
mod reservations;
mod rules;
mod rules_random;
