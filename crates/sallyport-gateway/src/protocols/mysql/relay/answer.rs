//! What a target's packets are that answer one command: pure.
//!
//! A command has exactly one answer, and no other is begun before it ends. Which packet ends it depends on
//! what was asked, on what came before, and on whether definitions end with a packet of their own.
//!
//! INVARIANT: a packet that fits nowhere is an error, which ends the session; rows are never read as anything
//! else.
//!
//! Not here: moving bytes (`relay`).

use super::super::{
    codec::{
        self, Body, CURSOR_EXISTS, CodecError, END, ERROR, FILE_WANTED, MORE_RESULTS, OK,
        PAYLOAD_MAX, ServerError, Success,
    },
    limits::RESULTS_MAX,
};

/// Most columns of one result, and parameters of one statement.
const DEFINITIONS_MAX: u64 = 0xffff;

/// A target's packet that answers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("find what the target answers with a packet that begins with {first:#04x}")]
pub(in super::super) struct Unasked {
    /// Its first byte.
    pub(super) first: u8,
}

/// What a command is answered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// One packet: it succeeded, or did not.
    One,
    /// One packet of words.
    Words,
    /// Results, one or more; `may_ask` for a file of the client's.
    Results { may_ask: bool },
    /// What a prepared statement takes and gives.
    Prepared,
    /// More rows of a cursor.
    Rows,
    /// Definitions, until they end.
    Fields,
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// Something that only passes.
    Passing,
    /// A row.
    Row,
    /// Something succeeded.
    Success(Success<'a>),
    /// Definitions or rows ended, with this status.
    End(u16),
    /// Something failed.
    Failed(ServerError),
    /// The target asks for this file of the client's.
    FileWanted(&'a [u8]),
    /// A statement is prepared under this number, with so many parameters.
    Prepared { number: u32, parameters: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    /// So many definitions are to come, then this.
    Definitions(u64, Then),
    /// The packet that ends definitions is to come, then this.
    DefinitionsEnd(Then),
    Rows,
    Fields,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Rows,
    /// Definitions of so many columns.
    Columns(u64),
    Nothing,
}

/// Follows the answer to one command.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    expected: Expected,
    /// Definitions are not followed by a packet that ends them.
    has_no_end: bool,
    state: State,
    results: u32,
    /// The last packet is continued by the next.
    is_continued: bool,
}

impl Answer {
    pub(super) const fn to(expected: Expected, has_no_end: bool) -> Self {
        let state = match expected {
            Expected::Rows => State::Rows,
            Expected::Fields => State::Fields,
            _ => State::First,
        };
        Self {
            expected,
            has_no_end,
            state,
            results: 0,
            is_continued: false,
        }
    }

    /// Whether nothing of the answer is to come.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done && !self.is_continued
    }

    /// Whether the next packet defines a field of rows that are to come.
    pub(super) fn is_describing(&self) -> bool {
        matches!(self.state, State::Definitions(_, Then::Rows)) && !self.is_continued
    }

    /// Whether the packet that begins with this byte has to be there whole before it is followed.
    pub(super) fn needs_whole(&self, first: u8, length: usize) -> bool {
        if self.is_continued || length >= PAYLOAD_MAX {
            return false;
        }
        match self.state {
            State::First => self.expected != Expected::Words,
            State::Definitions(..) => first == ERROR,
            State::Rows | State::Fields => matches!(first, END | ERROR),
            State::DefinitionsEnd(_) | State::Done => true,
        }
    }

    /// Whether the packet of this length that begins with this byte is a row, of which nothing came before.
    pub(super) fn is_row(&self, first: Option<u8>, length: usize) -> bool {
        let is_other = matches!(first, None | Some(END | ERROR)) && length < PAYLOAD_MAX;
        self.state == State::Rows && !self.is_continued && !is_other
    }

    /// Follows the next packet, of this length. `payload` is all of it where [`Answer::needs_whole`], its
    /// beginning otherwise; it is empty where the packet is.
    pub(super) fn follow<'a>(
        &mut self,
        payload: &'a [u8],
        length: usize,
    ) -> Result<Seen<'a>, Unasked> {
        let continues = std::mem::replace(&mut self.is_continued, length >= PAYLOAD_MAX);
        if continues {
            return Ok(Seen::Passing);
        }
        let first = payload.first().copied().ok_or(Unasked { first: 0 })?;
        let odd = |_: CodecError| Unasked { first };
        match self.state {
            State::First => self.first(first, payload, length),
            State::Definitions(..) | State::DefinitionsEnd(_) | State::Rows | State::Fields
                if first == ERROR && length < PAYLOAD_MAX =>
            {
                self.state = State::Done;
                Ok(Seen::Failed(codec::server_error(payload)))
            }
            State::Definitions(left, then) => {
                self.state = self.after_definitions(left.saturating_sub(1), then);
                Ok(Seen::Passing)
            }
            State::DefinitionsEnd(then) => {
                if first != END {
                    return Err(Unasked { first });
                }
                let status = codec::end_status(payload).map_err(odd)?;
                self.state = match then {
                    // The rows of a cursor are asked for.
                    Then::Rows if status & CURSOR_EXISTS != 0 => State::Done,
                    then => self.next(then),
                };
                Ok(Seen::End(status))
            }
            State::Rows | State::Fields if first == END && length < PAYLOAD_MAX => {
                let seen = end(payload).map_err(odd)?;
                let status = match &seen {
                    Seen::Success(success) => success.status,
                    Seen::End(status) => *status,
                    _ => 0,
                };
                self.result_ended(status, first)?;
                Ok(seen)
            }
            State::Rows => Ok(Seen::Row),
            State::Fields => Ok(Seen::Passing),
            State::Done => Err(Unasked { first }),
        }
    }

    fn first<'a>(
        &mut self,
        first: u8,
        payload: &'a [u8],
        length: usize,
    ) -> Result<Seen<'a>, Unasked> {
        let odd = |_: CodecError| Unasked { first };
        if length >= PAYLOAD_MAX {
            return Err(Unasked { first });
        }
        if first == ERROR {
            self.state = State::Done;
            return Ok(Seen::Failed(codec::server_error(payload)));
        }
        match (self.expected, first) {
            (Expected::Words, _) => {
                self.state = State::Done;
                Ok(Seen::Passing)
            }
            (Expected::One, OK) => {
                self.state = State::Done;
                Ok(Seen::Success(codec::success(payload).map_err(odd)?))
            }
            (Expected::One, END) => {
                self.state = State::Done;
                end(payload).map_err(odd)
            }
            (Expected::Prepared, OK) => self.prepared(payload).map_err(odd),
            (Expected::Results { .. }, OK) => {
                let success = codec::success(payload).map_err(odd)?;
                self.result_ended(success.status, first)?;
                Ok(Seen::Success(success))
            }
            (Expected::Results { may_ask: true }, FILE_WANTED) => {
                Ok(Seen::FileWanted(payload.get(1..).unwrap_or_default()))
            }
            (Expected::Results { .. }, _) => {
                let mut body = Body::new(payload);
                let columns = body.number().map_err(odd)?;
                if !(1..=DEFINITIONS_MAX).contains(&columns) || !body.is_empty() {
                    return Err(Unasked { first });
                }
                self.state = State::Definitions(columns, Then::Rows);
                Ok(Seen::Passing)
            }
            _ => Err(Unasked { first }),
        }
    }

    fn prepared<'a>(&mut self, payload: &[u8]) -> Result<Seen<'a>, CodecError> {
        let mut body = Body::new(payload);
        body.byte()?;
        let number = body.u32()?;
        let columns = u64::from(body.u16()?);
        let parameters = body.u16()?;
        self.state = self.definitions(u64::from(parameters), Then::Columns(columns));
        Ok(Seen::Prepared { number, parameters })
    }

    /// The state in which so many definitions are to come.
    fn definitions(&self, count: u64, then: Then) -> State {
        match count {
            0 => self.next(then),
            count => State::Definitions(count, then),
        }
    }

    fn after_definitions(&self, left: u64, then: Then) -> State {
        match left {
            0 if self.has_no_end => self.next(then),
            0 => State::DefinitionsEnd(then),
            left => State::Definitions(left, then),
        }
    }

    fn next(&self, then: Then) -> State {
        match then {
            Then::Rows => State::Rows,
            Then::Columns(count) => self.definitions(count, Then::Nothing),
            Then::Nothing => State::Done,
        }
    }

    fn result_ended(&mut self, status: u16, first: u8) -> Result<(), Unasked> {
        self.results = self.results.saturating_add(1);
        let has_more = status & MORE_RESULTS != 0;
        let may_have_more = matches!(self.expected, Expected::Results { .. });
        self.state = match has_more && may_have_more {
            true if self.results >= RESULTS_MAX => return Err(Unasked { first }),
            true => State::First,
            false => State::Done,
        };
        Ok(())
    }
}

