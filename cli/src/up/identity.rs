//! Who the members of a cell are, kept in `<state>/identity.json` so that a cell comes back as
//! itself. Ports, addresses and isolation are not here: they may differ from one `up` to the next.

use super::mark::replace_file;
use super::ports::MEMBERS_MAX;
use anyhow::{Context, Result, bail};
use berth_model::{CellId, HostId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    format: u32,
    pub cell: CellId,
    pub replicas: u16,
    /// Names; each has one shared datastore.
    pub clusters: Vec<String>,
    pub hosts: Vec<HostIdentity>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostIdentity {
    /// Counted from 1.
    pub number: u16,
    pub id: HostId,
    pub name: String,
    pub cluster: String,
}

/// How large the cell is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub replicas: u16,
    pub hosts: u16,
    pub clusters: Vec<String>,
}

impl Wanted {
    fn validate(&self) -> Result<()> {
        if self.replicas == 0 || self.replicas > MEMBERS_MAX || self.replicas.is_multiple_of(2) {
            bail!("--replicas must be an odd number from 1 to {MEMBERS_MAX}");
        }
        if self.hosts == 0 || self.hosts > MEMBERS_MAX {
            bail!("--hosts must lie in 1 to {MEMBERS_MAX}");
        }
        for (position, name) in self.clusters.iter().enumerate() {
            if !is_name(name) || self.clusters[..position].contains(name) {
                bail!("--cluster {name}: use each name once, of small letters, digits and dashes");
            }
        }
        if self.clusters.is_empty() || self.clusters.len() > usize::from(self.hosts) {
            bail!("--cluster: every cluster needs a host; raise --hosts or name fewer clusters");
        }
        Ok(())
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("identity.json")
}

/// Small letters, digits and dashes, a letter first, up to 32.
pub fn is_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Identity {
    /// The identity kept in `state`, grown to what is wanted; a new one if none is kept. It is kept
    /// only by [`Self::save`].
    ///
    /// Hosts can be added by a later `up`, for nothing but their number counts. Replicas cannot be
    /// changed and hosts not be dropped this way: the log knows them.
    pub fn load_or_create(state: &Path, wanted: &Wanted) -> Result<Identity> {
        wanted.validate()?;
        let path = path(state);
        let mut identity = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes).with_context(|| {
                format!("{} is damaged; restore it or choose another --state", path.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(wanted),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        identity.require_fits(wanted)?;
        identity.add_hosts(wanted.hosts);
        Ok(identity)
    }

    pub fn save(&self, state: &Path) -> Result<()> {
        replace_file(&path(state), serde_json::to_string_pretty(self)?.as_bytes())
    }

    fn require_fits(&self, wanted: &Wanted) -> Result<()> {
        if self.replicas != wanted.replicas {
            bail!(
                "the cell in this state directory has {} replicas; give --replicas {0} or another \
                 --state",
                self.replicas
            );
        }
        if self.hosts.len() > usize::from(wanted.hosts) {
            bail!(
                "the cell in this state directory has {} hosts; give --hosts {0} or more, or \
                 another --state",
                self.hosts.len()
            );
        }
        if wanted.clusters != self.clusters {
            bail!(
                "the cell in this state directory has the clusters {}; name the same, or another \
                 --state",
                self.clusters.join(", ")
            );
        }
        Ok(())
    }

    /// Hosts are dealt to the clusters in turn.
    fn add_hosts(&mut self, hosts: u16) {
        let random = &mut rand::rng();
        for number in self.hosts.len() as u16 + 1..=hosts {
            let cluster = usize::from(number - 1) % self.clusters.len();
            self.hosts.push(HostIdentity {
                number,
                id: HostId::random(random),
                name: format!("h{number}"),
                cluster: self.clusters[cluster].clone(),
            });
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Identity> {
    let identity: Identity = serde_json::from_slice(bytes)?;
    if identity.format != FORMAT {
        bail!("its format is {}, this build knows {FORMAT}", identity.format);
    }
    Ok(identity)
}

fn create(wanted: &Wanted) -> Identity {
    Identity {
        format: FORMAT,
        cell: CellId::random(&mut rand::rng()),
        replicas: wanted.replicas,
        clusters: wanted.clusters.clone(),
        hosts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(replicas: u16, hosts: u16, clusters: &[&str]) -> Wanted {
        let clusters = clusters.iter().map(|&name| name.to_owned()).collect();
        Wanted { replicas, hosts, clusters }
    }

    #[test]
    fn a_cell_comes_back_as_itself_and_grows_by_hosts() {
        let state = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(state.path(), &wanted(3, 2, &["default"])).unwrap();
        first.save(state.path()).unwrap();
        let again = Identity::load_or_create(state.path(), &wanted(3, 2, &["default"])).unwrap();
        assert_eq!(first, again);
        let grown = Identity::load_or_create(state.path(), &wanted(3, 4, &["default"])).unwrap();
        assert_eq!(grown.hosts[..2], first.hosts[..]);
        assert_eq!(grown.hosts.len(), 4);
    }

    #[test]
    fn a_cell_of_another_shape_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(state.path(), &wanted(3, 3, &["default"])).unwrap();
        first.save(state.path()).unwrap();
        for other in [wanted(1, 3, &["default"]), wanted(3, 2, &["default"]), wanted(3, 3, &["a"])]
        {
            Identity::load_or_create(state.path(), &other).unwrap_err();
        }
    }

    #[test]
    fn hosts_are_dealt_to_the_clusters_in_turn() {
        let state = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(state.path(), &wanted(1, 3, &["a", "b"])).unwrap();
        let clusters: Vec<&str> = identity.hosts.iter().map(|host| host.cluster.as_str()).collect();
        assert_eq!(clusters, ["a", "b", "a"]);
    }

    #[test]
    fn sizes_that_cannot_work_are_refused() {
        let state = tempfile::tempdir().unwrap();
        for bad in [
            wanted(2, 3, &["a"]),
            wanted(0, 3, &["a"]),
            wanted(3, 0, &["a"]),
            wanted(3, 10, &["a"]),
            wanted(3, 1, &["a", "b"]),
            wanted(3, 3, &["a", "a"]),
            wanted(3, 3, &["A b"]),
            wanted(3, 3, &[]),
        ] {
            Identity::load_or_create(state.path(), &bad).unwrap_err();
        }
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    }
}
