//! Properties of all packets, and of all texts that are not packets.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]
#![allow(clippy::unwrap_used, reason = "a test that fails, panics")]

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use socketio::packet::engine::{self, Handshake, SEPARATOR};
use socketio::packet::socket::{self, Body, MAX_ATTACHMENTS};
use socketio::packet::{Args, Json};

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((".*", inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn body() -> impl Strategy<Value = Body> {
    let args = || vec(json(), 0..4).prop_map(Args::from);
    let data = || prop::option::of(json().prop_map(Json::from));
    prop_oneof![
        data().prop_map(Body::Connect),
        data().prop_map(Body::ConnectError),
        Just(Body::Disconnect),
        (".*", args(), any::<Option<u64>>(), 0..=MAX_ATTACHMENTS)
            .prop_map(|(event, args, id, attachments)| Body::Event { event, args, id, attachments }),
        (any::<u64>(), args(), 0..=MAX_ATTACHMENTS).prop_map(|(id, args, attachments)| Body::Ack {
            id,
            args,
            attachments
        }),
    ]
}

fn engine_packet() -> impl Strategy<Value = engine::Packet> {
    use engine::Packet;
    // The separator cannot be in a packet's text: JSON writes it as an escape.
    let text = || "[^\u{1e}]*";
    prop_oneof![
        text().prop_map(Packet::Open),
        Just(Packet::Close),
        text().prop_map(Packet::Ping),
        text().prop_map(Packet::Pong),
        text().prop_map(Packet::Message),
        Just(Packet::Upgrade),
        Just(Packet::Noop),
        vec(any::<u8>(), 0..100).prop_map(|data| Packet::Binary(data.into())),
    ]
}

proptest! {
    #[test]
    fn a_packet_comes_back_from_its_text(
        namespace in prop_oneof![Just("/".to_owned()), "/[^,\u{1e}\u{0}]*"],
        body in body(),
    ) {
        let packet = socket::Packet { namespace, body };
        let text = packet.encode();
        prop_assert!(!text.contains(SEPARATOR));
        prop_assert_eq!(socket::Packet::decode(&text), Ok(packet));
    }

    #[test]
    fn a_payload_comes_back_from_its_text(packets in vec(engine_packet(), 0..20)) {
        let texts: Vec<_> = packets.iter().map(engine::Packet::encode).collect();
        let body = texts.join(&SEPARATOR.to_string());
        let decoded: Result<Vec<_>, _> = engine::decode_payload(&body).collect();
        prop_assert_eq!(decoded, Ok(packets));
    }

    #[test]
    fn no_text_panics(text in ".*") {
        let _ = socket::Packet::decode(&text);
        let _ = Handshake::decode(&text);
        engine::decode_payload(&text).for_each(drop);
    }

    #[test]
    fn no_nearly_packet_panics(text in "[0-6b]{1,2}[0-9-]{0,4}(/[a-z]{0,2},?)?[0-9]{0,3}[\\[\\]{}\",:a0é\u{1e}]{0,12}") {
        let _ = socket::Packet::decode(&text);
        engine::decode_payload(&text).for_each(drop);
    }
}
