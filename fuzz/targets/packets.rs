//! Socket.IO: any text into the packet parsers. What is understood must come back from its own text; a body of several packets is
//! its packets, however it arrives; what is put together keeps to its bounds; and nothing that others can send (inside an
//! Engine.IO message) ends the connection.
#![no_main]

use fuzz::{pieces, whole};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use socketio::fuzzing::{assemble, split};
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

    for heard in assemble("/tasks", LARGEST, packets) {
        let (body, attachments, size) = match heard {
            Ok(whole) => whole,
            Err(event) => {
                assert!(event.len() <= socket::MAX_NAME);
                continue;
            }
        };
        let expected = match body {
            Body::Event { attachments, .. } | Body::Ack { attachments, .. } => attachments,
            _ => 0,
        };
        assert_eq!(attachments.len(), expected);
        assert!(size <= LARGEST, "{size} bytes");
    }
    arriving(text);
    message(text);
});

/// A body of long polling: in pieces as in one, each packet whole or, if it is too large, its beginning.
fn arriving(text: &str) {
    let all = split(&whole(text.as_bytes()), LARGEST);
    assert_eq!(all, split(&pieces(text.as_bytes()), LARGEST));
    let parts: Vec<&str> = if text.is_empty() { vec![] } else { text.split(engine::SEPARATOR).collect() };
    assert_eq!(all.len(), parts.len());
    for (part, text) in parts.into_iter().zip(all) {
        match text {
            Ok(text) => assert!(text == part.as_bytes() && part.len() <= LARGEST),
            Err(head) => assert!(part.len() > LARGEST && part.as_bytes().starts_with(&head)),
        }
    }
}

fn handshake(data: &str) {
    let Ok(handshake) = Handshake::decode(data) else { return };
    assert!(!handshake.deadline().is_zero() && !handshake.sid.is_empty());
}

fn message(text: &str) {
    let Ok(packet) = socket::Packet::decode(text) else { return };
    // Other texts may mean the same, so what is compared is what they mean.
    assert_eq!(socket::Packet::decode(&packet.encode()).as_ref(), Ok(&packet), "{text:?}");
    if let Body::Event { attachments, args, .. } | Body::Ack { attachments, args, .. } = packet.body {
        assert!(attachments <= socket::MAX_ATTACHMENTS);
        // Data of any depth is whole JSON, a list, and costs no stack.
        args.read::<Vec<IgnoredAny>>().unwrap();
        let _ = args.first::<u64>();
    }
}
