//! Engine.IO v4, the lower protocol: one character for the type, then opaque data.
//!
//! Over a websocket each packet is a frame (binary packets are binary frames). With long polling several packets share
//! a body, separated by the character U+001E, and a binary packet is written as `b` and base64.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::PacketError;

/// Separates packets in the body of a long-polling request or response.
pub const SEPARATOR: char = '\u{1e}';

/// Bounds for the heartbeat times that a server asks for.
const HEARTBEAT: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// One Engine.IO packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// `0`: opens the session, with the JSON of a [`Handshake`].
    Open(String),
    /// `1`: the sender ends the connection.
    Close,
    /// `2`: the server's heartbeat, or `probe` before an upgrade.
    Ping(String),
    /// `3`: the response to a ping, with the same data.
    Pong(String),
    /// `4`: a Socket.IO packet.
    Message(String),
    /// `5`: switches the session to the other transport.
    Upgrade,
    /// `6`: does nothing; ends a waiting poll.
    Noop,
    /// An attachment of a Socket.IO packet.
    Binary(Bytes),
}

impl Packet {
    /// Decodes one packet from its text.
    ///
    /// # Errors
    /// [`PacketError`] if the text is empty, of an unknown type, or binary but not base64.
    pub fn decode(text: &str) -> Result<Self, PacketError> {
        let mut chars = text.chars();
        let kind = chars.next().ok_or(PacketError::Empty)?;
        let data = chars.as_str();
        Ok(match kind {
            '0' => Self::Open(data.to_owned()),
            '1' => Self::Close,
            '2' => Self::Ping(data.to_owned()),
            '3' => Self::Pong(data.to_owned()),
            '4' => Self::Message(data.to_owned()),
            '5' => Self::Upgrade,
            '6' => Self::Noop,
            'b' => Self::Binary(STANDARD.decode(data).map_err(|_| PacketError::Base64)?.into()),
            other => return Err(PacketError::UnknownType(other)),
        })
    }

    /// Encodes the packet as text.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Open(data) => format!("0{data}"),
            Self::Close => "1".to_owned(),
            Self::Ping(data) => format!("2{data}"),
            Self::Pong(data) => format!("3{data}"),
            Self::Message(data) => format!("4{data}"),
            Self::Upgrade => "5".to_owned(),
            Self::Noop => "6".to_owned(),
            Self::Binary(data) => format!("b{}", STANDARD.encode(data)),
        }
    }
}

/// Decodes the packets of a long-polling body one by one; an empty body has none.
pub fn decode_payload(body: &str) -> impl Iterator<Item = Result<Packet, PacketError>> + '_ {
    let packets = (!body.is_empty()).then(|| body.split(SEPARATOR));
    packets.into_iter().flatten().map(Packet::decode)
}

/// The server's parameters for a new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The session's id, a secret between client and server.
    pub sid: String,
    /// Whether the server offers an upgrade to a websocket.
    pub websocket: bool,
    /// How often the server pings.
    pub ping_interval: Duration,
    /// How long the server waits for the pong.
    pub ping_timeout: Duration,
    /// The largest body (or message) that the server accepts, in bytes; older servers do not report it.
    pub max_payload: Option<usize>,
}

/// The longest handshake accepted, in bytes; a real one has a few hundred.
const LONGEST_HANDSHAKE: usize = 16 * 1024;

impl Handshake {
    /// Decodes the data of a [`Packet::Open`]. Clamps the heartbeat times to between 0.1 s and one hour.
    ///
    /// # Errors
    /// [`PacketError`] if the data is not the JSON of a handshake, or is too long.
    pub fn decode(data: &str) -> Result<Self, PacketError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            sid: String,
            #[serde(default)]
            upgrades: Vec<String>,
            ping_interval: u64,
            ping_timeout: u64,
            max_payload: Option<u64>,
        }
        // Parsed, a list of strings may take some ten times as much memory as its text.
        if data.len() > LONGEST_HANDSHAKE {
            return Err(PacketError::Shape("the handshake is too long"));
        }
        let raw: Raw = serde_json::from_str(data)?;
        if raw.sid.is_empty() || raw.sid.len() > 1024 {
            return Err(PacketError::Shape("the session id is empty or too long"));
        }
        let bounded = |ms| Duration::from_millis(ms).clamp(*HEARTBEAT.start(), *HEARTBEAT.end());
        Ok(Self {
            sid: raw.sid,
            websocket: raw.upgrades.iter().any(|name| name == "websocket"),
            ping_interval: bounded(raw.ping_interval),
            ping_timeout: bounded(raw.ping_timeout),
            max_payload: raw.max_payload.map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
        })
    }

    /// A connection that receives nothing for this long is dead.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.ping_interval + self.ping_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_without_an_end_is_none() {
        let handshake = |upgrades: usize| {
            let upgrades = vec!["\"\""; upgrades].join(",");
            Handshake::decode(&format!(r#"{{"sid":"a","upgrades":[{upgrades}],"pingInterval":1,"pingTimeout":1}}"#))
        };
        assert!(handshake(1000).is_ok());
        assert!(matches!(handshake(1_000_000), Err(PacketError::Shape("the handshake is too long"))));
    }

    #[test]
    fn packets_and_their_texts() {
        let table = [
            ("0{}", Packet::Open("{}".into())),
            ("1", Packet::Close),
            ("2probe", Packet::Ping("probe".into())),
            ("3", Packet::Pong(String::new())),
            ("42[\"x\"]", Packet::Message("2[\"x\"]".into())),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("bAQID", Packet::Binary(Bytes::from_static(&[1, 2, 3]))),
        ];
        for (text, packet) in table {
            assert_eq!(Packet::decode(text), Ok(packet.clone()));
            assert_eq!(packet.encode(), text);
        }
        assert_eq!(Packet::decode(""), Err(PacketError::Empty));
        assert_eq!(Packet::decode("9"), Err(PacketError::UnknownType('9')));
        assert_eq!(Packet::decode("b?"), Err(PacketError::Base64));
    }

    #[test]
    fn payloads() {
        let all = |body| decode_payload(body).collect::<Vec<_>>();
        assert_eq!(all(""), []);
        assert_eq!(all("6"), [Ok(Packet::Noop)]);
        assert_eq!(all("2\u{1e}4hé"), [Ok(Packet::Ping(String::new())), Ok(Packet::Message("hé".into()))]);
        assert_eq!(all("6\u{1e}"), [Ok(Packet::Noop), Err(PacketError::Empty)]);
    }

    #[test]
    fn handshakes() {
        let read = |text| Handshake::decode(text);
        let full = read(
            r#"{"sid":"a","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":60000,"maxPayload":1000000}"#,
        );
        let full = full.unwrap();
        assert!(full.websocket);
        assert_eq!(full.deadline(), Duration::from_secs(85));
        assert_eq!(full.max_payload, Some(1_000_000));

        let odd = read(r#"{"sid":"a","pingInterval":0,"pingTimeout":18446744073709551615}"#).unwrap();
        assert!(!odd.websocket);
        assert_eq!(odd.max_payload, None);
        assert_eq!((odd.ping_interval, odd.ping_timeout), (*HEARTBEAT.start(), *HEARTBEAT.end()));

        for bad in ["", "[]", "{}", r#"{"sid":"","pingInterval":1,"pingTimeout":1}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
