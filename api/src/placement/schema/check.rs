//! A body held against a compiled schema.

use super::node::Node;
use super::walk::{Place, Seed, Trouble};
use serde::de::DeserializeSeed as _;
use serde_json::Value;

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is not JSON, or too deep.
    Syntax(String),
    /// It is JSON, but what stands at `at` does not fit.
    Schema { at: String, what: String },
}

/// How the numbers of a body that fits are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    Plain,
    /// Some whole numbers as `3.0` or `3e0`, which are whole to JSON Schema but not to every
    /// reader: see [`plain`].
    Fractional,
}

/// Whether `body` is JSON that fits.
pub fn check(node: &Node, body: &[u8]) -> Result<Numbers, Misfit> {
    let trouble = Trouble::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    let seed = Seed { node, trouble: &trouble, depth: 0 };
    let walked = seed.deserialize(&mut json).and_then(|()| json.end());
    let Err(error) = walked else {
        return Ok(match trouble.fractional.get() {
            true => Numbers::Fractional,
            false => Numbers::Plain,
        });
    };
    Err(match trouble.what.into_inner() {
        Some(what) => {
            let mut places = trouble.at.into_inner();
            places.reverse();
            Misfit::Schema { at: joined(&places), what }
        }
        None => Misfit::Syntax(error.to_string()),
    })
}

/// A body that fits, its whole numbers written without a fraction.
pub fn plain(body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut value: Value = serde_json::from_slice(body)?;
    flatten(&mut value);
    serde_json::to_vec(&value)
}

fn flatten(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|_| number.is_f64()).and_then(whole_of) {
                *value = Value::from(whole);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(flatten),
        Value::Object(map) => map.values_mut().for_each(flatten),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Beyond this, not every whole number is a floating-point one.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

#[expect(clippy::cast_possible_truncation, reason = "it is whole and within bounds")]
pub(super) fn whole_of(number: f64) -> Option<i64> {
    let whole = number.fract() == 0.0 && number.abs() <= EXACT_MAX;
    whole.then_some(number as i64)
}

fn joined(places: &[Place]) -> String {
    let mut text = String::new();
    for place in places {
        match place {
            Place::Member(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Place::Item(position) => text.push_str(&format!("[{position}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::schema::compile;
    use crate::placement::schema::node::Types;
    use berth_model::view::{ContainerVmRequest, PlacementRequest, PolicyRequest, RuleRequest};
    use schemars::{JsonSchema, SchemaGenerator};

    fn misfit<T: JsonSchema>(body: &str) -> Result<(), String> {
        let mut generator = SchemaGenerator::default();
        let schema = generator.subschema_for::<T>();
        let definitions = generator.definitions().clone();
        let node = compile(schema.as_value(), &definitions).unwrap();
        check(&node, body.as_bytes()).map(drop).map_err(|misfit| match misfit {
            Misfit::Syntax(text) => format!("syntax: {text}"),
            Misfit::Schema { at, what } => format!("{at}: {what}"),
        })
    }

    #[test]
    fn what_fits_passes() {
        let body = r#"{"image":"busybox:1","demand":{"cpu_millis":500},"labels":{"app":"x"}}"#;
        assert_eq!(misfit::<ContainerVmRequest>(body), Ok(()));
        let body = r#"{"name":"r","rule":{"scope":"host","kind":"apart"}}"#;
        assert_eq!(misfit::<RuleRequest>(body), Ok(()));
        let body = r#"{"batch":[{"demand":{}},{}],"reserve":true,"hold_seconds":null}"#;
        assert_eq!(misfit::<PlacementRequest>(body), Ok(()));
        let body = r#"{"admission":{"mode":"off"},"strategy":"pack"}"#;
        assert_eq!(misfit::<PolicyRequest>(body), Ok(()));
        assert_eq!(misfit::<PolicyRequest>(r#"{"admission":null}"#), Ok(()));
    }

    #[test]
    fn the_first_misfit_is_named_by_its_place() {
        let placement = |body: &str| misfit::<PlacementRequest>(body).unwrap_err();
        assert_eq!(
            placement(r#"{"batch":[{},{"demand":{"cpu_millis":0}}]}"#),
            "batch[1].demand.cpu_millis: expected a number from 1 to 1024000, not 0"
        );
        assert!(
            placement(r#"{"gang":[{"demand":{"cpus":1}}]}"#)
                .starts_with("gang[0].demand: unknown field `cpus`")
        );
        assert_eq!(placement("{}"), ": expected exactly one of request, batch, gang, found 0");
        assert!(placement(r#"{"request":{},"gang":[]}"#).contains("at least 1 items"));
        assert_eq!(
            placement(r#"{"request":{"labels":{"a":1}}}"#),
            "request.labels.a: expected string, found number"
        );
        assert!(placement(r#"{"request":{"labels":{"":"x"}}}"#).starts_with("request.labels"));
        assert_eq!(placement(r#"{"request":{},"request":{}}"#), "request: it is given twice");
        assert_eq!(placement(r#"{"request":null}"#), "request: expected object, found null");
        assert!(placement("{").starts_with("syntax:"));
    }

    #[test]
    fn variants_are_held_by_their_tag() {
        let rule = |rule: &str| {
            misfit::<RuleRequest>(&format!(r#"{{"name":"r","rule":{rule}}}"#)).unwrap_err()
        };
        assert!(rule(r#"{"kind":"beside"}"#).starts_with("rule.kind: expected one of together"));
        assert!(rule(r#"{"kind":"apart","scope":"rack"}"#).starts_with("rule.scope: expected a"));
        assert_eq!(
            rule(r#"{"kind":"at-most","scope":"host","count":0}"#),
            "rule.count: expected a number from 1 to 1000000, not 0"
        );
        assert!(rule(r#"{"kind":"apart","scope":"host","x":1}"#).contains("unknown field `x`"));
        assert_eq!(rule(r#"{"kind":"apart"}"#), "rule: `scope` is missing");
        assert_eq!(rule("3"), "rule: expected object, found number");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        let node = Node { types: Types::ANY, ..Node::default() };
        let Err(Misfit::Syntax(text)) = check(&node, deep.as_bytes()) else { panic!() };
        assert!(text.contains("deeper than 32"), "{text}");
        let fits = format!("{}1{}", "[".repeat(32), "]".repeat(32));
        assert_eq!(check(&node, fits.as_bytes()), Ok(Numbers::Plain));
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction() {
        let node = Node { types: Types::ANY, maximum: Some(5), ..Node::default() };
        let body = b"[3.0, 4e0, 5]";
        let list = Node { types: Types::ARRAY, items: Some(Box::new(node)), ..Node::default() };
        assert_eq!(check(&list, body), Ok(Numbers::Fractional));
        assert_eq!(plain(body).unwrap(), b"[3,4,5]");
        assert!(check(&list, b"[6.0]").is_err());
        assert!(check(&list, b"[0.5]").is_err());
    }
}
