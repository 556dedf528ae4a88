//! How many of those that a rule counts together stand in each bucket.
//!
//! Promises: `enter` and `leave` undo each other; an empty group equals a fresh one.

use super::Bucket;
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The counts of one rule and one value of its `each`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// All that the selector matches, in a bucket or in none. One with disks on two datastores
    /// counts once here and in both buckets.
    subjects: u32,
    /// All that the rule is near to or away from.
    peers: u32,
    /// How many buckets hold a peer.
    peer_buckets: u32,
    /// Without those that are empty.
    buckets: OrdMap<Bucket, Tally>,
    /// How many buckets hold how many subjects, ascending; none stands at zero.
    steps: BTreeMap<u32, u32>,
}

/// The counts of one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub subjects: u32,
    pub peers: u32,
    /// Subjects by their value of `unless_same`, where the rule has one.
    pub same: BTreeMap<Arc<str>, u32>,
}

impl Tally {
    fn is_empty(&self) -> bool {
        self.subjects == 0 && self.peers == 0
    }
}

/// As what one is counted, and under which value of `unless_same`.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    pub subject: bool,
    pub peer: bool,
    pub same: Option<&'a str>,
}

impl Group {
    pub fn subjects(&self) -> u32 {
        self.subjects
    }

    pub fn peers(&self) -> u32 {
        self.peers
    }

    pub fn is_empty(&self) -> bool {
        self.subjects == 0 && self.peers == 0
    }

    /// Whether any peer stands in a bucket: hosts may lack the rule's level.
    pub fn has_peer_in_bucket(&self) -> bool {
        self.peer_buckets > 0
    }

    pub fn tally(&self, bucket: Bucket) -> Option<&Tally> {
        self.buckets.get(&bucket)
    }

    pub fn subjects_in(&self, bucket: Bucket) -> u32 {
        self.tally(bucket).map_or(0, |tally| tally.subjects)
    }

    pub fn peers_in(&self, bucket: Bucket) -> u32 {
        self.tally(bucket).map_or(0, |tally| tally.peers)
    }

    /// Buckets that hold any, in the order of their bytes.
    pub fn buckets(&self) -> impl Iterator<Item = (Bucket, &Tally)> {
        self.buckets.iter().map(|(bucket, tally)| (*bucket, tally))
    }

    /// How many buckets hold a subject.
    pub fn occupied(&self) -> u32 {
        self.steps.values().sum()
    }

    /// The fewest subjects of any bucket that holds one.
    pub fn lowest(&self) -> Option<u32> {
        self.steps.first_key_value().map(|(count, _)| *count)
    }

    /// The most subjects of any bucket.
    pub fn highest(&self) -> u32 {
        self.steps.last_key_value().map_or(0, |(count, _)| *count)
    }

    /// One more, in these buckets, each named once.
    pub fn enter(&mut self, counted: Counted<'_>, buckets: &[Bucket]) {
        self.subjects += u32::from(counted.subject);
        self.peers += u32::from(counted.peer);
        for bucket in buckets {
            let tally = self.buckets.entry(*bucket).or_default();
            self.peer_buckets += u32::from(counted.peer && tally.peers == 0);
            tally.peers += u32::from(counted.peer);
            if !counted.subject {
                continue;
            }
            let before = tally.subjects;
            tally.subjects += 1;
            if let Some(value) = counted.same {
                match tally.same.get_mut(value) {
                    Some(count) => *count += 1,
                    None => drop(tally.same.insert(value.into(), 1)),
                }
            }
            self.step(before, before + 1);
        }
    }

    /// One that entered with the same arguments goes.
    pub fn leave(&mut self, counted: Counted<'_>, buckets: &[Bucket]) {
        self.subjects -= u32::from(counted.subject);
        self.peers -= u32::from(counted.peer);
        for bucket in buckets {
            let Some(tally) = self.buckets.get_mut(bucket) else { continue };
            tally.peers -= u32::from(counted.peer);
            self.peer_buckets -= u32::from(counted.peer && tally.peers == 0);
            let before = tally.subjects;
            if counted.subject {
                tally.subjects -= 1;
                let left = counted.same.and_then(|value| {
                    let count = tally.same.get_mut(value)?;
                    *count -= 1;
                    Some((value, *count))
                });
                if let Some((value, 0)) = left {
                    tally.same.remove(value);
                }
            }
            if tally.is_empty() {
                self.buckets.remove(bucket);
            }
            if counted.subject {
                self.step(before, before - 1);
            }
        }
    }

    /// One bucket went from one count of subjects to another.
    fn step(&mut self, from: u32, to: u32) {
        if from > 0
            && let Some(count) = self.steps.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                self.steps.remove(&from);
            }
        }
        if to > 0 {
            *self.steps.entry(to).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_in_two_buckets_counts_once() {
        let mut group = Group::default();
        let counted = Counted { subject: true, peer: false, same: Some("a") };
        let buckets = [Bucket([1; 16]), Bucket([2; 16])];
        group.enter(counted, &buckets);
        group.enter(counted, &buckets[..1]);
        assert_eq!((group.subjects(), group.occupied()), (2, 2));
        assert_eq!((group.lowest(), group.highest()), (Some(1), 2));
        assert_eq!(group.tally(buckets[0]).unwrap().same["a"], 2);
    }

    proptest! {
        #[test]
        fn what_enters_and_leaves_leaves_nothing(
            ones in prop::collection::vec(
                (any::<bool>(), any::<bool>(), any::<Option<bool>>(), 0..4_u8), 0..20,
            ),
        ) {
            let counted = |(subject, peer, same, _): &(bool, bool, Option<bool>, u8)| Counted {
                subject: *subject,
                peer: *peer,
                same: same.map(|same| if same { "a" } else { "b" }),
            };
            let mut group = Group::default();
            for one in &ones {
                group.enter(counted(one), &[Bucket([one.3; 16])]);
            }
            let most = group.buckets().map(|(_, tally)| tally.subjects).max().unwrap_or(0);
            prop_assert_eq!(group.highest(), most);
            for one in ones.iter().rev() {
                group.leave(counted(one), &[Bucket([one.3; 16])]);
            }
            prop_assert_eq!(group, Group::default());
        }
    }
}
