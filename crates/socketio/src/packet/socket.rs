//! Socket.IO v5, the upper protocol: `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`.
//!
//! A packet with attachments announces their number. They follow as binary packets of the lower protocol; the JSON has
//! `{"_placeholder":true,"num":n}` in their places.
//!
//! A packet is read in two steps: first its [`Header`], then its data. The header is also readable in the beginning of a
//! packet that is too large.

#![expect(clippy::disallowed_types, reason = "a name of this side's, to be sent")]

use std::fmt::Write as _;

use serde_json::Value;

use super::PacketError;
use super::json::{Args, Json, Split};

/// The most attachments that one packet may have.
pub const MAX_ATTACHMENTS: usize = 1024;

/// The longest name of an event that is accepted, in bytes of its JSON.
pub const MAX_NAME: usize = 1024;

/// The default namespace, which packets omit.
pub const ROOT: &str = "/";

/// One Socket.IO packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// The namespace it belongs to, with its slash; [`ROOT`] if the packet names none.
    pub namespace: String,
    /// Its type and content.
    pub body: Body,
}

/// A packet's type and content.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// `0`: requests a namespace (with an optional auth payload), or grants it (with the `sid`).
    Connect(Option<Json>),
    /// `1`: leaves the namespace.
    Disconnect,
    /// `2`, or `5` with attachments: an event.
    Event {
        /// The event's name.
        event: String,
        /// The arguments after the name.
        args: Args,
        /// Set if the sender wants a [`Body::Ack`] with this id.
        id: Option<u64>,
        /// How many binary packets follow.
        attachments: usize,
    },
    /// `3`, or `6` with attachments: the response to an event.
    Ack {
        /// The id in the event.
        id: u64,
        /// The response's values.
        args: Args,
        /// How many binary packets follow.
        attachments: usize,
    },
    /// `4`: refuses the namespace.
    ConnectError(Option<Json>),
}

impl Packet {
    /// Decodes one packet.
    ///
    /// # Errors
    /// [`PacketError`] if the text is not a packet of Socket.IO v5.
    pub fn decode(text: &str) -> Result<Self, PacketError> {
        let (header, data) = Header::read(text)?;
        Ok(Self { namespace: header.namespace.to_owned(), body: header.body(data)? })
    }

    /// Encodes the packet as text.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(&self.namespace, &self.body)
    }
}

/// The part of a packet before its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    kind: Kind,
    /// How many binary packets follow.
    pub attachments: usize,
    pub namespace: &'a str,
    id: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

impl<'a> Header<'a> {
    /// Reads the header and returns it with the unread data.
    pub fn read(text: &'a str) -> Result<(Self, &'a str), PacketError> {
        let first = text.chars().next().ok_or(PacketError::Empty)?;
        let kind = match first {
            '0' => Kind::Connect,
            '1' => Kind::Disconnect,
            '2' | '5' => Kind::Event,
            '3' | '6' => Kind::Ack,
            '4' => Kind::ConnectError,
            other => return Err(PacketError::UnknownType(other)),
        };
        let mut rest = &text[1..];
        let attachments = if matches!(first, '5' | '6') { take_attachments(&mut rest)? } else { 0 };
        let namespace = take_namespace(&mut rest);
        // In other packets a number here is data.
        let id = if matches!(kind, Kind::Event | Kind::Ack) { take_id(&mut rest)? } else { None };
        Ok((Self { kind, attachments, namespace, id }, rest))
    }

    /// Reads the data.
    pub fn body(&self, data: &str) -> Result<Body, PacketError> {
        const ARRAY: PacketError = PacketError::Shape("the data must be an array");
        let json = || if data.is_empty() { Ok(None) } else { Json::checked(data).map(Some) };
        let Self { attachments, id, .. } = *self;
        Ok(match self.kind {
            Kind::Connect => Body::Connect(json()?),
            Kind::Disconnect => Body::Disconnect,
            Kind::ConnectError => Body::ConnectError(json()?),
            Kind::Event if data.is_empty() => return Err(ARRAY),
            Kind::Event => {
                const NAME: PacketError = PacketError::Shape("an event must begin with its name");
                let Split { first, others } = Split::of(data)?.ok_or(NAME)?;
                if first.len() > MAX_NAME {
                    return Err(PacketError::Shape("the event's name is too long"));
                }
                let event = serde_json::from_str(first).map_err(|_| NAME)?;
                Body::Event { event, args: Args::inside(others), id, attachments }
            }
            Kind::Ack => {
                let id = id.ok_or(PacketError::Shape("an ack must have an id"))?;
                if data.is_empty() {
                    return Err(ARRAY);
                }
                Body::Ack { id, args: Args::checked(data)?, attachments }
            }
        })
    }

