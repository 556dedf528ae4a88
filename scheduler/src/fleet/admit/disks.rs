//! Which datastores take the disks of a placement.
//!
//! Promises: exact. If any assignment of the delta and the other disks to datastores in reach
//! fits, one is found: largest disk first, tightest datastore first, and back where that led
//! nowhere. Equal disks and equal datastores are not tried twice. The search is bounded by
//! [`STEPS_MAX`]; a host whose disks cannot be sorted out within it is refused as too small.
//! `disks_go_where_they_fit_exactly_if_they_can` holds it against trying everything.

use super::{Delta, Wish};
use crate::fleet::Fleet;
use berth_model::explanation::Refusal;
use berth_model::{Bytes, Datastore, DatastoreId, Host};
use std::collections::BTreeMap;

/// Most steps of one search. Sixteen disks on a dozen datastores seldom need a hundred.
const STEPS_MAX: u32 = 50_000;

/// Where the disks beside the delta are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks<'a> {
    Anywhere,
    /// In the order of the demand's.
    At(&'a [DatastoreId]),
}

/// A disk that is to be made, and the datastores that could take it on their own.
struct Part {
    /// `None` is the delta.
    position: Option<usize>,
    size: Bytes,
    candidates: Vec<DatastoreId>,
}

/// What is asked of the datastore of one disk. A label `class` is also held by the datastore's
/// class, so that a request can ask for it.
struct Asked<'a> {
    name: &'a str,
    size: Bytes,
    labels: &'a BTreeMap<String, String>,
    /// Only this one.
    fixed: Option<DatastoreId>,
}

/// Datastores for the delta, if it is to be made, and for the other disks.
pub type Chosen = (Option<DatastoreId>, Vec<DatastoreId>);

impl Fleet {
    /// The datastores that the disks would be made on, if they fit.
    pub fn choose_disks(&self, host: &Host, wish: &Wish<'_>) -> Result<Chosen, Refusal> {
        let mut parts = self.parts(host, wish)?;
        if let Some(together) = self.disks_together(wish).filter(|_| parts.len() > 1) {
            return self.on_one(&parts, wish).ok_or_else(|| Refusal::RuleBroken {
                rule: together.rule.id,
                name: together.rule.name.clone(),
                kind: together.kind().name().to_owned(),
            });
        }
        parts.sort_by(|a, b| (b.size, a.position).cmp(&(a.size, b.position)));
        let mut free = BTreeMap::new();
        for id in parts.iter().flat_map(|part| &part.candidates) {
            free.entry(*id).or_insert_with(|| {
                self.datastore(*id).map_or(Bytes::ZERO, |store| self.free_on_datastore(store))
            });
        }
        let mut search = Search { parts: &parts, free, taken: Vec::new(), steps: 0 };
        if !search.go() {
            return Err(search.refusal());
        }
        let taken = std::mem::take(&mut search.taken);
        Ok(sort_out(&parts, &taken, wish.demand.disks.len()))
    }

    /// Whether a datastore has what any of the wish's disks asks for, room and host apart.
    pub(in super::super) fn suits_any_disk(&self, store: &Datastore, wish: &Wish<'_>) -> bool {
        // As the demand asks, not as somebody chose for it: what else would do counts too.
        let delta = match (wish.delta, wish.demand.datastore) {
            (Delta::Placed(_), _) => wish.delta,
            (Delta::Anywhere, _) if wish.demand.disk == Bytes::ZERO => Delta::Anywhere,
            (Delta::New(_) | Delta::Anywhere, Some(pinned)) => Delta::New(pinned),
            (Delta::New(_), None) if wish.demand.disk == Bytes::ZERO => Delta::New(store.id),
            (Delta::New(_) | Delta::Anywhere, None) => Delta::Anywhere,
        };
        let wish = Wish { delta, disks: Disks::Anywhere, ..*wish };
        asked(&wish).any(|(_, asked)| suits(store, &asked))
    }

