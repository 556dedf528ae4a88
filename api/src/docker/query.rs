//! Query parameters as the engine reads them.

use super::error::DockerError;
use super::fields;
use super::translate::Invalid;
use std::collections::BTreeMap;

/// The parameters of one request that are honoured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    parameters: BTreeMap<String, Vec<String>>,
}

impl Query {
    /// Reads `text`, the part of the target after `?`, of a request to `endpoint`.
    pub fn read(endpoint: &str, text: &str) -> Result<Self, DockerError> {
        let pairs = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Ok(Self { parameters: fields::check_query(endpoint, pairs)? })
    }

    /// The first value; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.parameters.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// Whether it is set to anything but the words for no.
    pub fn truth(&self, name: &str) -> bool {
        let value = self.text(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A whole number, if it is given.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Invalid> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Invalid::bad(format!("{name}: {text:?} is not a number that fits here"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truths_and_numbers_are_read_as_the_engine_does() {
        let text = "all=1&limit=x&size=0&filters=%7B%22a%22%3A1%7D&frob=1";
        let query = Query::read("GET /containers/json", text).unwrap();
        assert!(query.truth("all") && !query.truth("size") && !query.truth("frob"));
        assert_eq!(query.text("filters"), r#"{"a":1}"#);
        assert!(query.number::<u32>("limit").is_err());
        assert_eq!(query.number::<u32>("absent"), Ok(None));
        let refused = Query::read("GET /containers/json", "size=1").unwrap_err();
        assert_eq!(refused.status, 501);
    }
}
