//! VM requests of one region of a public cloud, with when they came and how long they lived.
//!
//! Columns: `arrive_s, batch, vcpu, mem_gib, life_lo_s, life_hi_s, censored`. A batch is one
//! tenant's simultaneous request. The life is a bin of seconds; what was censored was still alive
//! when the observation ended.
//!
//! Reading: a VM lives for the middle of its bin, one that was censored for ever.

use super::TraceError;
use super::columns::{Row, Table};
use berth_model::{Bytes, Demand, MilliCpus, Resources};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

#[derive(Clone, Debug)]
pub struct Azure {
    /// In the order of arrival.
    pub requests: Vec<Request>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub arrives: u64,
    pub batch: u64,
    pub size: Resources,
    /// Seconds; `None` for ever.
    pub lives: Option<u64>,
}

/// What happens in a trace, in order. Positions are those of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Leaves(usize),
    Arrives(usize),
}

const COLUMNS: [&str; 7] =
    ["arrive_s", "batch", "vcpu", "mem_gib", "life_lo_s", "life_hi_s", "censored"];

impl Azure {
    pub fn read(path: &Path) -> Result<Azure, TraceError> {
        let mut requests = Table::open(path, &COLUMNS)?.rows(|row| Request::read(&row))?;
        requests.sort_by_key(|request| request.arrives);
        Ok(Azure { requests })
    }

    /// Arrivals and departures by time. At one instant, what ends leaves before anything comes;
    /// what lives for no time leaves before the next one comes.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::with_capacity(self.requests.len() * 2);
        let mut ends = BinaryHeap::new();
        for (position, request) in self.requests.iter().enumerate() {
            while let Some(Reverse((at, leaving))) = ends.peek().copied()
                && at <= request.arrives
            {
                ends.pop();
                events.push(Event::Leaves(leaving));
            }
            events.push(Event::Arrives(position));
            if let Some(lives) = request.lives {
                ends.push(Reverse((request.arrives.saturating_add(lives), position)));
            }
        }
        // What leaves after the last arrival changes nothing that anyone asks about.
        events
    }

    /// Those of the first `count` requests that are alive once all of these have come, in the
    /// order of arrival.
    pub fn alive_after(&self, count: usize) -> Vec<Request> {
        let first = &self.requests[..count.min(self.requests.len())];
        let Some(last) = first.last() else { return Vec::new() };
        let alive = |request: &&Request| {
            request.lives.is_none_or(|lives| request.arrives.saturating_add(lives) > last.arrives)
        };
        first.iter().filter(alive).copied().collect()
    }
}

impl Request {
    fn read(row: &Row<'_>) -> Result<Request, TraceError> {
        let cpus: u32 = row.number(2)?;
        let (least, most): (u64, u64) = (row.number(4)?, row.number(5)?);
        let lives = match row.text(6) {
            "0" => Some(least.midpoint(most)),
            "1" => None,
            _ => return Err(row.not(6, "0 or 1")),
        };
        Ok(Request {
            arrives: row.number(0)?,
            batch: row.number(1)?,
            size: Resources { cpu: MilliCpus::whole(cpus.into()), memory: row.gib(3)? },
            lives,
        })
    }

    pub fn demand(&self) -> Demand {
        demand(self.size)
    }
}

/// A whole machine of this size: no class is chosen for it.
pub fn demand(size: Resources) -> Demand {
    let memory = Bytes(size.memory.0.max(1));
    Demand { cpu: size.cpu, memory, machine_memory: Some(memory), ..Demand::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt() -> Azure {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/azure-excerpt.csv");
        Azure::read(Path::new(path)).unwrap()
    }

    #[test]
    fn the_excerpt_reads_as_it_is_written() {
        let azure = excerpt();
        assert_eq!(azure.requests.len(), 200);
        let first = azure.requests[0];
        assert_eq!(first.size, Resources { cpu: MilliCpus(8000), memory: Bytes::gib(14) });
        assert_eq!((first.arrives, first.lives), (1_800_000, Some(300)));
        assert!(azure.requests.iter().any(|request| request.lives.is_none()));
    }

    #[test]
    fn everything_comes_once_and_leaves_after_it_came() {
        let azure = excerpt();
        let events = azure.events();
        let mut here = vec![false; azure.requests.len()];
        for event in &events {
            match event {
                Event::Arrives(position) => here[*position] = true,
                Event::Leaves(position) => assert!(std::mem::take(&mut here[*position])),
            }
        }
        let arrivals = events.iter().filter(|event| matches!(event, Event::Arrives(_))).count();
        assert_eq!(arrivals, azure.requests.len());
    }

    #[test]
    fn the_alive_are_those_whose_end_has_not_come() {
        let one = |arrives, lives| Request {
            arrives,
            batch: 0,
            size: Resources { cpu: MilliCpus(1000), memory: Bytes::gib(1) },
            lives,
        };
        let azure =
            Azure { requests: vec![one(0, Some(5)), one(0, Some(6)), one(5, None), one(9, None)] };
        let alive: Vec<_> = azure.alive_after(3).iter().map(|request| request.lives).collect();
        assert_eq!(alive, [Some(6), None]);
        let gone = azure.events().iter().filter(|event| matches!(event, Event::Leaves(_))).count();
        assert_eq!(gone, 2);
    }
}
