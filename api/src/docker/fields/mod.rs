//! What becomes of every field and parameter that the Docker API document names: honoured, or
//! refused by name when set to anything but its default.
//!
//! Promises: nothing that the document names is accepted and ignored. A test walks the document
//! and fails on a field without a row and on a row without a field. Fields that the document does
//! not name are dropped, as the engine drops them; names are matched without regard to case, as
//! the engine matches them.
//!
//! Does not: say whether an honoured field's value makes sense; `translate` does.

mod container_create;
mod queries;
#[cfg(test)]
mod tests;

pub use container_create::CONTAINER_CREATE;
pub use queries::QUERIES;

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What becomes of a field.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Honoured,
    /// Refused for good unless it has its default: what a container VM cannot be, and what to do
    /// instead.
    Never(&'static str, &'static [Default]),
    /// Refused until it is built, unless it has its default.
    NotYet(&'static str, &'static [Default]),
    /// Decided by its value.
    Weighed(fn(&Value) -> Result<(), Verdict>),
    /// Part of a field that is refused as a whole.
    Within,
}

/// A value that counts as not set, beside null, "", 0, false, [] and {}.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// Without regard to case: docker-py sends `False`.
    Text(&'static str),
    Number(i64),
    /// A list of these texts, in this order.
    Texts(&'static [&'static str]),
}

/// Refused by a [`Rule::Weighed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Never(&'static str),
    NotYet(&'static str),
}

/// One row: a path in the document's terms. `.` goes into an object, `[]` into the items of a
/// list, `{}` into the values of a map.
#[derive(Clone, Copy, Debug)]
pub struct Field(pub &'static str, pub Rule);

/// A field was set to something that is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{field} is refused: {reason}")]
    Never { field: String, reason: &'static str },
    #[error("{field} is not supported yet: {reason}")]
    NotYet { field: String, reason: &'static str },
}

impl Refused {
    fn never(field: &str, reason: &'static str) -> Self {
        Refused::Never { field: field.to_owned(), reason }
    }

    fn not_yet(field: &str, reason: &'static str) -> Self {
        Refused::NotYet { field: field.to_owned(), reason }
    }
}

/// Rows by path, without regard to case.
pub struct Table {
    rows: BTreeMap<String, Field>,
}

static CREATE_TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(CONTAINER_CREATE));

/// Checks the body of `POST /containers/create`: what it holds that is honoured, under the
/// document's names.
pub fn check_container_create(body: Value) -> Result<Value, Refused> {
    CREATE_TABLE.check("", body)
}

/// Checks the query of a request to `endpoint` (`GET /containers/json`): what it holds that is
/// honoured.
pub fn check_query(
    endpoint: &str,
    query: Vec<(String, String)>,
) -> Result<BTreeMap<String, Vec<String>>, Refused> {
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let rows =
        QUERIES.iter().find(|(name, _)| *name == endpoint).map_or(&[][..], |(_, rows)| *rows);
    for (name, text) in query {
        let Some(Field(path, rule)) = rows.iter().find(|row| row.0 == name) else { continue };
        let value = Value::String(text.clone());
        if keep(path, *rule, &value, |defaults| is_default(&value, defaults))? {
            kept.entry(name).or_default().push(text);
        }
    }
    Ok(kept)
}

impl Table {
    fn new(rows: &[Field]) -> Self {
        Self { rows: rows.iter().map(|row| (row.0.to_ascii_lowercase(), *row)).collect() }
    }

    fn row(&self, path: &str) -> Option<Field> {
        self.rows.get(&path.to_ascii_lowercase()).copied()
    }

    fn has_under(&self, path: &str, separator: &str) -> bool {
        let start = format!("{path}{separator}").to_ascii_lowercase();
        self.rows.range(start.clone()..).next().is_some_and(|(found, _)| found.starts_with(&start))
    }

    fn check(&self, path: &str, value: Value) -> Result<Value, Refused> {
        match value {
            Value::Object(members) if path.is_empty() || self.has_under(path, ".") => {
                let mut kept = serde_json::Map::new();
                for (name, member) in members {
                    let under =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let Some(Field(path, rule)) = self.row(&under) else { continue };
                    if keep(path, rule, &member, |defaults| {
                        self.says_nothing(path, &member, defaults)
                    })? {
                        let name = path.rsplit('.').next().unwrap_or(path).to_owned();
                        kept.insert(name, self.check(path, member)?);
                    }
                }
                Ok(Value::Object(kept))
            }
            Value::Object(members) if self.has_under(path, "{}.") => {
                let under = format!("{path}{{}}");
                let checked = members
                    .into_iter()
                    .map(|(name, member)| Ok((name, self.check(&under, member)?)))
                    .collect::<Result<_, Refused>>()?;
                Ok(Value::Object(checked))
            }
            leaf @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_)) => Ok(leaf),
        }
    }
}

impl Table {
    /// As [`is_default`], and a structure of which no member is set. A map is another matter: a
    /// key alone asks for something (`--tmpfs /x` is `{"/x": ""}`).
    fn says_nothing(&self, path: &str, value: &Value, defaults: &[Default]) -> bool {
        is_default(value, defaults)
            || self.has_under(path, ".")
                && value.as_object().is_some_and(|members| {
                    members.iter().all(|(name, member)| {
                        self.says_nothing(&format!("{path}.{name}"), member, defaults)
                    })
                })
    }
}

/// Whether the field is to be honoured; a refused one with its default is left out.
fn keep(
    path: &str,
    rule: Rule,
    value: &Value,
    says_nothing: impl Fn(&[Default]) -> bool,
) -> Result<bool, Refused> {
    match rule {
        Rule::Honoured => Ok(true),
        Rule::Weighed(weigh) => match weigh(value) {
            Ok(()) => Ok(true),
            Err(Verdict::Never(reason)) => Err(Refused::never(path, reason)),
            Err(Verdict::NotYet(reason)) => Err(Refused::not_yet(path, reason)),
        },
        Rule::Never(_, defaults) | Rule::NotYet(_, defaults) if says_nothing(defaults) => Ok(false),
        Rule::Never(reason, _) => Err(Refused::never(path, reason)),
        Rule::NotYet(reason, _) => Err(Refused::not_yet(path, reason)),
        Rule::Within => Ok(false),
    }
}

/// Whether a value says nothing: what the stock clients send for what was not asked for.
fn is_default(value: &Value, defaults: &[Default]) -> bool {
    let empty = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    };
    empty
        || defaults.iter().any(|default| match default {
            Default::Text(text) => {
                value.as_str().is_some_and(|given| given.eq_ignore_ascii_case(text))
            }
            Default::Number(number) => value.as_i64() == Some(*number),
            Default::Texts(texts) => value.as_array().is_some_and(|items| {
                items.len() == texts.len()
                    && items.iter().zip(*texts).all(|(item, text)| item.as_str() == Some(text))
            }),
        })
}
