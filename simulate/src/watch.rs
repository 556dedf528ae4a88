//! Who looks on while a fleet is filled and emptied.

use crate::engine::Held;
use berth_model::{PlacementWish, ReservationId};

/// Told of each place in the order in which they are held and end.
pub trait Watch {
    fn held(&mut self, wish: &PlacementWish, held: &Held);
    fn ended(&mut self, id: ReservationId);
}

/// Nobody.
impl Watch for () {
    fn held(&mut self, _: &PlacementWish, _: &Held) {}
    fn ended(&mut self, _: ReservationId) {}
}