    fn parts(&self, host: &Host, wish: &Wish<'_>) -> Result<Vec<Part>, Refusal> {
        let mut parts = Vec::new();
        for (position, asked) in asked(wish) {
            let candidates = self.candidates(host, wish, &asked)?;
            parts.push(Part { position, size: asked.size, candidates });
        }
        Ok(parts)
    }

    /// Datastores in reach that could take the disk, were they empty, without breaking a rule.
    fn candidates(
        &self,
        host: &Host,
        wish: &Wish<'_>,
        asked: &Asked<'_>,
    ) -> Result<Vec<DatastoreId>, Refusal> {
        let reached = &host.facts.datastores;
        if let Some(datastore) = asked.fixed.filter(|id| !reached.contains_key(id)) {
            return Err(Refusal::DatastoreUnreachable { datastore });
        }
        let mut refusal = Refusal::NoSuchDatastore { disk: asked.name.to_owned() };
        let mut candidates = Vec::new();
        for store in reached.keys().filter_map(|id| self.datastore(*id)) {
            if !suits(store, asked) {
                continue;
            }
            match self.rule_against_datastore(store, wish) {
                Ok(()) => candidates.push(store.id),
                Err(refused) => refusal = refused,
            }
        }
        if candidates.is_empty() { Err(refusal) } else { Ok(candidates) }
    }

    /// All on one datastore, the tightest that has room.
    fn on_one(&self, parts: &[Part], wish: &Wish<'_>) -> Option<Chosen> {
        let needed: Bytes = parts.iter().map(|part| part.size).sum();
        let first = parts.first()?;
        let fits = |id: &DatastoreId| {
            let free = self.free_on_datastore(self.datastore(*id)?);
            let allowed = parts.iter().all(|part| part.candidates.contains(id));
            (allowed && needed <= free).then_some((free, *id))
        };
        let (_, id) = first.candidates.iter().filter_map(fits).min()?;
        Some(sort_out(parts, &vec![id; parts.len()], wish.demand.disks.len()))
    }
}

/// The disks that are to be made; the delta first, without a position among the others.
fn asked<'a>(wish: &Wish<'a>) -> impl Iterator<Item = (Option<usize>, Asked<'a>)> {
    let (demand, disks) = (wish.demand, wish.disks);
    let delta = match wish.delta {
        Delta::Placed(_) => None,
        Delta::Anywhere if demand.disk == Bytes::ZERO => None,
        Delta::Anywhere => Some(None),
        Delta::New(id) => Some(Some(id)),
    };
    let delta = delta.map(|fixed| Asked {
        name: "delta",
        size: demand.disk,
        labels: &demand.datastore_labels,
        fixed,
    });
    let others = demand.disks.iter().enumerate().map(move |(position, disk)| {
        let chosen = match disks {
            Disks::Anywhere => None,
            Disks::At(ids) => ids.get(position).copied(),
        };
        let fixed = chosen.or(disk.datastore);
        let asked = Asked { name: &disk.name, size: disk.size, labels: &disk.labels, fixed };
        (Some(position), asked)
    });
    delta.map(|asked| (None, asked)).into_iter().chain(others)
}

fn suits(store: &Datastore, asked: &Asked<'_>) -> bool {
    asked.fixed.is_none_or(|fixed| fixed == store.id)
        && asked.labels.iter().all(|(name, value)| {
            store.meta.labels.get(name) == Some(value)
                || (name == "class" && !store.class.is_empty() && store.class == *value)
        })
}

fn sort_out(parts: &[Part], taken: &[DatastoreId], disks: usize) -> Chosen {
    let mut others = vec![DatastoreId::from_bytes([0; 16]); disks];
    let mut delta = None;
    for (part, id) in parts.iter().zip(taken) {
        match part.position {
            None => delta = Some(*id),
            Some(position) => others[position] = *id,
        }
    }
    (delta, others)
}

struct Search<'a> {
    /// Largest first.
    parts: &'a [Part],
    free: BTreeMap<DatastoreId, Bytes>,
    /// For each of the first parts, where it went.
    taken: Vec<DatastoreId>,
    steps: u32,
}

