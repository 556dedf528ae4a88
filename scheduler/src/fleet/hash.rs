//! The state hash, kept while the state changes.
//!
//! Promises: it is the sum of the hashes of all objects, so taking one out and putting another in
//! costs as much as the two; two fleets that went different ways to the same state have the same
//! hash. `invariants` compares it with one made from nothing. Replicas compare it to find out that
//! they diverged; it withstands mistakes, not malice.
//!
//! What is kept as a sum of other objects (charges) is mixed in by its numbers, the rest by its
//! encoding. Hosts and reservations change most: they have short ways of their own. The mixing step
//! is a folded 64-bit multiplication, as in wyhash (Wang Yi, 2019).

use super::Fleet;
use berth_model::{
    Bytes, Cluster, ContainerVm, Datastore, Endpoint, Event, Held, Host, Image, PlacementWish,
    Reservation, Resources, Rule, Subject,
};
use berth_wire::codec;
use serde::Serialize;
use std::sync::Arc;

/// The sum over all objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Sum {
    pub fn add(&mut self, hash: u64) {
        self.0 = self.0.wrapping_add(hash);
    }

    pub fn take(&mut self, hash: u64) {
        self.0 = self.0.wrapping_sub(hash);
    }
}

/// Kinds keep objects of equal encoding apart.
#[derive(Clone, Copy)]
enum Kind {
    Cluster = 1,
    Endpoint,
    Host,
    HostCharge,
    Datastore,
    DatastoreCharge,
    Image,
    ContainerMade,
    ContainerState,
    Reservation,
    Wish,
    Rule,
    Event,
    Kept,
    State,
}

struct Mixer(u64);

impl Mixer {
    fn new(kind: Kind) -> Self {
        Self(fold(kind as u64 ^ 0x9e37_79b9_7f4a_7c15, 0xa076_1d64_78bd_642f))
    }

    fn number(mut self, number: u64) -> Self {
        self.0 = fold(self.0 ^ number, 0xe703_7ed1_a0b4_28db);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self = self.number(u64::from_le_bytes(word));
        }
        self.number(bytes.len() as u64)
    }

    fn id(self, id: &[u8; 16]) -> Self {
        let (low, high) = id.split_at(8);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap_or_default());
        self.number(word(low)).number(word(high))
    }

    fn optional(self, number: Option<u64>) -> Self {
        match number {
            None => self.number(0),
            Some(number) => self.number(1).number(number),
        }
    }

    fn end(self) -> u64 {
        fold(self.0, 0x8ebc_6af0_9c88_c6e3)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x5895_0f15_97d1_3a6b) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

fn encoded(kind: Kind, value: &impl Serialize) -> u64 {
    Mixer::new(kind).bytes(&codec::encode(value)).end()
}

pub(super) fn cluster(cluster: &Cluster) -> u64 {
    encoded(Kind::Cluster, cluster)
}

pub(super) fn endpoint(endpoint: &Endpoint) -> u64 {
    encoded(Kind::Endpoint, endpoint)
}

/// Without what is charged, see [`host_charge`].
pub(super) fn host(host: &Host) -> u64 {
    let bare = Host {
        charged: Resources::default(),
        held: Held::default(),
        placed: 0,
        ..Host::clone(host)
    };
    encoded(Kind::Host, &bare)
}

pub(super) fn host_charge(host: &Host) -> u64 {
    let mixer = Mixer::new(Kind::HostCharge)
        .id(host.id.as_bytes())
        .number(host.charged.cpu.0)
        .number(host.charged.memory.0)
        .number(host.placed.into())
        .number(host.held.reserved.0);
    let bound = host.held.numa.iter();
    bound.fold(mixer, |mixer, bound| mixer.number(bound.cpu.0).number(bound.memory.0)).end()
}

/// Without what is charged, see [`datastore_charge`], and without its hosts: that they reach it
/// stands in their facts, and there may be thousands.
pub(super) fn datastore(datastore: &Datastore) -> u64 {
    let bare =
        Datastore { charged: Bytes::ZERO, hosts: Arc::default(), ..Datastore::clone(datastore) };
    encoded(Kind::Datastore, &bare)
}

pub(super) fn datastore_charge(datastore: &Datastore) -> u64 {
    Mixer::new(Kind::DatastoreCharge).id(datastore.id.as_bytes()).number(datastore.charged.0).end()
}

pub(super) fn image(image: &Image) -> u64 {
    encoded(Kind::Image, image)
}

