//! Query parameters of `/v1`: known by name, or refused by name.

use super::errors::Problem;
use actix_web::HttpRequest;

/// The parameters of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// Parameters of every list.
pub const LIST: &[&str] = &["consistency", "label", "limit", "page"];
/// Of lists of what endpoints own.
pub const OWNED_LIST: &[&str] = &["consistency", "endpoint", "label", "limit", "page"];
pub const READ: &[&str] = &["consistency"];

impl Query {
    pub fn read(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        Self::parse(request.query_string(), known)
    }

    fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                return Err(Problem::bad(format!(
                    "the parameter `{name}` is not known here; there are: {}",
                    known.join(", ")
                )));
            }
        }
        Ok(Self { pairs })
    }

    /// The first value.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// `?wait` and `?wait=true` are true.
    pub fn truth(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(Problem::bad(format!("{name}={other}: expected true or false"))),
        }
    }

    /// Whether a reading of this replica's own will do.
    pub fn stale(&self) -> Result<bool, Problem> {
        match self.text("consistency") {
            None | Some("linearizable") => Ok(false),
            Some("stale") => Ok(true),
            Some(other) => {
                Err(Problem::bad(format!("consistency={other}: expected linearizable or stale")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_parameter_is_refused_by_name() {
        let query = Query::parse("label=a&label=b%3Dc&consistency=stale", LIST).unwrap();
        assert_eq!(query.all("label").collect::<Vec<_>>(), ["a", "b=c"]);
        assert!(query.stale().unwrap());
        let refused = Query::parse("lable=a", LIST).unwrap_err();
        assert!(refused.detail.contains("`lable`"), "{refused}");
        let wait = |text: &str| Query::parse(text, &["wait"]).unwrap().truth("wait");
        assert!(wait("wait").unwrap() && wait("wait=1").unwrap() && !wait("wait=false").unwrap());
        assert!(wait("wait=maybe").is_err());
    }
}
