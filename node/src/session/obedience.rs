//! Which assignment is obeyed: the newest that the cell's leader gave, never an older one.
//!
//! Promises: an update that does not fit changes nothing; a generation below one that was obeyed
//! before is refused, also after a restart of the node, as long as the cell is of the same
//! incarnation. Pure; the caller keeps the [`Floor`] on disk.

use berth_model::assignment::{Assignment, AssignmentUpdate, UpdateError};
use berth_model::{CellId, Generation, Incarnation};
use berth_wire::codec;
use serde::{Deserialize, Serialize};

/// The highest generation that was obeyed, and whose it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    pub cell: CellId,
    pub incarnation: Incarnation,
    pub generation: Generation,
}

#[derive(Debug, Default)]
pub struct Obedience {
    floor: Option<Floor>,
    held: Option<Assignment>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This is the assignment now.
    Obey(Assignment),
    /// Said by a leader that is none any more.
    Older { floor: Generation },
    /// Ask for the whole.
    WholeWanted { reason: String },
}

impl Obedience {
    pub fn new(floor: Option<Floor>) -> Obedience {
        Obedience { floor, held: None }
    }

    pub fn held(&self) -> Option<Generation> {
        self.held.as_ref().map(|assignment| assignment.generation)
    }

    pub fn floor(&self) -> Option<Floor> {
        self.floor
    }

    /// A leader welcomed us. Another cell or incarnation counts its generations anew.
    pub fn welcomed(&mut self, cell: CellId, incarnation: Incarnation) {
        let same = |floor: &Floor| floor.cell == cell && floor.incarnation == incarnation;
        if !self.floor.as_ref().is_some_and(same) {
            self.floor = Some(Floor { cell, incarnation, generation: Generation(0) });
            self.held = None;
        }
    }

    pub fn update(&mut self, update: &AssignmentUpdate) -> Verdict {
        let floor = self.floor.map_or(Generation(0), |floor| floor.generation);
        if update.generation < floor {
            return Verdict::Older { floor };
        }
        let nothing = Assignment::default();
        let held = self.held.as_ref().unwrap_or(&nothing);
        let encode = |id: &_, order: &_| codec::encode(&(id, order));
        match held.updated(update, encode) {
            Ok(next) => {
                if let Some(floor) = &mut self.floor {
                    floor.generation = next.generation;
                }
                self.held = Some(next.clone());
                Verdict::Obey(next)
            }
            Err(UpdateError::Older { held, .. }) => Verdict::Older { floor: held },
            Err(error @ (UpdateError::OtherBase { .. } | UpdateError::Digest(_))) => {
                Verdict::WholeWanted { reason: error.to_string() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::assignment::{VmOrder, Want};
    use berth_model::{ContainerId, DatastoreId, Epoch};

    const CELL: CellId = CellId::from_bytes([1; 16]);

    fn assignment(generation: u64, containers: &[u8]) -> Assignment {
        let order = |number: &u8| {
            let datastore = DatastoreId::from_bytes([2; 16]);
            let order = VmOrder { epoch: Epoch(1), datastore, want: Want::Discard };
            (ContainerId::from_bytes([*number; 32]), order)
        };
        let vms = containers.iter().map(order).collect();
        Assignment { generation: Generation(generation), vms }
    }

    fn update(from: Option<&Assignment>, to: &Assignment) -> AssignmentUpdate {
        to.update_from(from, |id, order| codec::encode(&(id, order)))
    }

    fn welcomed() -> Obedience {
        let mut obedience = Obedience::default();
        obedience.welcomed(CELL, Incarnation(0));
        obedience
    }

    #[test]
    fn steps_from_what_is_held_are_followed() {
        let (first, second) = (assignment(5, &[1, 2]), assignment(9, &[2, 3]));
        let mut obedience = welcomed();
        assert_eq!(obedience.update(&update(None, &first)), Verdict::Obey(first.clone()));
        let step = update(Some(&first), &second);
        assert_eq!(step.set.len(), 1);
        assert_eq!(obedience.update(&step), Verdict::Obey(second));
        assert_eq!(obedience.floor().unwrap().generation, Generation(9));
    }

    #[test]
    fn a_step_that_does_not_fit_changes_nothing_and_asks_for_the_whole() {
        let (first, second) = (assignment(5, &[1]), assignment(9, &[1, 2]));
        let mut obedience = welcomed();
        let step = update(Some(&first), &second);
        assert!(matches!(obedience.update(&step), Verdict::WholeWanted { .. }));
        obedience.update(&update(None, &first));
        let mut damaged = update(Some(&first), &second);
        damaged.set.clear();
        assert!(matches!(obedience.update(&damaged), Verdict::WholeWanted { .. }));
        assert_eq!(obedience.held(), Some(Generation(5)));
        assert!(matches!(obedience.update(&step), Verdict::Obey(_)));
    }

    #[test]
    fn an_older_generation_is_refused_also_after_a_restart() {
        let mut obedience = welcomed();
        obedience.update(&update(None, &assignment(9, &[1])));
        let older = update(None, &assignment(8, &[1, 2]));
        assert_eq!(obedience.update(&older), Verdict::Older { floor: Generation(9) });
        let mut restarted = Obedience::new(obedience.floor());
        restarted.welcomed(CELL, Incarnation(0));
        assert_eq!(restarted.update(&older), Verdict::Older { floor: Generation(9) });
        let again = update(None, &assignment(9, &[1]));
        assert!(matches!(restarted.update(&again), Verdict::Obey(_)));
    }

    #[test]
    fn another_incarnation_counts_anew() {
        let mut obedience = welcomed();
        obedience.update(&update(None, &assignment(9, &[1])));
        obedience.welcomed(CELL, Incarnation(1));
        assert_eq!(obedience.held(), None);
        let first = update(None, &assignment(2, &[]));
        assert!(matches!(obedience.update(&first), Verdict::Obey(_)));
    }
}
