//! Admission control by slots: hosts are cut into slots of one size, and as many stay free as the
//! largest hosts have.
//!
//! With a fixed size, a VM takes as many slots as it needs in its larger dimension; with the
//! largest demand as size, each VM takes one, and one big VM makes few slots.
//!
//! Promises: O(log n) a change and O(hosts kept) a question; where the largest demand itself
//! changes, hosts are cut again, O(n). Does not: know which host a slot is on; a VM of several
//! slots may find them scattered. [`super::Failover`] knows.
//!
//! Source: the slot policy of vSphere HA.

use std::collections::BTreeMap;

use super::Slot;
use super::room::Room;
use super::shortfall::Shortfall;

/// How large a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotSize {
    /// This; a dimension of zero takes no part.
    Fixed(Room),
    /// The largest demand of any VM, each dimension by itself.
    LargestDemand,
}

/// Hosts and VMs of a cluster, counted in slots.
#[derive(Clone, Debug)]
pub struct SlotPolicy {
    size: SlotSize,
    /// How many of the largest hosts may fail.
    tolerated: u32,
    /// What hosts offer that may receive; their slots are counted in `cut`.
    hosts: BTreeMap<Slot, Room>,
    cut: Cut,
    /// How many VMs ask for how much, by dimension; these give the largest demand.
    cpu: BTreeMap<u64, u32>,
    memory: BTreeMap<u64, u32>,
    /// Slots taken.
    used: u64,
}

/// The hosts in slots of one size.
#[derive(Clone, Debug, Default)]
struct Cut {
    size: Room,
    total: u64,
    /// How many hosts have how many slots.
    hosts: BTreeMap<u64, u32>,
}

impl Cut {
    fn of(hosts: &BTreeMap<Slot, Room>, size: Room) -> Self {
        let mut cut = Self { size, ..Self::default() };
        for room in hosts.values() {
            cut.add(*room);
        }
        cut
    }

    fn add(&mut self, room: Room) {
        let slots = slots_of(room, self.size);
        self.total = self.total.saturating_add(slots);
        *self.hosts.entry(slots).or_default() += 1;
    }

    fn take(&mut self, room: Room) {
        let slots = slots_of(room, self.size);
        self.total -= slots.min(self.total);
        leave(&mut self.hosts, slots);
    }

    /// The slots of the largest `count` hosts.
    fn largest(&self, count: u32) -> u64 {
        let (mut left, mut sum) = (count, 0u64);
        for (slots, hosts) in self.hosts.iter().rev() {
            let taken = left.min(*hosts);
            sum = sum.saturating_add(slots.saturating_mul(u64::from(taken)));
            left -= taken;
            if left == 0 {
                break;
            }
        }
        sum
    }
}

impl SlotPolicy {
    #[must_use]
    pub fn new(size: SlotSize, tolerated: u32) -> Self {
        let fixed = match size {
            SlotSize::Fixed(size) => size,
            SlotSize::LargestDemand => Room::NONE,
        };
        Self {
            size,
            tolerated,
            hosts: BTreeMap::new(),
            cut: Cut { size: fixed, ..Cut::default() },
            cpu: BTreeMap::new(),
            memory: BTreeMap::new(),
            used: 0,
        }
    }

    /// What a host offers; nothing for one that left or receives no restarts.
    pub fn set_host(&mut self, slot: Slot, room: Option<Room>) {
        let before = match room {
            Some(room) => self.hosts.insert(slot, room),
            None => self.hosts.remove(&slot),
        };
        if let Some(before) = before {
            self.cut.take(before);
        }
        if let Some(room) = room {
            self.cut.add(room);
        }
    }

    pub fn place(&mut self, demand: Room) {
        self.used = self.used.saturating_add(self.taken(demand));
        *self.cpu.entry(demand.cpu).or_default() += 1;
        *self.memory.entry(demand.memory).or_default() += 1;
        self.cut_again();
    }

    pub fn remove(&mut self, demand: Room) {
        self.used = self.used.saturating_sub(self.taken(demand));
        leave(&mut self.cpu, demand.cpu);
        leave(&mut self.memory, demand.memory);
        self.cut_again();
    }

    /// Whether enough slots would be free with one VM more.
    ///
    /// # Errors
    /// How many are kept, and for what.
    pub fn would_hold(&self, demand: Room) -> Result<(), Shortfall> {
        let used = self.used.saturating_add(self.taken(demand));
        match self.size {
            SlotSize::LargestDemand if !self.cut.size.covers(demand) => {
                self.judge(&Cut::of(&self.hosts, self.cut.size.widest(demand)), used)
            }
            SlotSize::LargestDemand | SlotSize::Fixed(_) => self.judge(&self.cut, used),
        }
    }

