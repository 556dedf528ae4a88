//! One request for a place, as everybody asks it: planner, API, what-if.
//!
//! Does not: own anything; it borrows from the container VM or the wish that it speaks for.

use super::keeping::{Newcomer, seed_of};
use super::{Delta, Load, Wish};
use crate::fleet::Fleet;
use crate::fleet::admit::Disks;
use crate::fleet::rules::Matched;
use berth_model::reservation::PlacementWish;
use berth_model::{Bytes, DatastoreId, Demand, EndpointId, ReservationId};
use std::collections::{BTreeMap, BTreeSet};

/// What is asked for, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whose quota it takes, and whose rules speak of it.
    pub endpoint: EndpointId,
    pub demand: &'a Demand,
    /// What rules select by.
    pub labels: &'a BTreeMap<String, String>,
    /// Datastores that hold the image's base disk; `None` asks regardless of images.
    pub image: Option<&'a BTreeSet<DatastoreId>>,
    pub delta: Delta,
    pub load: Load,
    /// It takes over what this reservation holds.
    pub instead_of: Option<ReservationId>,
    /// The first eight bytes of its id: where a restart's search for a host would begin.
    pub seed: u64,
}

impl<'a> Ask<'a> {
    /// For what a reservation is to hold: host and datastores, now.
    pub fn hold(endpoint: EndpointId, wish: &'a PlacementWish) -> Ask<'a> {
        let PlacementWish { demand, labels } = wish;
        let pinned = demand.datastore.filter(|_| demand.disk > Bytes::ZERO);
        let delta = pinned.map_or(Delta::Anywhere, Delta::New);
        let load = Load::Now;
        Ask { endpoint, demand, labels, image: None, delta, load, instead_of: None, seed: 0 }
    }

    /// For a create: a datastore, and a host that could ever take it.
    pub fn create(
        endpoint: EndpointId,
        demand: &'a Demand,
        labels: &'a BTreeMap<String, String>,
        image: Option<&'a BTreeSet<DatastoreId>>,
    ) -> Ask<'a> {
        let delta = demand.datastore.map_or(Delta::Anywhere, Delta::New);
        Ask { endpoint, demand, labels, image, delta, load: Load::Ever, instead_of: None, seed: 0 }
    }

    /// For a start: a host that reaches the delta on `datastore`.
    pub fn start(
        endpoint: EndpointId,
        demand: &'a Demand,
        labels: &'a BTreeMap<String, String>,
        image: Option<&'a BTreeSet<DatastoreId>>,
        datastore: DatastoreId,
    ) -> Ask<'a> {
        let delta = Delta::Placed(datastore);
        Ask { endpoint, demand, labels, image, delta, load: Load::Now, instead_of: None, seed: 0 }
    }

    /// For both at once: which datastore and which host, were it created and started now.
    pub fn run(
        endpoint: EndpointId,
        demand: &'a Demand,
        labels: &'a BTreeMap<String, String>,
        image: Option<&'a BTreeSet<DatastoreId>>,
    ) -> Ask<'a> {
        Ask { load: Load::Now, ..Ask::create(endpoint, demand, labels, image) }
    }

    /// The same, for what has this id.
    pub fn with_id(self, id: &[u8]) -> Ask<'a> {
        Ask { seed: seed_of(id), ..self }
    }

    /// As what a cluster keeps is judged by, with its datastores on a host whose hypervisor costs
    /// `overhead`.
    pub fn newcomer(
        &self,
        overhead: Bytes,
        delta: Option<DatastoreId>,
        disks: &[DatastoreId],
    ) -> Newcomer<'a> {
        let delta = match self.delta {
            Delta::Placed(datastore) => Some(datastore),
            Delta::New(_) | Delta::Anywhere => delta,
        };
        Newcomer {
            endpoint: self.endpoint,
            demand: self.demand,
            labels: self.labels,
            seed: self.seed,
            charge: self.demand.charge(overhead),
            delta,
            disks: disks.to_vec(),
            bound: self.demand.host.is_some(),
        }
    }

    /// The rules that speak of it.
    pub fn matched(&self, fleet: &Fleet) -> Matched {
        fleet.matched(self.endpoint, self.labels)
    }

    /// As the filters take it.
    pub fn wish(&self, matched: &'a Matched) -> Wish<'a> {
        Wish {
            endpoint: self.endpoint,
            demand: self.demand,
            matched,
            image: self.image,
            delta: self.delta,
            disks: Disks::Anywhere,
            numa: None,
            load: self.load,
        }
    }
}
