//! Socket.IO: any text into the packet parsers. What is understood must come back from its own text; a body of several packets is
//! its packets; and what is put together keeps to its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use socketio::fuzzing::assemble;
use socketio::packet::engine::{self, Handshake};
use socketio::packet::socket::{self, Body};

/// The largest event that is put together.
const LARGEST: usize = 200;

fuzz_target!(|text: &str| {
    let packets: Vec<engine::Packet> = engine::decode_payload(text).flatten().collect();
    for packet in &packets {
        assert_eq!(engine::Packet::decode(&packet.encode()).as_ref(), Ok(packet));
        match packet {
            engine::Packet::Open(data) => handshake(data),
            engine::Packet::Message(data) => message(data),
            _ => {}
        }
    }
    let separator = engine::SEPARATOR.to_string();
    let body = packets.iter().map(engine::Packet::encode).collect::<Vec<_>>().join(&separator);
    let again: Result<Vec<_>, _> = engine::decode_payload(&body).collect();
    assert_eq!(again.as_ref(), Ok(&packets));

    for (body, attachments, size) in assemble("/tasks", LARGEST, packets).unwrap_or_default() {
        let expected = match body {
            Body::Event { attachments, .. } | Body::Ack { attachments, .. } => attachments,
            _ => 0,
        };
        assert_eq!(attachments.len(), expected);
        assert!(attachments.is_empty() || size <= LARGEST, "{size} bytes");
    }
    message(text);
});

fn handshake(data: &str) {
    let Ok(handshake) = Handshake::decode(data) else { return };
    assert!(!handshake.deadline().is_zero() && !handshake.sid.is_empty());
}

fn message(text: &str) {
    let Ok(packet) = socket::Packet::decode(text) else { return };
    // Other texts may mean the same, so what is compared is what they mean.
    assert_eq!(socket::Packet::decode(&packet.encode()).as_ref(), Ok(&packet), "{text:?}");
    if let Body::Event { attachments, .. } | Body::Ack { attachments, .. } = packet.body {
        assert!(attachments <= socket::MAX_ATTACHMENTS);
    }
}
