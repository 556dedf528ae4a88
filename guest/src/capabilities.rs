//! What root in the container may do.

use crate::trouble::{Trouble, While as _};
use berth_model::guest::{CAPABILITY_NAMES, Capabilities};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
};

/// Takes everything but `allowed` from the bounding set: no later exec can regain it. Needs
/// SETPCAP, so it comes before [`restrict`].
pub fn bound(allowed: Capabilities) -> Result<(), Trouble> {
    for (number, name) in CAPABILITY_NAMES.iter().enumerate() {
        let one = Capabilities(1 << number);
        if !allowed.contains(one) {
            remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(one.0))
                .during(|| format!("drop capability {name}"))?;
        }
    }
    Ok(())
}

/// Leaves the present process only `allowed`. For a process that stays root; another user's are
/// gone when it is set.
pub fn restrict(allowed: Capabilities) -> Result<(), Trouble> {
    let allowed = CapabilitySet::from_bits_retain(allowed.0);
    let sets = CapabilitySets {
        effective: allowed,
        permitted: allowed,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).during(|| "set capabilities")
}
