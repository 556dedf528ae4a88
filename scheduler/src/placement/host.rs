//! The best host among all that pass.

use super::{Score, Wish};
use crate::fleet::Fleet;
use berth_model::HostId;

pub(super) fn best(fleet: &Fleet, wish: &Wish<'_>) -> Option<HostId> {
    fleet
        .hosts()
        .filter(|host| fleet.admit(host, wish).is_ok())
        .map(|host| Score::of(fleet, host, wish.demand))
        .min()
        .map(|score| score.host)
}
