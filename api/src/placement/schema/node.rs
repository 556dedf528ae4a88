//! A schema, compiled: references followed, patterns built.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// Types of JSON values, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Types(u8);

impl Types {
    pub const NULL: Types = Types(1);
    pub const BOOLEAN: Types = Types(2);
    pub const INTEGER: Types = Types(4);
    pub const STRING: Types = Types(8);
    pub const ARRAY: Types = Types(16);
    pub const OBJECT: Types = Types(32);
    pub const ANY: Types = Types(63);

    const NAMES: [(&'static str, Types); 6] = [
        ("null", Types::NULL),
        ("boolean", Types::BOOLEAN),
        ("integer", Types::INTEGER),
        ("string", Types::STRING),
        ("array", Types::ARRAY),
        ("object", Types::OBJECT),
    ];

    pub fn has(self, other: Types) -> bool {
        self.0 & other.0 == other.0
    }

    fn with(self, other: Types) -> Types {
        Types(self.0 | other.0)
    }

    /// For people: `string or null`.
    pub fn names(self) -> String {
        let held = Self::NAMES.iter().filter(|(_, one)| self.has(*one)).map(|(name, _)| *name);
        held.collect::<Vec<_>>().join(" or ")
    }
}

/// What one value may be.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub types: Types,
    pub minimum: Option<i128>,
    pub maximum: Option<i128>,
    pub multiple_of: Option<i128>,
    pub min_length: Option<usize>,
    pub max_length: Option<usize>,
    pub pattern: Option<Regex>,
    /// The only texts.
    pub words: Option<Vec<String>>,
    /// The only truth value.
    pub truth: Option<bool>,
    pub items: Option<Box<Node>>,
    pub min_items: Option<usize>,
    pub max_items: Option<usize>,
    /// Sorted by name.
    pub properties: Vec<Property>,
    pub others: Others,
    pub names: Option<Box<Node>>,
    pub max_properties: Option<usize>,
    /// Exactly one of these must be there.
    pub one_of: Vec<String>,
    /// The variants of a tagged object.
    pub variants: Option<Variants>,
}

#[derive(Clone, Debug)]
pub struct Property {
    pub name: String,
    pub required: bool,
    pub node: Node,
}

/// Members that have no name of their own in the schema.
#[derive(Clone, Debug, Default)]
pub enum Others {
    #[default]
    Any,
    None,
    Each(Box<Node>),
}

#[derive(Clone, Debug)]
pub struct Variants {
    /// The member that tells them apart.
    pub tag: String,
    pub of: Vec<(String, Node)>,
}

/// A schema that says what this module does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema at {at}: {what}")]
pub struct Unknown {
    at: String,
    what: String,
}

/// Compiles `schema`; `definitions` are what it refers to, by name.
pub fn compile(schema: &Value, definitions: &Map<String, Value>) -> Result<Node, Unknown> {
    Compiler { definitions }.node(schema, "$", 0)
}

struct Compiler<'a> {
    definitions: &'a Map<String, Value>,
}

/// Deeper nesting of a schema means that it refers to itself.
const NESTING_MAX: u32 = 32;
/// Said for readers, of no weight here.
const REMARKS: [&str; 8] =
    ["title", "description", "default", "examples", "example", "format", "deprecated", "$schema"];

