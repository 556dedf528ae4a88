//! What apply promises, kind by kind, and against random commands.

mod containers;
mod golden;
mod keys;
mod objects;
mod place;
mod random;
