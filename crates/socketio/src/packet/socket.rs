//! Socket.IO v5, the upper protocol: `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`.
//!
//! A packet with attachments announces how many; they follow as binary packets of the lower protocol, and the JSON
//! has `{"_placeholder":true,"num":n}` in their places.

use std::fmt::Write as _;

use serde_json::Value;

use super::PacketError;

/// More attachments than this in one packet are refused.
pub const MAX_ATTACHMENTS: usize = 1024;

/// The default namespace, which packets leave out.
pub const ROOT: &str = "/";

/// One Socket.IO packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// The namespace it belongs to, with its slash; [`ROOT`] when it names none.
    pub namespace: String,
    /// What it says.
    pub body: Body,
}

/// What a packet says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// `0`: asks for (with an optional auth payload), or grants (with the `sid`), the use of a namespace.
    Connect(Option<Value>),
    /// `1`: leaves the namespace.
    Disconnect,
    /// `2`, or `5` with attachments: an event.
    Event {
        /// The event's name.
        event: String,
        /// The arguments after the name.
        args: Vec<Value>,
        /// The sender wants an [`Body::Ack`] with this id.
        id: Option<u64>,
        /// So many binary packets follow.
        attachments: usize,
    },
    /// `3`, or `6` with attachments: the answer to an event.
    Ack {
        /// The id that the event asked with.
        id: u64,
        /// The answer's values.
        args: Vec<Value>,
        /// So many binary packets follow.
        attachments: usize,
    },
    /// `4`: the namespace is refused.
    ConnectError(Option<Value>),
}

impl Packet {
    /// Reads one packet.
    ///
    /// # Errors
    /// [`PacketError`] when the text is no packet of Socket.IO v5.
    pub fn decode(text: &str) -> Result<Self, PacketError> {
        let kind = text.chars().next().ok_or(PacketError::Empty)?;
        if !('0'..='6').contains(&kind) {
            return Err(PacketError::UnknownType(kind));
        }
        let mut rest = &text[1..];
        let attachments = if matches!(kind, '5' | '6') { take_attachments(&mut rest)? } else { 0 };
        let namespace = take_namespace(&mut rest).to_owned();
        let id = match kind {
            '2' | '3' | '5' | '6' => take_id(&mut rest)?,
            _ => None,
        };
        let data = if rest.is_empty() { None } else { Some(serde_json::from_str(rest)?) };

        let body = match kind {
            '0' => Body::Connect(data),
            '1' => Body::Disconnect,
            '4' => Body::ConnectError(data),
            '2' | '5' => {
                let mut values = array(data)?.into_iter();
                let Some(Value::String(event)) = values.next() else {
                    return Err(PacketError::Shape("an event must begin with its name"));
                };
                Body::Event { event, args: values.collect(), id, attachments }
            }
            _ => Body::Ack {
                id: id.ok_or(PacketError::Shape("an ack must have an id"))?,
                args: array(data)?,
                attachments,
            },
        };
        Ok(Self { namespace, body })
    }

    /// The packet's text.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(&self.namespace, &self.body)
    }
}

/// The text of a packet, from its parts.
#[must_use]
pub fn encode(namespace: &str, body: &Body) -> String {
    let (kind, attachments, id) = match body {
        Body::Connect(_) => ('0', 0, None),
        Body::Disconnect => ('1', 0, None),
        Body::ConnectError(_) => ('4', 0, None),
        Body::Event { id, attachments: 0, .. } => ('2', 0, *id),
        Body::Event { id, attachments, .. } => ('5', *attachments, *id),
        Body::Ack { id, attachments: 0, .. } => ('3', 0, Some(*id)),
        Body::Ack { id, attachments, .. } => ('6', *attachments, Some(*id)),
    };
    let mut text = String::from(kind);
    // Writing to a String cannot fail.
    if attachments > 0 {
        let _ = write!(text, "{attachments}-");
    }
    if namespace != ROOT {
        let _ = write!(text, "{namespace},");
    }
    if let Some(id) = id {
        let _ = write!(text, "{id}");
    }
    match body {
        Body::Connect(Some(data)) | Body::ConnectError(Some(data)) => {
            let _ = write!(text, "{data}");
        }
        Body::Connect(None) | Body::ConnectError(None) | Body::Disconnect => {}
        Body::Event { event, args, .. } => write_array(&mut text, Some(event), args),
        Body::Ack { args, .. } => write_array(&mut text, None, args),
    }
    text
}

