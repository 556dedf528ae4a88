//! Parameters of path, query and header: what each may be, checked and documented alike.

use super::errors::Problem;
use super::operation::SchemaOf;
use regex_lite::Regex;
use serde_json::{Value, json};

/// One parameter of an operation.
#[derive(Clone, Copy)]
pub struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub shape: Shape,
    pub summary: &'static str,
    pub example: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
    Header,
}

impl Place {
    pub const fn name(self) -> &'static str {
        match self {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
        }
    }
}

#[derive(Clone, Copy)]
pub enum Shape {
    /// `true`, `false`, or nothing, which is true.
    Truth,
    /// True, false, or how long at most.
    Wait {
        seconds_max: u64,
    },
    Number {
        least: u64,
        most: u64,
    },
    Word(&'static [&'static str]),
    Text {
        least: usize,
        most: usize,
        pattern: &'static str,
    },
    /// May be given several times.
    Texts {
        least: usize,
        most: usize,
        pattern: &'static str,
        times: usize,
    },
    /// Names of members of what is answered, between commas.
    Fields(SchemaOf),
}

/// The most names in one `fields`.
const FIELDS_MAX: usize = 64;

impl Parameter {
    pub const fn query(name: &'static str, shape: Shape, summary: &'static str) -> Self {
        Self { name, place: Place::Query, shape, summary, example: None }
    }

    pub const fn header(name: &'static str, shape: Shape, summary: &'static str) -> Self {
        Self { name, place: Place::Header, shape, summary, example: None }
    }

    /// A name or id in the path; `example` is one that a cell has.
    pub const fn path(
        name: &'static str,
        pattern: &'static str,
        summary: &'static str,
        example: &'static str,
    ) -> Self {
        let shape = Shape::Text { least: 1, most: 255, pattern };
        Self { name, place: Place::Path, shape, summary, example: Some(example) }
    }

    /// As the document shows it; `fields` are the names that may be asked for.
    pub fn document(&self, fields: &[String]) -> Value {
        let schema = match self.shape {
            Shape::Truth => json!({"type": "boolean"}),
            Shape::Wait { seconds_max } => json!({"anyOf": [
                {"type": "boolean"},
                {"type": "integer", "format": "uint64", "minimum": 1, "maximum": seconds_max},
            ]}),
            Shape::Number { least, most } => {
                json!({"type": "integer", "format": "uint64", "minimum": least, "maximum": most})
            }
            Shape::Word(words) => json!({"type": "string", "enum": words}),
            Shape::Text { least, most, pattern } => {
                json!({"type": "string", "minLength": least, "maxLength": most, "pattern": pattern})
            }
            Shape::Texts { least, most, pattern, times } => json!({
                "type": "array", "minItems": 1, "maxItems": times,
                "items": {
                    "type": "string", "minLength": least, "maxLength": most, "pattern": pattern,
                },
            }),
            Shape::Fields(_) => json!({
                "type": "array", "minItems": 1, "maxItems": FIELDS_MAX,
                "items": {"type": "string", "enum": fields},
            }),
        };
        let mut parameter = json!({
            "name": self.name,
            "in": self.place.name(),
            "required": self.place == Place::Path,
            "description": self.summary,
            "schema": schema,
        });
        match self.shape {
            Shape::Truth | Shape::Wait { .. } if self.place == Place::Query => {
                parameter["allowEmptyValue"] = json!(true);
            }
            Shape::Fields(_) => {
                parameter["style"] = json!("form");
                parameter["explode"] = json!(false);
            }
            Shape::Texts { .. } => {
                parameter["style"] = json!("form");
                parameter["explode"] = json!(true);
            }
            Shape::Truth
            | Shape::Wait { .. }
            | Shape::Number { .. }
            | Shape::Word(_)
            | Shape::Text { .. } => {}
        }
        if let Some(example) = self.example {
            parameter["example"] = json!(example);
        }
        parameter
    }
}