impl Search<'_> {
    fn go(&mut self) -> bool {
        let Some(part) = self.parts.get(self.taken.len()) else { return true };
        let mut tried = Vec::new();
        for (free, id) in self.fitting(part) {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return false;
            }
            // Of two equally free datastores that suit the same disks, either will do.
            let shape = (free, self.suited(id));
            if tried.contains(&shape) {
                continue;
            }
            tried.push(shape);
            self.taken.push(id);
            self.free.insert(id, free - part.size);
            if self.go() {
                return true;
            }
            self.free.insert(id, free);
            self.taken.pop();
        }
        false
    }

    /// Datastores with room for the disk, the tightest first.
    fn fitting(&self, part: &Part) -> Vec<(Bytes, DatastoreId)> {
        let mut fitting: Vec<(Bytes, DatastoreId)> = part
            .candidates
            .iter()
            .filter_map(|id| self.free.get(id).map(|free| (*free, *id)))
            .filter(|(free, _)| part.size <= *free)
            .collect();
        fitting.sort_unstable();
        fitting
    }

    /// Which of the disks could lie there: bit `n` is the `n`th part.
    fn suited(&self, id: DatastoreId) -> u32 {
        let parts = self.parts.iter().enumerate();
        parts.fold(0, |set, (n, part)| set | u32::from(part.candidates.contains(&id)) << n)
    }

    fn refusal(&self) -> Refusal {
        // What is short is told of the largest disk: on its own if that does not fit, else of all.
        let most =
            |part: &Part| part.candidates.iter().filter_map(|id| self.free.get(id)).max().copied();
        for part in self.parts {
            let free = most(part).unwrap_or(Bytes::ZERO);
            if part.size > free {
                return Refusal::DiskShort { needed: part.size, free };
            }
        }
        Refusal::DiskShort {
            needed: self.parts.iter().map(|part| part.size).sum(),
            free: self.free.values().copied().sum(),
        }
    }
}

pub(super) fn datastores(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let reached = &host.facts.datastores;
    let mut asked_for = asked(wish);
    let first = asked_for.next();
    if reached.is_empty() && (first.is_some() || wish.image.is_some() || !wish.is_new()) {
        return Err(Refusal::NoDatastore);
    }
    if wish.image.is_some_and(|holding| !holding.iter().any(|id| reached.contains_key(id))) {
        return Err(Refusal::ImageUnreachable);
    }
    if let Delta::Placed(datastore) = wish.delta
        && !reached.contains_key(&datastore)
    {
        return Err(Refusal::DatastoreUnreachable { datastore });
    }
    match (first, asked_for.next()) {
        (None, _) => Ok(()),
        (Some((_, only)), None) => fleet.room_for_one(host, wish, &only),
        (Some(_), Some(_)) => fleet.choose_disks(host, wish).map(drop),
    }
}

impl Fleet {
    /// The usual case: one disk, no list of candidates needed.
    fn room_for_one(&self, host: &Host, wish: &Wish<'_>, asked: &Asked<'_>) -> Result<(), Refusal> {
        let needed = asked.size;
        if let Some(datastore) = asked.fixed {
            let reached = host.facts.datastores.contains_key(&datastore);
            let Some(store) = self.datastore(datastore).filter(|_| reached) else {
                return Err(Refusal::DatastoreUnreachable { datastore });
            };
            if !suits(store, asked) {
                return Err(Refusal::NoSuchDatastore { disk: asked.name.to_owned() });
            }
            if !wish.matched.required.is_empty() {
                self.rule_against_datastore(store, wish)?;
            }
            let free = self.free_on_datastore(store);
            return if needed > free { Err(Refusal::DiskShort { needed, free }) } else { Ok(()) };
        }
        let mut most = None;
        for id in self.candidates(host, wish, asked)? {
            let free = self.datastore(id).map(|store| self.free_on_datastore(store));
            most = most.max(free);
        }
        let free = most.unwrap_or(Bytes::ZERO);
        if needed > free { Err(Refusal::DiskShort { needed, free }) } else { Ok(()) }
    }
}