fn write_array(text: &mut String, event: Option<&str>, args: &[Value]) {
    text.push('[');
    if let Some(event) = event {
        let _ = write!(text, "{}", Value::from(event));
    }
    for (index, arg) in args.iter().enumerate() {
        let comma = if index > 0 || event.is_some() { "," } else { "" };
        let _ = write!(text, "{comma}{arg}");
    }
    text.push(']');
}

fn take_attachments(rest: &mut &str) -> Result<usize, PacketError> {
    const SHAPE: PacketError = PacketError::Shape("a binary packet must say how many attachments it has");
    let (digits, after) = rest.split_once('-').ok_or(SHAPE)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SHAPE);
    }
    *rest = after;
    match digits.parse() {
        Ok(count) if count <= MAX_ATTACHMENTS => Ok(count),
        _ => Err(PacketError::Shape("too many attachments")),
    }
}

fn take_namespace<'a>(rest: &mut &'a str) -> &'a str {
    if !rest.starts_with('/') {
        return ROOT;
    }
    let (namespace, after) = rest.split_once(',').unwrap_or((rest, ""));
    *rest = after;
    namespace
}

fn take_id(rest: &mut &str) -> Result<Option<u64>, PacketError> {
    let end = rest.bytes().take_while(u8::is_ascii_digit).count();
    if end == 0 {
        return Ok(None);
    }
    let (digits, after) = rest.split_at(end);
    *rest = after;
    digits.parse().map(Some).map_err(|_| PacketError::Shape("the ack id is too large"))
}

fn array(data: Option<Value>) -> Result<Vec<Value>, PacketError> {
    match data {
        Some(Value::Array(values)) => Ok(values),
        _ => Err(PacketError::Shape("the data must be an array")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn packet(namespace: &str, body: Body) -> Packet {
        Packet { namespace: namespace.into(), body }
    }

    fn event(args: &[Value], id: Option<u64>, attachments: usize) -> Body {
        Body::Event { event: "hey".into(), args: args.to_vec(), id, attachments }
    }

    #[test]
    fn packets_and_their_texts() {
        let table = [
            ("0", packet("/", Body::Connect(None))),
            (r#"0/tasks,{"sid":"x"}"#, packet("/tasks", Body::Connect(Some(json!({"sid": "x"}))))),
            // A number is data here: only events and acks have ids.
            ("412", packet("/", Body::ConnectError(Some(json!(12))))),
            ("1", packet("/", Body::Disconnect)),
            ("1/tasks,", packet("/tasks", Body::Disconnect)),
            (r#"2["hey"]"#, packet("/", event(&[], None, 0))),
            (r#"2/tasks,12["hey",{"a":"/b,"}]"#, packet("/tasks", event(&[json!({"a": "/b,"})], Some(12), 0))),
            (
                r#"51-/tasks,["hey",{"_placeholder":true,"num":0}]"#,
                packet("/tasks", event(&[json!({"_placeholder": true, "num": 0})], None, 1)),
            ),
            ("3/tasks,7[]", packet("/tasks", Body::Ack { id: 7, args: vec![], attachments: 0 })),
            ("62-1[1,null]", packet("/", Body::Ack { id: 1, args: vec![json!(1), json!(null)], attachments: 2 })),
            (r#"4/tasks,{"message":"no"}"#, packet("/tasks", Body::ConnectError(Some(json!({"message": "no"}))))),
        ];
        for (text, packet) in table {
            assert_eq!(Packet::decode(text).as_ref(), Ok(&packet), "{text}");
            assert_eq!(packet.encode(), text);
        }
    }

    #[test]
    fn other_texts_for_the_same() {
        assert_eq!(Packet::decode("1/tasks").unwrap().namespace, "/tasks");
        assert_eq!(Packet::decode(r#"50-["hey"]"#).unwrap().body, event(&[], None, 0));
    }

    #[test]
    fn no_packets() {
        let bad = [
            "",
            "7",
            "é",
            "2",
            "2{}",
            "2[]",
            "2[1]",
            "2[",
            "3[]",
            "5",
            r#"5["x"]"#,
            r#"5-["x"]"#,
            r#"5+1-["x"]"#,
            r#"599999999999999999999-["x"]"#,
            r#"51025-["x"]"#,
            r#"299999999999999999999["x"]"#,
        ];
        for text in bad {
            assert!(Packet::decode(text).is_err(), "{text}");
        }
        let deep = format!("2[\"x\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(Packet::decode(&deep), Err(PacketError::Json { .. })));
    }
}