/// What a container VM was made with; it never changes.
pub(super) fn container_made(vm: &ContainerVm) -> u64 {
    let meta = &vm.meta;
    encoded(
        Kind::ContainerMade,
        &(&vm.id, &vm.name, &vm.spec, meta.endpoint, meta.created, meta.created_at, &meta.labels),
    )
}

pub(super) fn container_state(vm: &ContainerVm) -> u64 {
    encoded(
        Kind::ContainerState,
        &(
            &vm.id,
            &vm.state,
            vm.epoch,
            vm.datastore,
            vm.last_host,
            vm.numa,
            vm.reservation,
            vm.displaced,
            vm.meta.modified,
        ),
    )
}

pub(super) fn wish(wish: &PlacementWish) -> u64 {
    encoded(Kind::Wish, wish)
}

/// `wish` is the hash of its wish: many reservations share one.
pub(super) fn reservation(held: &Reservation, wish: u64) -> u64 {
    let place = &held.place;
    let zero = [0; 16];
    let mut mixer = Mixer::new(Kind::Reservation)
        .id(held.id.as_bytes())
        .number(wish)
        .id(held.gang.as_ref().map_or(&zero, |gang| gang.as_bytes()))
        .id(place.host.as_bytes())
        .number(place.numa.0.into())
        .number(u64::from(place.delta.is_some()))
        .id(place.delta.as_ref().map_or(&zero, |delta| delta.as_bytes()));
    for disk in &place.disks {
        mixer = mixer.id(disk.as_bytes());
    }
    mixer
        .number(held.charge.cpu.0)
        .number(held.charge.memory.0)
        .optional(held.expires_at.map(|at| at.0))
        .id(held.meta.endpoint.as_bytes())
        .number(held.meta.created)
        .number(held.meta.modified)
        .number(held.meta.created_at.0)
        .end()
}

pub(super) fn rule(rule: &Rule) -> u64 {
    encoded(Kind::Rule, rule)
}

pub(super) fn event(event: &Event) -> u64 {
    let mixer = Mixer::new(Kind::Event)
        .number(event.index)
        .number(event.at.0)
        .id(event.endpoint.as_bytes());
    let mixer = match &event.subject {
        Subject::Cluster(id) => mixer.id(id.as_bytes()),
        Subject::Host(id) => mixer.id(id.as_bytes()),
        Subject::Datastore(id) => mixer.id(id.as_bytes()),
        Subject::Endpoint(id) => mixer.id(id.as_bytes()),
        Subject::Image(id) => mixer.bytes(id.as_bytes()),
        Subject::ContainerVm(id) => mixer.bytes(id.as_bytes()),
        Subject::Reservation(id) => mixer.id(id.as_bytes()),
        Subject::Rule(id) => mixer.id(id.as_bytes()),
    };
    mixer.number(super::events::code(event.what)).end()
}

/// Of an entry that is kept for a while: idempotency keys, ends of container VMs.
pub(super) fn kept(entry: &impl Serialize) -> u64 {
    encoded(Kind::Kept, entry)
}

impl Fleet {
    /// Equal on all replicas at one index; costs the same whatever the fleet's size.
    pub fn state_hash(&self) -> u64 {
        let cell = self.cell.map(|cell| *cell.as_bytes()).unwrap_or_default();
        Mixer::new(Kind::State)
            .number(self.index)
            .number(self.time.0)
            .id(&cell)
            .number(self.incarnation.0.into())
            .number(self.hash.0)
            .number(self.keys.hash().0)
            .number(self.departed.hash().0)
            .number(self.events.hash().0)
            .number(self.events.dropped())
            .end()
    }

    /// The sum from nothing.
    pub(super) fn fresh_hash(&self) -> Sum {
        let mut sum = Sum::default();
        self.clusters().for_each(|one| sum.add(cluster(one)));
        self.endpoints().for_each(|one| sum.add(endpoint(one)));
        for one in self.hosts() {
            sum.add(host(one));
            sum.add(host_charge(one));
        }
        for one in self.datastores() {
            sum.add(datastore(one));
            sum.add(datastore_charge(one));
        }
        self.images.values().for_each(|one| sum.add(image(one)));
        for one in self.containers() {
            sum.add(container_made(one));
            sum.add(container_state(one));
        }
        self.reservations().for_each(|one| sum.add(reservation(one, wish(&one.wish))));
        self.rules().for_each(|one| sum.add(rule(one)));
        sum
    }
}
