//! Where a container VM goes: filters say which hosts may, scores say which of them is taken.
//!
//! Promises: exact and deterministic: the best by score among all that pass, ties by id. A refusal
//! says how many hosts each filter refused and the smallest change of the request that would help.
//! Does not: change the fleet, nor remember anything between calls.
//!
//! A create chooses a datastore and asks only that a host could ever take the container VM; a start
//! chooses a host against what is free now. A dry run does both against what is free now.

mod datastore;
mod host;
mod relax;
mod score;
#[cfg(test)]
mod tests;

pub use crate::fleet::admit::{Delta, FILTERS, Filter, Load, Wish};
pub use score::{DatastoreScore, Score};

use crate::fleet::Fleet;
use berth_model::{DatastoreId, Demand, Explanation, HostId};
use std::collections::BTreeSet;

/// Where one container VM would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub datastore: DatastoreId,
    pub host: HostId,
}

/// The datastore for a new delta disk. `image` is where the image's base disk lies.
pub fn place_datastore(
    fleet: &Fleet,
    demand: &Demand,
    image: Option<&BTreeSet<DatastoreId>>,
) -> Result<DatastoreId, Explanation> {
    let wish = Wish::create(demand, image);
    datastore::best(fleet, &wish).ok_or_else(|| explain(fleet, &wish))
}

/// The host for a start of what lies on `datastore`.
pub fn place_host(
    fleet: &Fleet,
    demand: &Demand,
    image: Option<&BTreeSet<DatastoreId>>,
    datastore: DatastoreId,
) -> Result<HostId, Explanation> {
    let wish = Wish::start(demand, image, datastore);
    host::best(fleet, &wish).ok_or_else(|| explain(fleet, &wish))
}

/// Datastore and host in one decision, as if it were created and started now.
pub fn place(
    fleet: &Fleet,
    demand: &Demand,
    image: Option<&BTreeSet<DatastoreId>>,
) -> Result<Placement, Explanation> {
    let wish = Wish::run(demand, image);
    let datastore = datastore::best(fleet, &wish).ok_or_else(|| explain(fleet, &wish))?;
    let wish = Wish { delta: Delta::New(datastore), ..wish };
    let host = host::best(fleet, &wish).ok_or_else(|| explain(fleet, &wish))?;
    Ok(Placement { datastore, host })
}

/// Every host's first refusal. Only asked when no host passes.
fn explain(fleet: &Fleet, wish: &Wish<'_>) -> Explanation {
    let mut explanation = Explanation::default();
    for host in fleet.hosts() {
        if let Err(refusal) = fleet.admit(host, wish) {
            explanation.refuse(host.id, refusal);
        }
    }
    explanation.relaxation = relax::smallest(fleet, wish);
    explanation
}
