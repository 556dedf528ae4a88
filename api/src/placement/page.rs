//! Pages of lists: in the order of ids, from token to token.
//!
//! Promises: an object that is there from the first page to the last is on exactly one of them,
//! whatever comes and goes meanwhile. A token of another incarnation of the cell is gone; one
//! that was cut or invented is refused. Does not: freeze a list; later pages show later states.

use super::call::Call;
use super::errors::{Kind, Problem};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_model::revision::OpaqueRevision;
use berth_model::view::ListView;
use berth_scheduler::Fleet;
use sha2::Digest as _;
use std::collections::BTreeMap;

const LIMIT_DEFAULT: u64 = 100;
pub const LIMIT_MAX: u64 = 1000;
/// Cell, incarnation and checksum before the id.
const HEAD: usize = 8 + 4 + 4;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Ids up to this one were on earlier pages.
    after: Option<String>,
    limit: usize,
    labels: Vec<String>,
}

impl Page {
    pub fn read(call: &Call, fleet: &Fleet) -> Result<Self, Problem> {
        let limit = call.number("limit").unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
        let limit = usize::try_from(limit).unwrap_or(1);
        let after = call.text("page").map(|token| unseal(token, fleet)).transpose()?;
        Ok(Self { after, limit, labels: call.all("label").map(str::to_owned).collect() })
    }

    /// The page of `objects`, which come in the order of their ids.
    pub fn of<T, V>(
        &self,
        fleet: &Fleet,
        objects: impl Iterator<Item = T>,
        id: impl Fn(&T) -> String,
        labels: impl Fn(&T) -> &BTreeMap<String, String>,
        view: impl Fn(&T) -> V,
    ) -> ListView<V> {
        let after = self.after.as_deref();
        let mut rest = objects
            .filter(|object| after.is_none_or(|after| id(object).as_str() > after))
            .filter(|object| self.wants(labels(object)));
        let shown: Vec<T> = rest.by_ref().take(self.limit).collect();
        let next = match (shown.last(), rest.next()) {
            (Some(last), Some(_)) => Some(seal(&id(last), fleet)),
            (Some(_) | None, _) => None,
        };
        ListView {
            cell: fleet.cell().map(|cell| cell.to_string()).unwrap_or_default(),
            revision: revision(fleet, fleet.index()),
            items: shown.iter().map(view).collect(),
            next,
        }
    }

    fn wants(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }
}

/// A state's name; empty before the cell is set up.
pub fn revision(fleet: &Fleet, index: u64) -> OpaqueRevision {
    OpaqueRevision(fleet.revision_at(index).map(|found| found.to_string()).unwrap_or_default())
}

fn place(fleet: &Fleet) -> [u8; 12] {
    let mut bytes = [0; 12];
    if let Some(cell) = fleet.cell() {
        bytes[..8].copy_from_slice(&cell.as_bytes()[..8]);
    }
    bytes[8..].copy_from_slice(&fleet.incarnation().0.to_be_bytes());
    bytes
}

fn check(place: &[u8], id: &[u8]) -> [u8; 4] {
    let digest = sha2::Sha256::new().chain_update(place).chain_update(id).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn seal(id: &str, fleet: &Fleet) -> String {
    let place = place(fleet);
    let mut bytes = place.to_vec();
    bytes.extend_from_slice(&check(&place, id.as_bytes()));
    bytes.extend_from_slice(id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unseal(token: &str, fleet: &Fleet) -> Result<String, Problem> {
    let wrong = || {
        let detail = "page: not a token of an earlier page; start again without it";
        Problem::new(Kind::UnknownToken, detail)
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    if bytes.len() < HEAD {
        return Err(wrong());
    }
    let (place, rest) = bytes.split_at(12);
    let (sum, id) = rest.split_at(4);
    if sum != check(place, id) || place[..8] != self::place(fleet)[..8] {
        return Err(wrong());
    }
    if place[8..] != self::place(fleet)[8..] {
        return Err(Problem::new(
            Kind::Gone,
            "page: the cell was restored since that page; start again without the token",
        ));
    }
    String::from_utf8(id.to_vec()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(page: &Page, ids: &[&str]) -> ListView<String> {
        let none = BTreeMap::new();
        page.of(
            &Fleet::default(),
            ids.iter(),
            |id| (**id).to_owned(),
            |_| &none,
            |id| (**id).to_owned(),
        )
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let fleet = Fleet::default();
        let mut page = Page { after: None, limit: 2, labels: Vec::new() };
        let first = list(&page, &["a", "b", "c"]);
        assert_eq!(first.items, ["a", "b"]);
        page.after = Some(unseal(&first.next.unwrap(), &fleet).unwrap());
        // Something came in before the place, and something after it.
        let second = list(&page, &["a", "aa", "b", "bb", "c"]);
        assert_eq!((second.items, second.next), (vec!["bb".to_owned(), "c".to_owned()], None));
    }

    #[test]
    fn an_invented_token_is_refused() {
        let fleet = Fleet::default();
        for token in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAA", "%%%"] {
            assert_eq!(unseal(token, &fleet).unwrap_err().kind, Kind::UnknownToken, "{token}");
        }
    }
}