    /// Returns the name of an event whose data is incomplete or unreadable; `None` for other packets.
    pub fn event_name(&self, data: &str) -> Option<String> {
        if self.kind != Kind::Event {
            return None;
        }
        let name = data.trim_start().strip_prefix('[')?.trim_start();
        let mut escaped = false;
        let end = name.bytes().take(MAX_NAME).skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        serde_json::from_str(name.get(..end + 2)?).ok()
    }
}

/// Encodes a packet from its parts.
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
            text.push_str(data.as_str());
        }
        Body::Connect(None) | Body::ConnectError(None) | Body::Disconnect => {}
        Body::Event { event, args, .. } => write_array(&mut text, Some(event), args),
        Body::Ack { args, .. } => write_array(&mut text, None, args),
    }
    text
}

/// Writes the arguments, which are already an array, with an event's name as its first element.
fn write_array(text: &mut String, event: Option<&str>, args: &Args) {
    let Some(event) = event else { return text.push_str(args.as_str()) };
    let others = args.as_str().get(1..).unwrap_or("]");
    let comma = if others == "]" { "" } else { "," };
    // Writing to a String cannot fail.
    let _ = write!(text, "[{}{comma}{others}", Value::from(event));
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn packet(namespace: &str, body: Body) -> Packet {
        Packet { namespace: namespace.into(), body }
    }

    fn event(args: &[Value], id: Option<u64>, attachments: usize) -> Body {
        Body::Event { event: "hey".into(), args: args.to_vec().into(), id, attachments }
    }

    #[test]
    fn packets_and_their_texts() {
        let table = [
            ("0", packet("/", Body::Connect(None))),
            (r#"0/tasks,{"sid":"x"}"#, packet("/tasks", Body::Connect(Some(json!({"sid": "x"}).into())))),
            // The number is data here: only events and acks have ids.
            ("412", packet("/", Body::ConnectError(Some(json!(12).into())))),
            ("1", packet("/", Body::Disconnect)),
            ("1/tasks,", packet("/tasks", Body::Disconnect)),
            (r#"2["hey"]"#, packet("/", event(&[], None, 0))),
            (r#"2/tasks,12["hey",{"a":"/b,"}]"#, packet("/tasks", event(&[json!({"a": "/b,"})], Some(12), 0))),
            (
                r#"51-/tasks,["hey",{"_placeholder":true,"num":0}]"#,
                packet("/tasks", event(&[json!({"_placeholder": true, "num": 0})], None, 1)),
            ),
            ("3/tasks,7[]", packet("/tasks", Body::Ack { id: 7, args: Args::default(), attachments: 0 })),
            ("62-1[1,null]", packet("/", Body::Ack { id: 1, args: [json!(1), json!(null)].into(), attachments: 2 })),
            (
                r#"4/tasks,{"message":"no"}"#,
                packet("/tasks", Body::ConnectError(Some(json!({"message": "no"}).into()))),
            ),
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
        let long = format!(r#"2["{}"]"#, "x".repeat(MAX_NAME));
        assert!(matches!(Packet::decode(&long), Err(PacketError::Shape(_))));
    }

    #[test]
    fn data_of_any_depth_stays_text() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let Body::Event { args, .. } = Packet::decode(&format!("2[\"x\",{deep}]")).unwrap().body else { panic!() };
        assert_eq!(args.as_str(), format!("[{deep}]"));
    }

    #[test]
    fn the_name_of_an_event_that_is_not_all_there() {
        for (text, name) in [
            (r#"2/a,["hey",{"x":"#, Some("hey")),
            (r#"51-/a,7[ "h\u0065y\"",NaN]"#, Some("hey\"")),
            (r#"2["hey"#, None),
            ("2[1]", None),
            ("2", None),
            (r#"3/a,1["hey"]"#, None),
        ] {
            let (header, data) = Header::read(text).unwrap();
            assert_eq!(header.event_name(data).as_deref(), name, "{text}");
        }
        let long = format!(r#"2["{}"]"#, "x".repeat(MAX_NAME));
        let (header, data) = Header::read(&long).unwrap();
        assert_eq!(header.event_name(data), None);
    }
}