impl Compiler<'_> {
    fn node(&self, schema: &Value, at: &str, depth: u32) -> Result<Node, Unknown> {
        let unknown = |what: String| Unknown { at: at.to_owned(), what };
        if depth > NESTING_MAX {
            return Err(unknown("it refers to itself".to_owned()));
        }
        if schema == &Value::Bool(true) {
            return Ok(Node { types: Types::ANY, ..Node::default() });
        }
        let Value::Object(words) = schema else {
            return Err(unknown(format!("{schema} is no schema")));
        };
        let mut node = Node { types: Types::ANY, ..Node::default() };
        if let Some(Value::String(reference)) = words.get("$ref") {
            let name = reference.rsplit('/').next().unwrap_or_default();
            let target = self.definitions.get(name);
            let target = target.ok_or_else(|| unknown(format!("no definition of {name}")))?;
            node = self.node(target, name, depth + 1)?;
        }
        for (word, value) in words {
            match word.as_str() {
                "$ref" | "required" => {}
                "type" => node.types = types(value).map_err(unknown)?,
                "minimum" => node.minimum = Some(whole(value).map_err(unknown)?),
                "maximum" => node.maximum = Some(whole(value).map_err(unknown)?),
                "multipleOf" => node.multiple_of = Some(whole(value).map_err(unknown)?),
                "minLength" => node.min_length = Some(size(value).map_err(unknown)?),
                "maxLength" => node.max_length = Some(size(value).map_err(unknown)?),
                "minItems" => node.min_items = Some(size(value).map_err(unknown)?),
                "maxItems" => node.max_items = Some(size(value).map_err(unknown)?),
                "maxProperties" => node.max_properties = Some(size(value).map_err(unknown)?),
                "pattern" => node.pattern = Some(pattern(value).map_err(unknown)?),
                "const" => constant(value, &mut node).map_err(unknown)?,
                "enum" => node.words = Some(texts(value).map_err(unknown)?),
                "items" => node.items = Some(Box::new(self.node(value, "[]", depth + 1)?)),
                "propertyNames" => {
                    node.names = Some(Box::new(self.node(value, "a name", depth + 1)?));
                }
                "additionalProperties" => {
                    node.others = match value.as_bool() {
                        Some(false) => Others::None,
                        Some(true) => Others::Any,
                        None => Others::Each(Box::new(self.node(value, "*", depth + 1)?)),
                    };
                }
                "properties" => {
                    let required = words.get("required").map(texts).transpose().map_err(unknown)?;
                    node.properties =
                        self.properties(value, required.unwrap_or_default(), at, depth)?;
                }
                "oneOf" | "anyOf" => self.alternatives(value, &mut node, at, depth)?,
                other if REMARKS.contains(&other) => {}
                other => return Err(unknown(format!("`{other}` is not known here"))),
            }
        }
        Ok(node)
    }

    fn properties(
        &self,
        value: &Value,
        required: Vec<String>,
        at: &str,
        depth: u32,
    ) -> Result<Vec<Property>, Unknown> {
        let Value::Object(map) = value else {
            return Err(Unknown { at: at.to_owned(), what: "properties are an object".to_owned() });
        };
        let mut properties = Vec::with_capacity(map.len());
        for (name, schema) in map {
            let node = self.node(schema, name, depth + 1)?;
            let required = required.contains(name);
            properties.push(Property { name: name.clone(), required, node });
        }
        properties.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(properties)
    }

    /// Three forms are known: something or null, exactly one of some members, and tagged variants.
    fn alternatives(
        &self,
        value: &Value,
        node: &mut Node,
        at: &str,
        depth: u32,
    ) -> Result<(), Unknown> {
        let unknown = |what: &str| Unknown { at: at.to_owned(), what: what.to_owned() };
        let Value::Array(all) = value else { return Err(unknown("alternatives are an array")) };
        let is_null = |one: &Value| one["type"] == "null";
        if let [one, other] = all.as_slice()
            && (is_null(one) || is_null(other))
        {
            let some = if is_null(one) { other } else { one };
            *node = self.node(some, at, depth + 1)?;
            node.types = node.types.with(Types::NULL);
            return Ok(());
        }
        let only_required = |one: &Value| {
            let map = one.as_object().filter(|map| map.len() == 1)?;
            match map.get("required")?.as_array()?.as_slice() {
                [name] => name.as_str().map(str::to_owned),
                _ => None,
            }
        };
        if let Some(names) = all.iter().map(only_required).collect::<Option<Vec<String>>>() {
            node.one_of = names;
            return Ok(());
        }
        // Unit variants of an enum, each described: so many texts.
        let text = |one: &Value| match one["const"].as_str() {
            Some(word) => Some(vec![word.to_owned()]),
            None => texts(&one["enum"]).ok(),
        };
        if let Some(words) = all.iter().map(text).collect::<Option<Vec<Vec<String>>>>() {
            node.types = Types::STRING;
            node.words = Some(words.concat());
            return Ok(());
        }
        let mut of = Vec::new();
        let mut tag = None;
        for variant in all {
            let compiled = self.node(variant, at, depth + 1)?;
            let fixed = compiled.properties.iter().find_map(|property| {
                let word = property.node.words.as_ref().filter(|words| words.len() == 1)?;
                Some((property.name.clone(), word[0].clone()))
            });
            let (name, word) = fixed.ok_or_else(|| unknown("a variant without a tag"))?;
            if tag.get_or_insert(name.clone()) != &name {
                return Err(unknown("variants with different tags"));
            }
            of.push((word, compiled));
        }
        let tag = tag.ok_or_else(|| unknown("no variants"))?;
        node.types = Types::OBJECT;
        node.variants = Some(Variants { tag, of });
        Ok(())
    }
}

fn types(value: &Value) -> Result<Types, String> {
    let one = |value: &Value| {
        let known = Types::NAMES.iter().find(|(name, _)| value == name);
        known.map(|(_, types)| *types).ok_or_else(|| format!("type {value} is not known here"))
    };
    match value {
        Value::Array(all) => {
            all.iter().try_fold(Types::default(), |types, value| Ok(types.with(one(value)?)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            one(value)
        }
    }
}

fn whole(value: &Value) -> Result<i128, String> {
    let signed = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    signed.ok_or_else(|| format!("{value} is no whole number"))
}

fn size(value: &Value) -> Result<usize, String> {
    let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
    size.ok_or_else(|| format!("{value} is no size"))
}

fn pattern(value: &Value) -> Result<Regex, String> {
    let text = value.as_str().ok_or_else(|| format!("{value} is no pattern"))?;
    // The document's dialect is ECMA-262's, where a code unit is \u0000; here it is \x{0000}.
    let text = text.replace("\\u0000", "\\x00");
    Regex::new(&text).map_err(|error| format!("pattern {text}: {error}"))
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let all = value.as_array().and_then(|all| {
        all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    all.ok_or_else(|| format!("{value} are no texts"))
}

fn constant(value: &Value, node: &mut Node) -> Result<(), String> {
    match (value.as_str(), value.as_bool()) {
        (Some(text), _) => node.words = Some(vec![text.to_owned()]),
        (None, Some(truth)) => node.truth = Some(truth),
        (None, None) => return Err(format!("the constant {value} is not known here")),
    }
    Ok(())
}
