//! A dense mirror of a fleet that answers like the plain scan, in about a microsecond.
//!
//! ```text
//!  fleet ──diff──► rows (hosts, datastores) ──journal──► class of a shape: tree of keys ──► least
//!                   ▲                                        rules, quotas: checks in the search
//!  take ── ticket ──┘
//! ```
//!
//! - [`dense`]: what decides of hosts and datastores, in rows; hosts are the leaves of [`layout`].
//! - [`shape`], [`class`]: requests that differ in nothing that matters share a tree of scores.
//!   Whoever asks catches up with what changed since it asked last, so a shape that nobody asks for
//!   costs nothing.
//! - [`checks`]: what depends on counts (rules, quotas, what a cluster keeps) is asked while
//!   searching the tree, by branch and bound: exact, and a whole fault domain at once.
//! - [`keeping`](super::keeping): restart plans and slots, asked last, of hosts that would win.
//! - [`tickets`]: decisions on their way count until they are settled and the next fleet shows.
//!
//! Promises: [`Mirror::decide`] gives what `scan::decide` gives on the fleet with every ticket
//! applied (held by property tests). Does not: change the fleet, nor answer for it: apply checks
//! every decision again.

mod checks;
mod class;
mod decide;
mod dense;
mod gates;
mod journal;
mod layout;
mod numa;
mod shape;
mod stores;
mod sync;
mod take;
mod tickets;
mod tree;
mod views;

pub use tickets::Ticket;

use super::keeping::Keeping;
use super::{Ask, Guides};
use crate::fleet::Fleet;
use crate::fleet::rules::Matched;
use berth_model::{EndpointId, HostId, Rule};
use class::Classes;
use dense::Dense;
use journal::Journal;
use std::collections::BTreeMap;
use std::sync::Arc;
use tickets::Tickets;
use views::Views;

/// See the module.
#[derive(Debug)]
pub struct Mirror {
    fleet: Arc<Fleet>,
    /// Hosts came, went or moved, or policies changed: all is made anew before the next decision.
    stale: bool,
    /// The fleet's.
    rules: Vec<Arc<Rule>>,
    guides: Guides,
    /// Placed since the guides were learned, and placed by then.
    arrivals: u64,
    learned_at: u64,
    dense: Dense,
    hosts: Journal,
    stores: Journal,
    classes: Classes,
    views: Views,
    tickets: Tickets,
    /// What clusters keep for the loss of hosts.
    keeping: Keeping,
    /// The rules that speak of the last request, and whose it was: the next is most often alike.
    matched: (EndpointId, BTreeMap<String, String>, Arc<Matched>),
    /// The host of the last decision and its leaf: it is most often taken next.
    latest: (HostId, usize),
    /// With every ticket applied; made when first needed.
    foreseen: Option<Arc<Fleet>>,
}

impl Mirror {
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let guides = Guides::learn(&fleet);
        Mirror {
            dense: Dense::default(),
            fleet,
            stale: true,
            rules: Vec::new(),
            guides,
            arrivals: 0,
            learned_at: 0,
            hosts: Journal::default(),
            stores: Journal::default(),
            classes: Classes::default(),
            views: Views::default(),
            tickets: Tickets::default(),
            keeping: Keeping::default(),
            matched: (EndpointId::SYSTEM, BTreeMap::new(), Arc::default()),
            latest: (HostId::from_bytes([0; 16]), usize::MAX),
            foreseen: None,
        }
    }

    /// The fleet that it follows.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// The rules that speak of a request.
    fn matched(&mut self, ask: &Ask<'_>) -> Arc<Matched> {
        let (endpoint, labels, matched) = &self.matched;
        if *endpoint == ask.endpoint && labels == ask.labels {
            return Arc::clone(matched);
        }
        let matched = Arc::new(ask.matched(&self.fleet));
        self.matched = (ask.endpoint, ask.labels.clone(), Arc::clone(&matched));
        matched
    }

    /// Forgets which rules spoke of the last request: they may be others now.
    fn match_again(&mut self) {
        let matched = self.fleet.matched(EndpointId::SYSTEM, &BTreeMap::new());
        self.matched = (EndpointId::SYSTEM, BTreeMap::new(), Arc::new(matched));
    }

    /// What packing has learned; the plain scan takes it too.
    pub fn guides(&self) -> &Guides {
        &self.guides
    }
}
