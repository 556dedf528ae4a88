//! How calls are made: what of a list is wanted, how a write is to be done.

use berth_model::IdempotencyKey;
use berth_model::revision::OpaqueRevision;

/// How a write is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Answer only once what was asked for is so, or cannot be.
    pub wait: bool,
    /// The same, but no longer than this.
    pub wait_seconds: Option<u64>,
    /// Two writes with one key have one effect; drawn if absent.
    pub key: Option<IdempotencyKey>,
    /// End what runs; of meaning to deletes only.
    pub force: bool,
    /// Decide and explain, but change nothing; of meaning to placements only.
    pub dry_run: bool,
    /// Only if the object was not changed since this revision: its `modified`, or any later one at
    /// which it was read.
    pub if_match: Option<OpaqueRevision>,
}

impl WriteOptions {
    pub const NONE: WriteOptions = WriteOptions {
        wait: false,
        wait_seconds: None,
        key: None,
        force: false,
        dry_run: false,
        if_match: None,
    };

    /// Waits for the outcome.
    pub fn waiting() -> Self {
        Self { wait: true, ..Self::default() }
    }

    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        match self.wait_seconds {
            Some(seconds) => query.push(("wait", seconds.to_string())),
            None if self.wait => query.push(("wait", "true".to_owned())),
            None => {}
        }
        if self.force {
            query.push(("force", "true".to_owned()));
        }
        if self.dry_run {
            query.push(("dry_run", "true".to_owned()));
        }
        query
    }
}

/// What of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// `name` or `name=value`; all must be there.
    pub labels: Vec<String>,
    /// Of this endpoint only; of container VMs, images, placements and rules.
    pub endpoint: Option<String>,
    /// On this host only; of container VMs, placements, datastores and networks.
    pub host: Option<String>,
    /// Of this cluster only; of hosts, container VMs and placements.
    pub cluster: Option<String>,
    /// In this state only; of hosts and container VMs.
    pub state: Option<String>,
    /// Members to show, with dots between levels; all if there are none. The client's types demand
    /// most members, so this is for what reads JSON itself.
    pub fields: Vec<String>,
    /// With what breaks each; of rules.
    pub status: bool,
    /// Objects on a page, 1 to 1,000.
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub page: Option<String>,
    /// Whatever the asked scheduler has, even while the cell has no leader.
    pub stale: bool,
}

impl ListQuery {
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query: Vec<(&'static str, String)> =
            self.labels.iter().map(|label| ("label", label.clone())).collect();
        let named = [
            ("endpoint", &self.endpoint),
            ("host", &self.host),
            ("cluster", &self.cluster),
            ("state", &self.state),
            ("page", &self.page),
        ];
        for (name, value) in named {
            query.extend(value.iter().map(|value| (name, value.clone())));
        }
        query.extend(self.limit.iter().map(|limit| ("limit", limit.to_string())));
        if !self.fields.is_empty() {
            query.push(("fields", self.fields.join(",")));
        }
        if self.status {
            query.push(("status", "true".to_owned()));
        }
        if self.stale {
            query.push(("consistency", "stale".to_owned()));
        }
        query
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
        assert_eq!(segment("web-1_x.y"), "web-1_x.y");
    }

    #[test]
    fn a_query_says_only_what_was_asked() {
        assert!(ListQuery::default().query().is_empty());
        let query = ListQuery { labels: vec!["a=b".into()], stale: true, ..ListQuery::default() };
        let want = [("label", "a=b".to_owned()), ("consistency", "stale".to_owned())];
        assert_eq!(query.query(), want);
        assert_eq!(WriteOptions::waiting().query(), [("wait", "true".to_owned())]);
        let five = WriteOptions { wait_seconds: Some(5), ..WriteOptions::NONE };
        assert_eq!(five.query(), [("wait", "5".to_owned())]);
    }
}
