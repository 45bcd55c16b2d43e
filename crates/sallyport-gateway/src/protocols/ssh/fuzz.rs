//! The parsers of peers' bytes, as plain functions for a fuzzer or a property test to call with
//! anything at all. None may panic, loop for ever, or hold more than its bounds.

use bytes::Bytes;
use russh::keys::{Certificate, PublicKey};
use sallyport_core::authz::Reason;

use super::{
    algorithms,
    codec::Framer,
    operations,
    scp::{self, Step},
    sftp::{self, Demand},
};

/// Splits `bytes` into pieces: a length byte, then so many bytes; the lowest bit of the length says
/// which side sends.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first()?;
        let count = usize::from(head >> 1).min(rest.len());
        let (piece, rest) = rest.split_at_checked(count)?;
        bytes = rest;
        Some((head & 1 == 0, piece))
    })
}

/// Both sides of an SFTP conversation; every other question is admitted.
pub fn fuzz_sftp(bytes: &[u8]) {
    let mut conversation = sftp::Conversation::<u32>::default();
    let (mut client, mut target) = (Framer::default(), Framer::default());
    let mut questions = 0_u32;
    for (is_client, piece) in pieces(bytes) {
        let framer = if is_client { &mut client } else { &mut target };
        framer.push(piece);
        while let Ok(Some(packet)) = framer.next_packet() {
            if !is_client {
                if conversation.observe(&packet).is_err() {
                    return;
                }
                continue;
            }
            match conversation.inspect(&packet) {
                Err(_) => return,
                Ok(Demand::Decide(question)) => {
                    questions = questions.saturating_add(1);
                    if questions.is_multiple_of(2) {
                        let _ = sftp::Conversation::<u32>::refuse(&question, Reason::Forbidden);
                    } else {
                        let tickets = vec![questions; question.operations.len()];
                        conversation.admit(question, tickets);
                    }
                }
                Ok(Demand::Forward | Demand::ForwardInstead(_) | Demand::Answer(_)) => {}
            }
        }
    }
    conversation.interrupt();
}

/// Keys and certificates, as control and people write them in lines.
pub fn fuzz_keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(key) = PublicKey::from_openssh(text) {
        let _ = algorithms::accepts_user_key(&key, &key.algorithm());
    }
    let _ = Certificate::from_openssh(text);
}

/// What a client asks for on a channel: a command, a subsystem, a variable.
pub fn fuzz_requests(bytes: &[u8]) {
    let _ = operations::exec(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = operations::subsystem(&text);
    if let Some((name, value)) = text.split_once('=')
        && operations::passes_env(name, value)
    {
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        debug_assert!(is_plain(name) && is_plain(value));
    }
}

/// An exec command, and both sides of an scp conversation; every other question is admitted.
pub fn fuzz_scp(bytes: &[u8]) {
    let _ = operations::exec(bytes);
    let _ = operations::scp(bytes);
    let command = match bytes.first() {
        Some(0..=127) => operations::scp(b"scp -r -t /srv/a"),
        _ => operations::scp(b"scp -r -f /srv/a"),
    };
    let Some(command) = command else { return };
    let mut conversation = scp::Conversation::<u32>::new(command);
    let mut questions = 0_u32;
    for (is_source, piece) in pieces(bytes) {
        let mut piece = Bytes::copy_from_slice(piece);
        if !is_source {
            if conversation.sink(piece).is_err() {
                return;
            }
            continue;
        }
        loop {
            match conversation.source(&mut piece) {
                Err(_) => return,
                Ok(Step::Done | Step::AwaitAnswer) => break,
                Ok(Step::Forward(_)) => {}
                Ok(Step::Decide(_)) => {
                    questions = questions.saturating_add(1);
                    if questions.is_multiple_of(2) {
                        conversation.refuse("refused");
                    } else {
                        conversation.admit(questions);
                    }
                }
            }
        }
    }
    conversation.interrupt();
}