/// The packet that ends definitions or rows, in the old form or the new one.
fn end(payload: &[u8]) -> Result<Seen<'_>, CodecError> {
    const OLD_BYTES: usize = 5;
    match payload.len() {
        OLD_BYTES => Ok(Seen::End(codec::end_status(payload)?)),
        _ => Ok(Seen::Success(codec::success(payload)?)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUCCESS: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];
    const SUCCESS_AND_MORE: [u8; 7] = [0, 1, 0, 0x0a, 0, 0, 0];
    const OLD_END: [u8; 5] = [0xfe, 0, 0, 2, 0];
    const NEW_END: [u8; 7] = [0xfe, 0, 0, 2, 0, 0, 0];
    const CURSOR_END: [u8; 5] = [0xfe, 0, 0, 0x42, 0];
    const FAILED: &[u8] = b"\xff\x7a\x04#42S02no such table";
    const DEFINITION: &[u8] = b"\x03def";
    const ROW: &[u8] = b"\x04lamp";
    const RESULTS: Expected = Expected::Results { may_ask: true };

    fn follow(answer: &mut Answer, packets: &[&[u8]]) -> Vec<bool> {
        let mut done = Vec::new();
        for packet in packets {
            answer.follow(packet, packet.len()).unwrap();
            done.push(answer.is_done());
        }
        done
    }

    /// GW-2: every form of an answer ends where the server ends it, old clients and new ones.
    #[test]
    fn given_answers_of_every_form_then_each_ends_with_its_last_packet() {
        let cases: &[(Expected, bool, &[&[u8]])] = &[
            (Expected::One, true, &[&SUCCESS]),
            (Expected::One, false, &[&OLD_END]),
            (Expected::Words, true, &[b"Uptime: 3"]),
            (RESULTS, true, &[&SUCCESS]),
            (RESULTS, true, &[FAILED]),
            (RESULTS, true, &[&[1], DEFINITION, ROW, ROW, &NEW_END]),
            (RESULTS, false, &[&[1], DEFINITION, &OLD_END, ROW, &OLD_END]),
            (RESULTS, true, &[&[1], DEFINITION, ROW, FAILED]),
            (
                RESULTS,
                true,
                &[&SUCCESS_AND_MORE, &[1], DEFINITION, &NEW_END],
            ),
            (RESULTS, false, &[&[2], DEFINITION, DEFINITION, &CURSOR_END]),
            (
                Expected::Prepared,
                true,
                &[
                    &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0],
                    DEFINITION,
                    DEFINITION,
                ],
            ),
            (
                Expected::Prepared,
                false,
                &[&[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], DEFINITION, &OLD_END],
            ),
            (
                Expected::Prepared,
                true,
                &[&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
            ),
            (Expected::Rows, false, &[ROW, &OLD_END]),
            (Expected::Fields, true, &[DEFINITION, &NEW_END]),
        ];
        for (expected, has_no_end, packets) in cases {
            let mut answer = Answer::to(*expected, *has_no_end);
            let done = follow(&mut answer, packets);
            let (last, before) = done.split_last().unwrap();
            assert!(*last, "{expected:?} {packets:?}");
            assert!(!before.contains(&true), "{expected:?} {packets:?}");
        }
    }

    /// G4: a row that is so long that it fills packets is a row, whatever its parts begin with.
    #[test]
    fn given_a_row_of_many_packets_then_none_of_its_parts_ends_the_answer() {
        let mut answer = Answer::to(RESULTS, true);
        follow(&mut answer, &[&[1], DEFINITION]);
        assert_eq!(answer.follow(&[END], PAYLOAD_MAX), Ok(Seen::Row));
        assert!(!answer.needs_whole(ERROR, 20));
        assert_eq!(answer.follow(&[ERROR], PAYLOAD_MAX), Ok(Seen::Passing));
        assert_eq!(answer.follow(&[], 0), Ok(Seen::Passing));
        assert_eq!(follow(&mut answer, &[ROW, &NEW_END]), [false, true]);
    }

    /// G8, and a hostile target: what nobody asked for ends the session.
    #[test]
    fn given_what_nobody_asked_for_then_it_is_an_error() {
        for (expected, packet) in [
            (Expected::One, &b"\xfb/etc/passwd"[..]),
            (Expected::One, ROW),
            (Expected::Prepared, &b"\xfb/etc/passwd"[..]),
            (
                Expected::Results { may_ask: false },
                &b"\xfb/etc/passwd"[..],
            ),
            (RESULTS, &[0xfd, 0xff, 0xff, 0xff]),
            (RESULTS, &[1, 1]),
            (Expected::One, &[]),
        ] {
            let mut answer = Answer::to(expected, true);
            assert!(
                answer.follow(packet, packet.len()).is_err(),
                "{expected:?} {packet:?}"
            );
        }
        let mut done = Answer::to(Expected::One, true);
        follow(&mut done, &[&SUCCESS]);
        assert!(done.follow(&SUCCESS, SUCCESS.len()).is_err());
        let mut asks = Answer::to(RESULTS, true);
        let wanted = asks.follow(b"\xfb/tmp/rows.csv", 14);
        assert_eq!(wanted, Ok(Seen::FileWanted(b"/tmp/rows.csv")));
    }

    proptest! {
        /// GW-2: whatever a target says in whatever order, following it never panics.
        #[test]
        fn following_anything_never_panics(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..20),
            expected in prop::sample::select(vec![
                Expected::One, Expected::Words, RESULTS, Expected::Prepared, Expected::Rows, Expected::Fields,
            ]),
            has_no_end: bool,
        ) {
            let mut answer = Answer::to(expected, has_no_end);
            for packet in packets {
                let _ = answer.needs_whole(packet.first().copied().unwrap_or_default(), packet.len());
                if answer.follow(&packet, packet.len()).is_err() {
                    break;
                }
            }
        }
    }
}
