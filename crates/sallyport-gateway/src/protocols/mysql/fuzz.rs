//! The parsers of peers' bytes, as plain functions for a fuzzer or a property test to call with anything at
//! all. None may panic, loop for ever, or hold more than its bounds.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{
    codec::{self, Body},
    login::{self, Answer, Greeting},
    operations::Text,
    values,
};

/// What a client says while it logs in.
pub fn fuzz_answer(bytes: &[u8]) {
    let _ = login::asks_for_tls(bytes);
    if let Ok(answer) = Answer::read(bytes) {
        let mut out = BytesMut::new();
        let _ = answer.put(&mut out, 0);
    }
}

/// What a target says while it is logged in to, and what it answers.
pub fn fuzz_target(bytes: &[u8]) {
    let _ = Greeting::read(bytes);
    if let Ok(success) = codec::success(bytes) {
        let _ = success.changes();
    }
    let _ = codec::server_error(bytes);
    let mut buffer = BytesMut::from(bytes);
    let mut sequence = 0;
    while let Ok(Some(packet)) = codec::take_packet(&mut buffer, sequence, 64 * 1024) {
        sequence = packet.sequence.wrapping_add(1);
        let _ = packet.payload();
    }
}

/// What a client has a target run: the text of a statement, and values after a byte that says how many.
pub fn fuzz_statement(bytes: &[u8]) {
    let _ = Text::of(bytes, true, None);
    let _ = Text::of(bytes, false, Some("shop"));
    let _ = Text::of_field_list(bytes, None);
    if let Some((count, rest)) = bytes.split_first() {
        let mut types = Vec::new();
        let ahead = BTreeMap::new();
        let _ = values::read(Body::new(rest), u16::from(*count), &mut types, &ahead);
    }
}
