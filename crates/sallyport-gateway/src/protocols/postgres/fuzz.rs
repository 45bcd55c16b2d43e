//! The parsers of peers' bytes, as plain functions for a fuzzer or a property test to call with
//! anything at all. None may panic, loop for ever, or hold more than its bounds.
//!
//! Not here: which answer belongs to which message (`relay`), which tests of its own follow through any
//! order.

use sallyport_core::{
    id::SessionId,
    session::{OPERATION_DETAIL_BYTES_MAX, PARAMETER_BYTES_MAX, PARAMETERS_MAX},
    time::Timestamp,
};
use sallyport_wire::{
    scram::{self, Binding, Exchange},
    trust,
};

use super::{
    codec::{self, Body, FirstMessage, STARTUP_PARAMETERS_MAX},
    operations::{self, Text},
    startup,
};
use crate::statement::Shapes;

/// Rounds of hashing that are worth a fuzzer's time.
const HASHED_ROUNDS_MAX: u32 = 16;

/// A client's first message. What of it goes to a target is read there as it was checked here, and a
/// request to cancel is the one that was read.
pub fn fuzz_startup(bytes: &[u8]) {
    let Ok(Some(length)) = codec::first_length(bytes) else {
        return;
    };
    let Some(message) = bytes.get(..length) else {
        return;
    };
    match codec::first_message(message) {
        Ok(FirstMessage::Cancel(key)) => {
            let written = codec::cancel_request(&key);
            assert_eq!(written.as_deref(), Ok(message));
        }
        Ok(FirstMessage::Startup(startup)) => {
            let Ok(wanted) = startup::wanted(&startup, "app") else {
                return;
            };
            let id = SessionId::new(Timestamp::EPOCH, [1; 10]);
            let parameters = wanted.parameters("app", &id, false);
            let written = codec::startup_message(&parameters);
            let read = written.and_then(|written| codec::first_message(&written));
            if parameters.len() <= STARTUP_PARAMETERS_MAX {
                let is_same = matches!(&read, Ok(FirstMessage::Startup(read)) if read.parameters == parameters);
                assert!(is_same, "{parameters:?} became {read:?}");
            }
        }
        Ok(FirstMessage::SslRequest | FirstMessage::GssRequest) | Err(_) => {}
    }
}

/// Messages of either side after the login, one after the other; the last may be cut.
pub fn fuzz_messages(mut bytes: &[u8]) {
    while let Ok(Some(header)) = codec::header(bytes) {
        let Some((message, rest)) = bytes.split_at_checked(header.bytes) else {
            let _ = operations::bind(Body::of(bytes), false);
            return;
        };
        bytes = rest;
        let mut body = Body::of(message);
        match header.kind {
            b'B' => {
                let Ok(bound) = operations::bind(body, true) else {
                    continue;
                };
                let text = Text::of(bound.statement, "shop", &Shapes::default());
                let record = text.record(&bound.parameters);
                let is_bounded = |value: &String| value.len() <= PARAMETER_BYTES_MAX;
                assert!(record.parameters.iter().flatten().all(is_bounded));
                assert!(record.parameters.len() <= PARAMETERS_MAX);
                if let Some(whole) = text.operation_with(&bound.parameters) {
                    assert!(whole.detail.len() <= OPERATION_DETAIL_BYTES_MAX);
                }
            }
            b'E' => {
                let error = codec::server_error(body);
                assert!(matches!(error.sqlstate.len(), 0 | 5), "{error:?}");
            }
            b'F' => drop(operations::function_call(body)),
            b'C' => {
                if let Ok(tag) = body.utf8() {
                    let _ = operations::rows_of(tag);
                }
            }
            _ => {
                if let Ok(sql) = body.text() {
                    let text = Text::of(sql, "shop", &Shapes::default());
                    assert!(text.operation().detail.len() <= OPERATION_DETAIL_BYTES_MAX);
                    let _ = text.in_doubt();
                }
            }
        }
    }
}

/// What a target says while it is logged in to: the two messages of its proof, a line each, and its
/// certificate.
pub fn fuzz_login(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (first, last) = (lines.next(), lines.next());
    // A nonce of no bytes, so that any may follow it.
    let exchange = Exchange::new(Binding::Impossible, &[]);
    if let Ok(challenge) = exchange.challenge(first.unwrap_or_default()) {
        let rounds = challenge.iterations.get();
        assert!(rounds <= scram::ITERATIONS_MAX);
        // More of them take longer, and that is all.
        if rounds <= HASHED_ROUNDS_MAX {
            let (answer, unproven) = exchange.answer(&challenge, &challenge.hash("a password"));
            assert!(answer.starts_with("c="));
            let _ = unproven.check(last.unwrap_or_default());
        }
    }
    let _ = trust::end_point(bytes);
}
