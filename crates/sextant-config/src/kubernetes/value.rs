//! Reads Kubernetes's own types from the YAML tree, with all of their fields and no others.
//!
//! `k8s-openapi` ignores unknown fields, so a typo would go unnoticed. But it tells a deserializer which fields a type has: this one
//! compares them, and reports unknown fields with their positions.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::super::names;
use super::super::reader::{Field, Unknown};
use super::super::scalar::Scalar;
use super::super::yaml::{Entry, Node, Value};
use super::resources;

/// Reads a value of a Kubernetes type and reports errors.
pub(super) fn parse<T: DeserializeOwned>(field: &Field<'_>) -> Option<T> {
    T::deserialize(Reader(field.clone())).ok()
}

/// Why reading a value failed.
#[derive(Debug)]
enum Failure {
    /// The error has been reported.
    Noted,
    /// The error must still be reported, by the caller that knows the position.
    Told(String),
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noted => f.write_str("noted"),
            Self::Told(message) => f.write_str(message),
        }
    }
}

impl Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Told(message.to_string())
    }
}

struct Reader<'a>(Field<'a>);

impl<'a> Reader<'a> {
    fn wrong(&self, expected: &str) -> Failure {
        self.0.wrong(expected, "");
        Failure::Noted
    }

    /// Reports a visitor's error at this value.
    fn settle<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.map_err(|failure| {
            if let Failure::Told(message) = failure {
                let path = &self.0.path;
                self.0.findings.error(self.0.node.at, format!("`{path}`: {}.", names::shown(&message)));
            }
            Failure::Noted
        })
    }

    fn entry(&self, entry: &'a Entry) -> Self {
        let path = format!("{}.{}", self.0.path, names::shown(&entry.key));
        Self(Field { path, key_at: entry.at, node: &entry.value, findings: self.0.findings })
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        let path = format!("{}[{index}]", self.0.path);
        Self(Field { path, key_at: node.at, node, findings: self.0.findings })
    }

    fn visit_map<'de, V: Visitor<'de>>(self, entries: &'a [Entry], visitor: V) -> Result<V::Value, Failure> {
        let fields = entries.iter().map(|entry| (entry.key.as_str(), self.entry(entry)));
        let result = visitor.visit_map(MapDeserializer::new(fields));
        self.settle(result)
    }
}

impl<'de> IntoDeserializer<'de, Failure> for Reader<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let node = self.0.node;
        let result = match &node.value {
            Value::List(_) => return self.deserialize_seq(visitor),
            Value::Map(entries) => return self.visit_map(entries, visitor),
            Value::Scalar { text, .. } => match node.scalar() {
                Some(Scalar::Bool(value)) => visitor.visit_bool(value),
                Some(Scalar::Int(value)) => match i64::try_from(value) {
                    Ok(value) => visitor.visit_i64(value),
                    Err(_) => visitor.visit_str(text),
                },
                Some(Scalar::Float(value)) => visitor.visit_f64(value),
                Some(Scalar::Text(text)) => visitor.visit_str(text),
                Some(Scalar::Null) | None => visitor.visit_unit(),
            },
        };
        self.settle(result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.0.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let value = self.0.boolean().ok_or(Failure::Noted)?;
        let result = visitor.visit_bool(value);
        self.settle(result)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let number = self.0.number::<i64>("a whole number").ok_or(Failure::Noted)?;
        let result = visitor.visit_i64(number);
        self.settle(result)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let text = self.0.text("a text").ok_or(Failure::Noted)?;
        let result = visitor.visit_str(text);
        self.settle(result)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_string(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        if name == "Quantity" {
            let text = resources::quantity(&self.0).ok_or(Failure::Noted)?;
            return visitor.visit_str(text);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Value::List(items) = &self.0.node.value else {
            return Err(self.wrong("a list"));
        };
        let items = items.iter().enumerate().map(|(index, node)| self.item(index, node));
        let result = visitor.visit_seq(SeqDeserializer::new(items));
        self.settle(result)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Value::Map(entries) = &self.0.node.value else {
            return Err(self.wrong("a mapping"));
        };
        self.visit_map(entries, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let Value::Map(entries) = &self.0.node.value else {
            return Err(self.wrong(&format!("a mapping with {}", names::listed(fields, "or"))));
        };
        let unknown = entries.iter().filter(|entry| !fields.contains(&entry.key.as_str()));
        for entry in unknown {
            self.entry(entry).0.unknown(&entry.key, fields, Unknown::Refuse);
        }
        self.visit_map(entries, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}