    /// Whether enough slots are free.
    ///
    /// # Errors
    /// As [`SlotPolicy::would_hold`].
    pub fn holds(&self) -> Result<(), Shortfall> {
        self.judge(&self.cut, self.used)
    }

    fn judge(&self, cut: &Cut, used: u64) -> Result<(), Shortfall> {
        let kept = cut.largest(self.tolerated);
        if used <= cut.total.saturating_sub(kept) {
            return Ok(());
        }
        let (hosts, size, total) = (self.tolerated, cut.size, cut.total);
        Err(Shortfall::Slots { hosts, kept, size, total, used })
    }

    fn taken(&self, demand: Room) -> u64 {
        match self.size {
            SlotSize::LargestDemand => 1,
            SlotSize::Fixed(size) => {
                let cpu = slots_for(demand.cpu, size.cpu);
                cpu.max(slots_for(demand.memory, size.memory)).max(1)
            }
        }
    }

    fn cut_again(&mut self) {
        let largest = |demands: &BTreeMap<u64, u32>| demands.keys().next_back().copied();
        let size = match self.size {
            SlotSize::Fixed(_) => return,
            SlotSize::LargestDemand => Room {
                cpu: largest(&self.cpu).unwrap_or(0),
                memory: largest(&self.memory).unwrap_or(0),
            },
        };
        if size != self.cut.size {
            self.cut = Cut::of(&self.hosts, size);
        }
    }
}

/// How many slots cover a demand in one dimension; a size of zero takes no part.
fn slots_for(demand: u64, size: u64) -> u64 {
    if size == 0 { 0 } else { demand.div_ceil(size) }
}

/// How many slots a host has; in an empty cluster, whose slots have no size, none are needed.
fn slots_of(room: Room, size: Room) -> u64 {
    let cpu = room.cpu.checked_div(size.cpu);
    let memory = room.memory.checked_div(size.memory);
    cpu.into_iter().chain(memory).min().unwrap_or(0)
}

fn leave(counts: &mut BTreeMap<u64, u32>, key: u64) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_hosts(size: SlotSize) -> SlotPolicy {
        let mut policy = SlotPolicy::new(size, 1);
        policy.set_host(0, Some(Room::new(9_000, 9)));
        policy.set_host(1, Some(Room::new(9_000, 6)));
        policy.set_host(2, Some(Room::new(6_000, 6)));
        policy
    }

    /// The worked example of the vSphere availability guide: slots of 2 cores and 2 GB, hosts of
    /// 4, 3 and 3 slots, and six left after the largest fails.
    #[test]
    fn the_largest_demand_cuts_the_hosts_and_the_largest_host_is_kept() {
        let mut policy = three_hosts(SlotSize::LargestDemand);
        for (cpu, memory) in [(2_000, 1), (2_000, 1), (1_000, 2), (1_000, 1), (1_000, 1)] {
            policy.place(Room::new(cpu, memory));
        }
        assert_eq!(policy.would_hold(Room::new(1_000, 1)), Ok(()));
        policy.place(Room::new(1_000, 1));
        let refusal = policy.would_hold(Room::new(1, 1)).expect_err("the seventh of six slots");
        let size = Room::new(2_000, 2);
        assert_eq!(refusal, Shortfall::Slots { hosts: 1, kept: 4, size, total: 10, used: 7 });
        assert!(policy.would_hold(Room::new(3_000, 1)).is_err(), "larger slots are fewer");
        policy.remove(Room::new(1_000, 2));
        assert_eq!(policy.would_hold(Room::new(1, 1)), Ok(()), "smaller slots are more");
    }

    #[test]
    fn with_a_fixed_size_a_big_vm_takes_several_slots() {
        let mut policy = three_hosts(SlotSize::Fixed(Room::new(1_000, 1)));
        policy.place(Room::new(2_500, 1));
        policy.place(Room::new(500, 7));
        assert_eq!(policy.would_hold(Room::new(1_000, 2)), Ok(()), "12 of 21 less 9");
        assert!(policy.would_hold(Room::new(1_000, 3)).is_err());
        policy.set_host(0, None);
        assert!(policy.holds().is_err(), "10 taken, 6 are left when one of 6 is kept");
        policy.remove(Room::new(500, 7));
        assert_eq!(policy.holds(), Ok(()));
    }

    #[test]
    fn a_big_vm_that_left_makes_the_slots_what_they_were() {
        let mut policy = three_hosts(SlotSize::LargestDemand);
        policy.place(Room::new(1_000, 1));
        let before = format!("{policy:?}");
        policy.place(Room::new(4_000, 4));
        policy.remove(Room::new(4_000, 4));
        assert_eq!(format!("{policy:?}"), before);
    }
}
