//! `filters` of list endpoints: `{"label":{"a=b":true}}`, or the older `{"label":["a=b"]}`.

use super::Invalid;
use serde_json::Value;
use std::collections::BTreeMap;

/// Filters by name; a thing passes a name if one of its values fits, and passes if it passes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    by_name: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Reads `text`; a name that is not in `known` is refused by name.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let wrong = || Invalid::bad(format!("invalid filter: {text} is not a map of filters"));
        let Ok(Value::Object(names)) = serde_json::from_str(text) else { return Err(wrong()) };
        let mut by_name = BTreeMap::new();
        for (name, values) in names {
            if !known.contains(&name.as_str()) {
                return Err(Invalid::bad(format!(
                    "invalid filter '{name}': only {} can be filtered by here",
                    known.join(", ")
                )));
            }
            let values: Option<Vec<String>> = match values {
                Value::Array(items) => {
                    items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect()
                }
                Value::Object(members) => members
                    .into_iter()
                    .filter(|(_, on)| on != &Value::Bool(false))
                    .map(|(value, on)| on.is_boolean().then_some(value))
                    .collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            };
            let values = values.ok_or_else(wrong)?;
            if !values.is_empty() {
                by_name.insert(name, values);
            }
        }
        Ok(Self { by_name })
    }

    /// The values of one name; empty if it was not given.
    pub fn values(&self, name: &str) -> &[String] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a name was not given, or one of its values fits.
    pub fn pass(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Labels are the exception: all of them must be there. `key` or `key=value`.
    pub fn pass_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label").iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }

    /// The one value of a name that takes a truth: `true`, `1`, `false`, `0`.
    pub fn truth(&self, name: &str) -> Result<Option<bool>, Invalid> {
        match self.values(name) {
            [] => Ok(None),
            [one] => match one.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                other => Err(Invalid::bad(format!("invalid filter '{name}={other}'"))),
            },
            [..] => Err(Invalid::bad(format!("invalid filter '{name}': give one value"))),
        }
    }

    pub fn is_given(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let new = Filters::parse(r#"{"label":{"a=b":true,"c":true}}"#, &["label"]).unwrap();
        let old = Filters::parse(r#"{"label":["a=b","c"]}"#, &["label"]).unwrap();
        assert_eq!(new, old);
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert!(new.pass_labels(&labels(&[("a", "b"), ("c", "d")])));
        assert!(!new.pass_labels(&labels(&[("a", "b")])));
        assert!(!new.pass_labels(&labels(&[("a", "x"), ("c", "d")])));
    }

    #[test]
    fn an_unknown_filter_is_refused_by_name() {
        let refused = Filters::parse(r#"{"frob":["x"]}"#, &["label"]).unwrap_err();
        assert!(refused.to_string().starts_with("invalid filter 'frob'"), "{refused}");
        assert!(Filters::parse("[]", &["label"]).is_err());
        assert!(Filters::parse(r#"{"label":7}"#, &["label"]).is_err());
    }

    #[test]
    fn a_filter_that_is_not_given_lets_all_pass() {
        let none = Filters::parse("{}", &[]).unwrap();
        assert!(none.pass("id", |_| false) && none.pass_labels(&BTreeMap::new()));
        assert_eq!(none.truth("dangling"), Ok(None));
    }
}
