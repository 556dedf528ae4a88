//! Admission control by dedicated hosts: some take nothing but restarts, and what runs on any other
//! host must find a place when that host fails.
//!
//! Restarts try the dedicated hosts first and then all others, and the promise is the exact one of
//! [`Failover`] for one loss. The dedicated hosts themselves do not count: nothing runs there until
//! a failure has been dealt with, and then only what waits to move back.
//!
//! Promises: O(log n) for the refusal of a dedicated host; otherwise as [`Failover`]. Does not:
//! choose the hosts.
//!
//! Source: the "dedicated failover hosts" policy of vSphere HA, which keeps the hosts but does not
//! check that they suffice.

use std::collections::BTreeSet;

use super::shortfall::Shortfall;
use super::{Failover, Handle, Host, Slot, Tolerance, Vm};

/// Which hosts are kept for restarts, and whether they suffice.
#[derive(Clone, Debug)]
pub struct Dedicated {
    kept: BTreeSet<Slot>,
    failover: Failover,
}

impl Dedicated {
    /// Hosts by slot, and which of them are kept; `standby` and, of those kept, `counted` of the
    /// hosts are overruled.
    #[must_use]
    pub fn new(hosts: &[Host], kept: BTreeSet<Slot>) -> Self {
        let numbered = hosts.iter().zip(0..);
        let hosts: Vec<Host> = numbered.map(|(host, slot)| overruled(*host, &kept, slot)).collect();
        Self { failover: Failover::new(&hosts, Tolerance::One), kept }
    }

    /// Whether the host takes placements at all.
    ///
    /// # Errors
    /// When it is kept for restarts.
    pub fn admits(&self, slot: Slot) -> Result<(), Shortfall> {
        if self.kept.contains(&slot) { Err(Shortfall::Dedicated { slot }) } else { Ok(()) }
    }

    /// Whether the VM may run there: not a kept host, and every other host's loss stays covered.
    ///
    /// # Errors
    /// The kept host, or the loss that would not be covered.
    ///
    /// # Panics
    /// As [`Failover::would_hold`].
    pub fn would_hold(&mut self, handle: Handle, vm: &Vm, slot: Slot) -> Result<(), Shortfall> {
        self.admits(slot)?;
        self.failover.would_hold(handle, vm, slot)
    }

    /// Records what a host has and does now.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn set_host(&mut self, slot: Slot, host: Host) {
        self.failover.set_host(slot, overruled(host, &self.kept, slot));
    }

    /// The plans behind it, to record VMs, classes and groups.
    pub fn failover(&mut self) -> &mut Failover {
        &mut self.failover
    }
}

fn overruled(host: Host, kept: &BTreeSet<Slot>, slot: Slot) -> Host {
    let dedicated = kept.contains(&slot);
    Host { standby: dedicated, counted: host.counted && !dedicated, ..host }
}

#[cfg(test)]
mod tests {
    use super::super::{ANY_HOST, Room};
    use super::*;

    fn vm(cpu: u64) -> Vm {
        Vm {
            demand: Room::new(cpu, 1),
            priority: 0,
            hash: cpu << 50,
            class: ANY_HOST,
            groups: Box::new([]),
        }
    }

    #[test]
    fn a_dedicated_host_takes_only_restarts_and_takes_them_first() {
        let limit = Room::new(10, 100);
        let host = Host { limit, receives: true, counted: true, standby: false };
        let mut policy = Dedicated::new(&[host; 3], BTreeSet::from([1]));
        let refusal = policy.would_hold(7, &vm(5), 1).expect_err("kept");
        assert_eq!(refusal, Shortfall::Dedicated { slot: 1 });
        assert_eq!(policy.would_hold(7, &vm(5), 0), Ok(()));
        policy.failover().place(7, vm(5), 0);
        policy.failover().place(8, vm(4), 0);
        assert_eq!(policy.failover().restart_plan(&[0]), [(7, Some(1)), (8, Some(1))]);
        policy.failover().place(9, vm(10), 2);
        assert_eq!(policy.failover().holds(), Ok(()), "each host fits on the dedicated one");
        policy.set_host(1, Host { limit: Room::new(8, 100), ..host });
        let refusal = policy.failover().holds().expect_err("ten fit on no other host");
        let Shortfall::Loss { lost, vm, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!((lost.as_slice(), *vm), ([2].as_slice(), 9));
    }
}
