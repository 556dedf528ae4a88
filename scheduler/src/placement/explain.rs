//! Why there is no place: every host's first refusal, and what would help.
//!
//! Promises: counts of all hosts; they add up to the hosts that were asked. Does not: count what is
//! on its way; it speaks of the fleet that it is given.

use super::keeping::Keeping;
use super::{Ask, Load, datastore, relax};
use crate::fleet::Fleet;
use crate::fleet::rules::Matched;
use berth_model::explanation::{Refusal, Relaxation};
use berth_model::reservation::Victim;
use berth_model::{Explanation, Host};
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
    let mut keeping = match ask.load {
        Load::Now => Keeping::of(&fleet),
        Load::Ever => Keeping::default(),
    };
    let mut kept_from = 0_u32;
    for host in fleet.hosts() {
        let judged = fleet.admit(host, &wish).and_then(|()| {
            let judged = kept(&mut keeping, &fleet, host, ask, &matched);
            kept_from += u32::from(judged.is_err());
            judged
        });
        if let Err(refusal) = judged {
            explanation.considered += 1;
            *explanation.refused.entry(refusal.filter()).or_default() += 1;
            if explanation.hosts.len() < hosts_max {
                explanation.hosts.push((host.id, refusal));
            }
        }
    }
    explanation.relaxation = if kept_from > 0 {
        // Some host passes every filter but this one.
        Some(Relaxation::WithoutAdmission)
    } else {
        relax::smallest(&fleet, ask, &matched, !keeping.is_empty())
    };
    explanation
}

/// Whether what the host's cluster keeps for restarts would still be there.
fn kept(
    keeping: &mut Keeping,
    fleet: &Fleet,
    host: &Host,
    ask: &Ask<'_>,
    matched: &Matched,
) -> Result<(), Refusal> {
    if keeping.is_empty() {
        return Ok(());
    }
    let Some(chosen) = datastore::choose(fleet, host, ask, matched) else { return Ok(()) };
    let newcomer = ask.newcomer(host.facts.vm_overhead, chosen.delta, &chosen.disks);
    keeping.admit(fleet, host, &newcomer)
}
