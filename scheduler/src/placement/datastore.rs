//! The best datastore among all that have room and a host for the container VM.

use super::{DatastoreScore, Delta, Load, Wish};
use crate::fleet::Fleet;
use berth_model::{Datastore, DatastoreId};

pub(super) fn best(fleet: &Fleet, wish: &Wish<'_>) -> Option<DatastoreId> {
    let pinned = match wish.delta {
        Delta::New(datastore) | Delta::Placed(datastore) => Some(datastore),
        Delta::Anywhere => None,
    };
    fleet
        .datastores()
        .filter(|datastore| pinned.is_none_or(|pinned| pinned == datastore.id))
        .filter_map(|datastore| score(fleet, datastore, wish))
        .min()
        .map(|score| score.datastore)
}

fn score(fleet: &Fleet, datastore: &Datastore, wish: &Wish<'_>) -> Option<DatastoreScore> {
    let wish = Wish { delta: Delta::New(datastore.id), ..*wish };
    let now = Wish { load: Load::Now, ..wish };
    let (mut hosts, mut crowded) = (0_u32, true);
    for host in datastore.hosts.iter().filter_map(|id| fleet.host(*id)) {
        if fleet.admit(host, &wish).is_ok() {
            hosts += 1;
            crowded = crowded && fleet.admit(host, &now).is_err();
        }
    }
    (hosts > 0).then(|| DatastoreScore::of(fleet, datastore, wish.demand, crowded, hosts))
}
