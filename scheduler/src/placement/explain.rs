//! Why there is no place: every host's first refusal, and what would help.
//!
//! Promises: counts of all hosts; they add up to the hosts that were asked. Does not: count what is
//! on its way; it speaks of the fleet that it is given.

use super::{Ask, relax};
use crate::fleet::Fleet;
use berth_model::Explanation;
use berth_model::reservation::Victim;
use std::borrow::Cow;

/// How many hosts each filter refused, the reasons of the first `hosts_max` of them, and the
/// smallest change that would let the request in. To be asked when no host passes.
pub fn explain(fleet: &Fleet, ask: &Ask<'_>, hosts_max: usize) -> Explanation {
    let taken_over = ask.instead_of.filter(|id| fleet.reservation(*id).is_some());
    let fleet = match taken_over {
        Some(id) => Cow::Owned(fleet.without(&[Victim::Reservation(id)])),
        None => Cow::Borrowed(fleet),
    };
    let matched = ask.matched(&fleet);
    let wish = ask.wish(&matched);
    let mut explanation = Explanation::default();
    for host in fleet.hosts() {
        if let Err(refusal) = fleet.admit(host, &wish) {
            explanation.considered += 1;
            *explanation.refused.entry(refusal.filter()).or_default() += 1;
            if explanation.hosts.len() < hosts_max {
                explanation.hosts.push((host.id, refusal));
            }
        }
    }
    explanation.relaxation = relax::smallest(&fleet, ask, &matched);
    explanation
}