/// A parameter with its pattern built and its fields listed.
pub struct Ready {
    pub parameter: &'static Parameter,
    pattern: Option<Regex>,
    pub fields: Vec<String>,
}

impl Ready {
    /// Fails where a pattern does not hold water, which a test would tell.
    pub fn new(parameter: &'static Parameter, fields: Vec<String>) -> Result<Self, String> {
        let pattern = match parameter.shape {
            Shape::Text { pattern, .. } | Shape::Texts { pattern, .. } => {
                let text = pattern.replace("\\u0000", "\\x00");
                let pattern = Regex::new(&text);
                Some(pattern.map_err(|error| format!("{}: {error}", parameter.name))?)
            }
            Shape::Truth
            | Shape::Wait { .. }
            | Shape::Number { .. }
            | Shape::Word(_)
            | Shape::Fields(_) => None,
        };
        Ok(Self { parameter, pattern, fields })
    }

    pub fn may_repeat(&self) -> Option<usize> {
        match self.parameter.shape {
            Shape::Texts { times, .. } => Some(times),
            Shape::Truth
            | Shape::Wait { .. }
            | Shape::Number { .. }
            | Shape::Word(_)
            | Shape::Text { .. }
            | Shape::Fields(_) => None,
        }
    }

    pub fn check(&self, value: &str) -> Result<(), Problem> {
        let name = self.parameter.name;
        let shown: String = value.chars().take(80).collect();
        let wrong = |what: String| Err(Problem::bad(format!("{name}={shown}: expected {what}")));
        let number_in = |least: u64, most: u64| {
            // `+1` is no number here, though the parser would take it.
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            digits && value.parse().is_ok_and(|number: u64| (least..=most).contains(&number))
        };
        match self.parameter.shape {
            Shape::Truth => match value {
                "" | "true" | "false" => Ok(()),
                _ => wrong("true or false".to_owned()),
            },
            Shape::Wait { seconds_max } => match value {
                "" | "true" | "false" => Ok(()),
                _ if number_in(1, seconds_max) => Ok(()),
                _ => wrong(format!("true, false, or 1 to {seconds_max} seconds")),
            },
            Shape::Number { least, most } if number_in(least, most) => Ok(()),
            Shape::Number { least, most } => wrong(format!("{least} to {most}")),
            Shape::Word(words) if words.contains(&value) => Ok(()),
            Shape::Word(words) => wrong(words.join(" or ")),
            Shape::Text { least, most, .. } | Shape::Texts { least, most, .. } => {
                let length = value.chars().count();
                if !(least..=most).contains(&length) {
                    return wrong(format!("{least} to {most} characters"));
                }
                match &self.pattern {
                    Some(pattern) if !pattern.is_match(value) => {
                        wrong(format!("a text that matches {pattern}"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Shape::Fields(_) => {
                let unknown = value.split(',').find(|one| !self.fields.iter().any(|f| f == one));
                match unknown {
                    Some(name) => {
                        let name: String = name.chars().take(80).collect();
                        let known = self.fields.join(", ");
                        wrong(format!("names of members, not `{name}`; there are: {known}"))
                    }
                    None if value.split(',').count() > FIELDS_MAX => {
                        wrong(format!("at most {FIELDS_MAX} names"))
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

// What many operations share.

pub const CONSISTENCY: Parameter = Parameter::query(
    "consistency",
    Shape::Word(&["linearizable", "stale"]),
    "Whether the answer must hold everything acknowledged before, or may be what the asked \
     replica has.",
);

pub const DRY_RUN: Parameter =
    Parameter::query("dry_run", Shape::Truth, "Decide and explain, but change nothing.");

/// The longest that an answer is waited for.
pub const WAIT_SECONDS_MAX: u64 = 300;

pub const WAIT: Parameter = Parameter::query(
    "wait",
    Shape::Wait { seconds_max: WAIT_SECONDS_MAX },
    "Answer once what is asked for is so, or after so many seconds; true waits as long as the \
     server may.",
);

pub const FORCE: Parameter = Parameter::query("force", Shape::Truth, "End what runs.");

/// One entity tag or several, or `*`.
const TAG: Shape = Shape::Text { least: 1, most: 1024, pattern: "^[!-~]([ -~]*[!-~])?$" };

pub const IF_NONE_MATCH: Parameter = Parameter::header(
    "If-None-Match",
    TAG,
    "The ETag of an earlier answer: 304 if nothing changed since.",
);

pub const IF_MATCH: Parameter = Parameter::header(
    "If-Match",
    TAG,
    "An ETag or a `modified` of the object, in quotes: the change is made only if the object was \
     not changed since.",
);

pub const IDEMPOTENCY_KEY: Parameter = Parameter::header(
    "Idempotency-Key",
    Shape::Text { least: 1, most: 255, pattern: "^[!-~]+$" },
    "Two requests with one key have one effect, for ten minutes.",
);

/// Of every read.
pub const READ: &[Parameter] = &[CONSISTENCY, IF_NONE_MATCH];
/// Of every list.
pub const LIST: &[Parameter] = &[
    CONSISTENCY,
    IF_NONE_MATCH,
    Parameter::query(
        "limit",
        Shape::Number { least: 1, most: super::page::LIMIT_MAX },
        "Objects on a page; 100 if absent.",
    ),
    Parameter::query(
        "page",
        Shape::Text { least: 1, most: 512, pattern: "^[A-Za-z0-9_-]+$" },
        "The `next` of the page before.",
    ),
    Parameter::query(
        "label",
        Shape::Texts {
            least: 1,
            // All of them together, written in percent, fit into what an HTTP library takes as a
            // path: 64 KiB.
            most: 512,
            pattern: "^[A-Za-z0-9_][A-Za-z0-9_./:-]*(=[^\\u0000]*)?$",
            times: 8,
        },
        "`name` or `name=value`; all must be there.",
    ),
];
pub const WRITE: &[Parameter] = &[IDEMPOTENCY_KEY];
/// Of a change of what is there.
pub const CHANGE: &[Parameter] = &[IDEMPOTENCY_KEY, IF_MATCH];

pub const fn fields(of: SchemaOf) -> Parameter {
    Parameter::query(
        "fields",
        Shape::Fields(of),
        "Show these members alone: names between commas, dots between levels.",
    )
}

/// By the name or id of another object; `example` is one that a cell has.
pub const fn named(name: &'static str, summary: &'static str, example: &'static str) -> Parameter {
    let shape = Shape::Text { least: 1, most: 255, pattern: berth_model::view::bounds::NAME };
    let parameter = Parameter::query(name, shape, summary);
    Parameter { example: Some(example), ..parameter }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parameter: &'static Parameter, value: &str) -> bool {
        let fields = vec!["id".to_owned(), "demand.cpu_millis".to_owned()];
        Ready::new(parameter, fields).unwrap().check(value).is_ok()
    }

    #[test]
    fn values_are_held_to_their_shape() {
        for (value, fits) in [("", true), ("true", true), ("5", true), ("0", false), ("x", false)] {
            assert_eq!(check(&WAIT, value), fits, "{value}");
        }
        for (value, fits) in [("1", true), ("1000", true), ("1001", false), ("+1", false)] {
            assert_eq!(check(&LIST[2], value), fits, "{value}");
        }
        for (value, fits) in [("a", true), ("a=b=c", true), ("=a", false), ("", false)] {
            assert_eq!(check(&LIST[4], value), fits, "{value}");
        }
        static FIELDS: Parameter = fields(super::super::operation::schema_of::<u8>);
        for (value, fits) in [("id", true), ("id,demand.cpu_millis", true), ("id,", false)] {
            assert_eq!(check(&FIELDS, value), fits, "{value}");
        }
        assert!(
            check(&IF_MATCH, "*") && check(&IF_MATCH, "\"x\", \"y\"") && !check(&IF_MATCH, " ")
        );
    }
}
