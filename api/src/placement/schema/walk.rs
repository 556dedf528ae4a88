//! The walk over a body, node by node beside its schema.

use super::DEPTH_MAX;
use super::check::whole_of;
use super::node::{Node, Others, Property, Types, Variants};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::fmt;

pub(super) enum Place {
    Member(String),
    Item(usize),
}

/// What did not fit, and where: filled while the walk unwinds, so that a body that fits pays
/// nothing for it.
#[derive(Default)]
pub(super) struct Trouble {
    pub what: RefCell<Option<String>>,
    /// Innermost first.
    pub at: RefCell<Vec<Place>>,
    pub fractional: Cell<bool>,
}

impl Trouble {
    fn found<E: Error>(&self, what: impl Into<String>) -> E {
        *self.what.borrow_mut() = Some(what.into());
        E::custom("it does not fit")
    }

    fn within(&self, place: impl FnOnce() -> Place) {
        if self.what.borrow().is_some() {
            self.at.borrow_mut().push(place());
        }
    }
}

pub(super) struct Seed<'a> {
    pub node: &'a Node,
    pub trouble: &'a Trouble,
    pub depth: u32,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match &self.node.variants {
            // The tag may come last: what it decides is looked at once it is known.
            Some(variants) => {
                let value = <Value as serde::Deserialize>::deserialize(deserializer)?;
                self.variant(variants, &value).map_err(D::Error::custom)
            }
            None => deserializer.deserialize_any(self),
        }
    }
}

