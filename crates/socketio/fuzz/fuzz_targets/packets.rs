//! Any text into the packet parsers: none may panic, and what is understood must come back from its own text.
//!
//! From this crate's folder: `cargo +nightly fuzz run packets fuzz/corpus/packets fuzz/seeds/packets`
#![no_main]

use libfuzzer_sys::fuzz_target;
use socketio::packet::engine::{self, Handshake};
use socketio::packet::socket::{self, Body};

fuzz_target!(|text: &str| {
    for packet in engine::decode_payload(text).flatten() {
        assert_eq!(engine::Packet::decode(&packet.encode()).as_ref(), Ok(&packet));
        match packet {
            engine::Packet::Open(data) => drop(Handshake::decode(&data)),
            engine::Packet::Message(data) => message(&data),
            _ => {}
        }
    }
    message(text);
});

fn message(text: &str) {
    let Ok(packet) = socket::Packet::decode(text) else { return };
    // Other texts may mean the same, so what is compared is what they mean.
    assert_eq!(socket::Packet::decode(&packet.encode()).as_ref(), Ok(&packet), "{text:?}");
    if let Body::Event { attachments, .. } | Body::Ack { attachments, .. } = packet.body {
        assert!(attachments <= socket::MAX_ATTACHMENTS);
    }
}