impl Seed<'_> {
    fn variant(self, variants: &Variants, value: &Value) -> Result<(), serde_json::Error> {
        if value.is_null() && self.node.types.has(Types::NULL) {
            return Ok(());
        }
        let Value::Object(map) = value else { return Err(self.wrong_type(type_of(value))) };
        let word = map.get(&variants.tag).and_then(Value::as_str);
        let chosen = variants.of.iter().find(|(name, _)| Some(name.as_str()) == word);
        let Some((_, node)) = chosen else {
            let known: Vec<&str> = variants.of.iter().map(|(name, _)| name.as_str()).collect();
            let error = self.trouble.found(format!("expected one of {}", known.join(", ")));
            self.trouble.within(|| Place::Member(variants.tag.clone()));
            return Err(error);
        };
        Seed { node, ..self }.deserialize(value)
    }

    fn wrong_type<E: Error>(&self, found: &str) -> E {
        self.trouble.found(format!("expected {}, found {found}", self.node.types.names()))
    }

    fn whole<E: Error>(&self, number: i128) -> Result<(), E> {
        let node = self.node;
        if !node.types.has(Types::INTEGER) {
            return Err(self.wrong_type("number"));
        }
        let low = node.minimum.is_some_and(|least| number < least);
        let high = node.maximum.is_some_and(|most| number > most);
        if low || high {
            let least = node.minimum.map_or(String::new(), |least| format!(" from {least}"));
            let most = node.maximum.map_or(String::new(), |most| format!(" to {most}"));
            return Err(self
                .trouble
                .found(format!("expected a number{least}{most}, not {number}")));
        }
        match node.multiple_of {
            Some(step) if number % step != 0 => {
                Err(self.trouble.found(format!("expected a multiple of {step}, not {number}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn text<E: Error>(&self, text: &str) -> Result<(), E> {
        let node = self.node;
        if !node.types.has(Types::STRING) {
            return Err(self.wrong_type("string"));
        }
        if let Some(words) = &node.words
            && !words.iter().any(|word| word == text)
        {
            return Err(self.trouble.found(format!("expected one of {}", words.join(", "))));
        }
        let (least, most) = (node.min_length.unwrap_or(0), node.max_length.unwrap_or(usize::MAX));
        // Bytes are never fewer than characters, so short texts need no counting.
        if text.len() > most || text.len() < least.saturating_mul(4) {
            let length = text.chars().count();
            if length < least || length > most {
                let most = node.max_length.map_or(String::new(), |most| format!(" to {most}"));
                let what = format!("expected {least}{most} characters, found {length}");
                return Err(self.trouble.found(what));
            }
        }
        if let Some(pattern) = &node.pattern
            && !pattern.is_match(text)
        {
            let what = format!("expected a text that matches {}", pattern.as_str());
            return Err(self.trouble.found(what));
        }
        Ok(())
    }

    fn deeper<'b>(&'b self, node: &'b Node) -> Seed<'b> {
        Seed { node, trouble: self.trouble, depth: self.depth + 1 }
    }

    fn depth<E: Error>(&self) -> Result<(), E> {
        if self.depth < DEPTH_MAX {
            return Ok(());
        }
        Err(E::custom(format!("the body is deeper than {DEPTH_MAX} levels")))
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.node.types.has(Types::NULL) { Ok(()) } else { Err(self.wrong_type("null")) }
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        if !self.node.types.has(Types::BOOLEAN) {
            return Err(self.wrong_type("boolean"));
        }
        match self.node.truth {
            Some(only) if only != truth => Err(self.trouble.found(format!("expected {only}"))),
            Some(_) | None => Ok(()),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.whole(i128::from(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.whole(i128::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        match whole_of(number) {
            Some(whole) => {
                self.trouble.fractional.set(true);
                self.whole(i128::from(whole))
            }
            None => Err(self.wrong_type("number with a fraction, or one too large")),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.depth()?;
        if !self.node.types.has(Types::ARRAY) {
            return Err(self.wrong_type("array"));
        }
        let any = Node { types: Types::ANY, ..Node::default() };
        let node = self.node.items.as_deref().unwrap_or(&any);
        let most = self.node.max_items.unwrap_or(usize::MAX);
        let mut count = 0;
        loop {
            match items.next_element_seed(self.deeper(node)) {
                Ok(Some(())) => count += 1,
                Ok(None) => break,
                Err(error) => {
                    self.trouble.within(|| Place::Item(count));
                    return Err(error);
                }
            }
            if count > most {
                return Err(self.trouble.found(format!("expected at most {most} items")));
            }
        }
        match self.node.min_items {
            Some(least) if count < least => {
                Err(self.trouble.found(format!("expected at least {least} items, found {count}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.depth()?;
        let node = self.node;
        if !node.types.has(Types::OBJECT) {
            return Err(self.wrong_type("object"));
        }
        let mut seen: u128 = 0;
        let mut count = 0;
        while let Some(key) = members.next_key_seed(KeySeed { within: &self })? {
            count += 1;
            let walked = match key {
                Key::Known(position) => {
                    let property = &node.properties[position];
                    if seen >> position & 1 == 1 {
                        let found = self.trouble.found("it is given twice");
                        self.trouble.within(|| Place::Member(property.name.clone()));
                        return Err(found);
                    }
                    seen |= 1 << position;
                    let walked = members.next_value_seed(self.deeper(&property.node));
                    walked.map_err(|error| (error, property.name.clone()))
                }
                Key::Other(name, Some(node)) => {
                    members.next_value_seed(self.deeper(node)).map_err(|error| (error, name))
                }
                Key::Other(name, None) => {
                    members.next_value::<IgnoredAny>().map(drop).map_err(|error| (error, name))
                }
            };
            if let Err((error, name)) = walked {
                self.trouble.within(|| Place::Member(name));
                return Err(error);
            }
        }
        if let Some(most) = node.max_properties.filter(|most| count > *most) {
            return Err(self.trouble.found(format!("expected at most {most} members")));
        }
        self.complete(seen)
    }
}

impl Seed<'_> {
    /// Whether what must be there is.
    fn complete<E: Error>(&self, seen: u128) -> Result<(), E> {
        let there = |position: usize| seen >> position & 1 == 1;
        for (position, property) in self.node.properties.iter().enumerate() {
            if property.required && !there(position) {
                return Err(self.trouble.found(format!("`{}` is missing", property.name)));
            }
        }
        if self.node.one_of.is_empty() {
            return Ok(());
        }
        let held = |property: &Property| self.node.one_of.contains(&property.name);
        let all = self.node.properties.iter().enumerate();
        let count = all.filter(|(at, property)| there(*at) && held(property)).count();
        if count == 1 {
            return Ok(());
        }
        let names = self.node.one_of.join(", ");
        Err(self.trouble.found(format!("expected exactly one of {names}, found {count}")))
    }
}

enum Key<'a> {
    /// Position of the property.
    Known(usize),
    Other(String, Option<&'a Node>),
}

struct KeySeed<'a, 'b> {
    within: &'b Seed<'a>,
}

impl<'a, 'de> DeserializeSeed<'de> for KeySeed<'a, '_> {
    type Value = Key<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key<'a>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a, 'de> Visitor<'de> for KeySeed<'a, '_> {
    type Value = Key<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key<'a>, E> {
        let node = self.within.node;
        let trouble = self.within.trouble;
        if let Ok(position) = node.properties.binary_search_by(|p| p.name.as_str().cmp(name)) {
            return Ok(Key::Known(position));
        }
        if let Some(names) = &node.names {
            let seed = Seed { node: names, trouble, depth: self.within.depth };
            seed.text(name).inspect_err(|_: &E| {
                let shown: String = name.chars().take(80).collect();
                trouble.within(|| Place::Member(format!("the name {shown:?}")));
            })?;
        }
        match &node.others {
            Others::Each(each) => Ok(Key::Other(name.to_owned(), Some(each))),
            Others::Any => Ok(Key::Other(name.to_owned(), None)),
            Others::None => {
                let known: Vec<&str> = node.properties.iter().map(|p| p.name.as_str()).collect();
                let shown: String = name.chars().take(80).collect();
                let hint = hint(name);
                Err(trouble.found(format!(
                    "unknown field `{shown}`{hint}; there are: {}",
                    known.join(", ")
                )))
            }
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What to do in place of asking for what cannot be had.
fn hint(name: &str) -> &'static str {
    match name {
        "disks" => {
            " (a container VM has its delta disk alone; `demand.disk_bytes` sizes it, and \
             POST /v1/placements places disks beside it)"
        }
        "networks" => {
            " (a container VM cannot be attached to networks; `network` takes `egress` or `none`, \
             and POST /v1/placements places what needs networks)"
        }
        "cpu_millis" | "memory_bytes" | "disk_bytes" => " (it stands in `demand`)",
        _ => "",
    }
}
