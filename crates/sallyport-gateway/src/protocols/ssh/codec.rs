//! SFTP packets as bytes and as messages: version 3 as in draft-ietf-secsh-filexfer-02, with the
//! extensions OpenSSH documents in its `PROTOCOL`.
//!
//! Called by `sftp`, which follows the conversation. Whole packets are cut out of a stream and lent
//! as messages; nothing is ever encoded again, so what was decided on is what the target gets.
//!
//! INVARIANT: total. Any bytes give packets, an error, or a wait for more; memory is bounded by one
//! packet of [`PACKET_BYTES_MAX`].
//!
//! Not here: what a message means for a file (`sftp`), reading and writing (`relay`).

use bytes::{BufMut, Bytes, BytesMut};

/// Longest packet, in bytes, its own length field not counted: what OpenSSH's server accepts.
pub(super) const PACKET_BYTES_MAX: usize = 256 * 1024;

/// Longest handle a server may give out, in bytes (section 6.3 of the draft).
const HANDLE_BYTES_MAX: usize = 256;

/// The protocol version spoken. Later versions spell the same requests differently.
pub(super) const VERSION: u32 = 3;

/// Why bytes are not SFTP version 3. The channel cannot go on after any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than any packet may be.
    #[error("SFTP packet of {size_bytes} bytes is longer than {PACKET_BYTES_MAX}")]
    TooLong {
        /// Its length.
        size_bytes: usize,
    },
    /// It ends within a field, or a path holds a NUL byte.
    #[error("SFTP packet of type {kind} is malformed")]
    Malformed {
        /// The packet's type.
        kind: u8,
    },
    /// The type is none that the sender may use.
    #[error("SFTP packet type {kind} is unknown")]
    UnknownKind {
        /// The packet's type.
        kind: u8,
    },
}

/// Cuts a byte stream into packets.
#[derive(Debug, Default)]
pub(super) struct Framer {
    buffer: BytesMut,
}

impl Framer {
    /// Appends what arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet, or nothing while it is incomplete.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] as soon as the length is known; [`CodecError::Malformed`] for a packet
    /// without a type.
    pub(super) fn next_packet(&mut self) -> Result<Option<Packet>, CodecError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let size_bytes = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if size_bytes > PACKET_BYTES_MAX {
            return Err(CodecError::TooLong { size_bytes });
        }
        if size_bytes == 0 {
            return Err(CodecError::Malformed { kind: 0 });
        }
        let whole = size_bytes.saturating_add(4);
        if self.buffer.len() < whole {
            return Ok(None);
        }
        Ok(Some(Packet {
            bytes: self.buffer.split_to(whole).freeze(),
        }))
    }
}

/// One whole packet, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    bytes: Bytes,
}

impl Packet {
    /// The packet as it travels, length field included.
    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes
    }

    fn parts(&self) -> (u8, Fields<'_>) {
        let kind = self.bytes.get(4).copied().unwrap_or(0);
        let rest = self.bytes.get(5..).unwrap_or_default();
        (kind, Fields { kind, rest })
    }

    /// Reads the packet as one that a client sends.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] or [`CodecError::UnknownKind`].
    pub(super) fn request(&self) -> Result<Request<'_>, CodecError> {
        let (kind, mut fields) = self.parts();
        if kind == kinds::INIT {
            return Ok(Request::Init {
                version: fields.number()?,
            });
        }
        let id = fields.number()?;
        let act = match kind {
            kinds::OPEN => Act::Open {
                path: fields.path()?,
                flags: fields.number()?,
            },
            kinds::CLOSE => Act::Close {
                handle: fields.handle()?,
            },
            kinds::READ => Act::Read {
                handle: fields.handle()?,
                offset: fields.long()?,
            },
            kinds::WRITE => Act::Write {
                handle: fields.handle()?,
                offset: fields.long()?,
                content: fields.text()?,
            },
            kinds::FSTAT => Act::InspectHandle {
                handle: fields.handle()?,
            },
            kinds::READDIR => Act::ReadDirectory {
                handle: fields.handle()?,
            },
            kinds::FSETSTAT => Act::SetHandleAttributes {
                handle: fields.handle()?,
            },
            kinds::OPENDIR => Act::OpenDirectory {
                path: fields.path()?,
            },
            kinds::LSTAT | kinds::STAT | kinds::REALPATH | kinds::READLINK => {
                fields.path()?;
                Act::InspectPath
            }
            kinds::SETSTAT => Act::Change {
                verb: "setstat",
                paths: Paths::One(fields.path()?),
            },
            kinds::REMOVE => Act::Change {
                verb: "remove",
                paths: Paths::One(fields.path()?),
            },
            kinds::MKDIR => Act::Change {
                verb: "mkdir",
                paths: Paths::One(fields.path()?),
            },
            kinds::RMDIR => Act::Change {
                verb: "rmdir",
                paths: Paths::One(fields.path()?),
            },
            kinds::RENAME => Act::Change {
                verb: "rename",
                paths: Paths::Two(fields.path()?, fields.path()?),
            },
            kinds::SYMLINK => Act::Change {
                verb: "symlink",
                paths: Paths::Two(fields.path()?, fields.path()?),
            },
            kinds::EXTENDED => fields.extended()?,
            kind => return Err(CodecError::UnknownKind { kind }),
        };
        Ok(Request::Act { id, act })
    }

    /// Reads the packet as one that a server sends.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] or [`CodecError::UnknownKind`].
    pub(super) fn response(&self) -> Result<Response<'_>, CodecError> {
        let (kind, mut fields) = self.parts();
        let number = fields.number()?;
        Ok(match kind {
            kinds::VERSION => Response::Version { version: number },
            kinds::STATUS => Response::Status {
                id: number,
                code: fields.number()?,
            },
            kinds::HANDLE => Response::Handle {
                id: number,
                handle: fields.handle()?,
            },
            kinds::DATA => Response::Content {
                id: number,
                content: fields.text()?,
            },
            kinds::NAME | kinds::ATTRS | kinds::EXTENDED_REPLY => Response::Other { id: number },
            kind => return Err(CodecError::UnknownKind { kind }),
        })
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// The first packet: the highest version the client speaks.
    Init {
        /// Version.
        version: u32,
    },
    /// Anything after it.
    Act {
        /// The client's number of the request.
        id: u32,
        /// What.
        act: Act<'a>,
    },
}

/// One request, reduced to what deciding and recording need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act<'a> {
    /// Opens a file.
    Open {
        /// Path.
        path: &'a [u8],
        /// [`open_flags`].
        flags: u32,
    },
    /// Closes a file or directory.
    Close {
        /// Handle.
        handle: &'a [u8],
    },
    /// Reads from a file.
    Read {
        /// Handle.
        handle: &'a [u8],
        /// Where from, in bytes.
        offset: u64,
    },
    /// Writes to a file.
    Write {
        /// Handle.
        handle: &'a [u8],
        /// Where to, in bytes.
        offset: u64,
        /// What.
        content: &'a [u8],
    },
    /// Looks at an open file, changing nothing.
    InspectHandle {
        /// Handle.
        handle: &'a [u8],
    },
    /// Looks at a path, changing nothing.
    InspectPath,
    /// Asks about the server, changing nothing.
    InspectServer,
    /// Sets attributes of an open file.
    SetHandleAttributes {
        /// Handle.
        handle: &'a [u8],
    },
    /// Opens a directory to list it.
    OpenDirectory {
        /// Path.
        path: &'a [u8],
    },
    /// Lists an open directory.
    ReadDirectory {
        /// Handle.
        handle: &'a [u8],
    },
    /// Changes the file system without moving content.
    Change {
        /// What is done.
        verb: &'static str,
        /// To what.
        paths: Paths<'a>,
    },
    /// An extension that is not offered.
    UnknownExtension {
        /// Its name.
        name: &'a [u8],
    },
}

/// Paths of a change, in the order in which the packet holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paths<'a> {
    /// One path.
    One(&'a [u8]),
    /// Two paths.
    Two(&'a [u8], &'a [u8]),
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response<'a> {
    /// The first packet.
    Version {
        /// Version that will be spoken.
        version: u32,
    },
    /// How a request went.
    Status {
        /// The request.
        id: u32,
        /// One of [`status`].
        code: u32,
    },
    /// A file or directory is open.
    Handle {
        /// The request.
        id: u32,
        /// Handle.
        handle: &'a [u8],
    },
    /// Content of a file.
    Content {
        /// The request.
        id: u32,
        /// What was read.
        content: &'a [u8],
    },
    /// Names, attributes, or an extension's answer.
    Other {
        /// The request.
        id: u32,
    },
}

/// Bits of an open request (section 6.3 of the draft).
pub(super) mod open_flags {
    /// Open for reading.
    pub(in super::super) const READ: u32 = 1;
    /// Open for writing.
    pub(in super::super) const WRITE: u32 = 2;
    /// Write at the end.
    pub(in super::super) const APPEND: u32 = 4;
}

/// Codes of a status answer (section 7 of the draft).
pub(super) mod status {
    /// Done.
    pub(in super::super) const OK: u32 = 0;
    /// End of file.
    pub(in super::super) const EOF: u32 = 1;
    /// Not allowed.
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    /// Anything else that failed.
    pub(in super::super) const FAILURE: u32 = 4;
    /// Not offered.
    pub(in super::super) const UNSUPPORTED: u32 = 8;
}

mod kinds {
    pub(super) const INIT: u8 = 1;
    pub(super) const VERSION: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const CLOSE: u8 = 4;
    pub(super) const READ: u8 = 5;
    pub(super) const WRITE: u8 = 6;
    pub(super) const LSTAT: u8 = 7;
    pub(super) const FSTAT: u8 = 8;
    pub(super) const SETSTAT: u8 = 9;
    pub(super) const FSETSTAT: u8 = 10;
    pub(super) const OPENDIR: u8 = 11;
    pub(super) const READDIR: u8 = 12;
    pub(super) const REMOVE: u8 = 13;
    pub(super) const MKDIR: u8 = 14;
    pub(super) const RMDIR: u8 = 15;
    pub(super) const REALPATH: u8 = 16;
    pub(super) const STAT: u8 = 17;
    pub(super) const RENAME: u8 = 18;
    pub(super) const READLINK: u8 = 19;
    pub(super) const SYMLINK: u8 = 20;
    pub(super) const STATUS: u8 = 101;
    pub(super) const HANDLE: u8 = 102;
    pub(super) const DATA: u8 = 103;
    pub(super) const NAME: u8 = 104;
    pub(super) const ATTRS: u8 = 105;
    pub(super) const EXTENDED: u8 = 200;
    pub(super) const EXTENDED_REPLY: u8 = 201;
}

/// Takes fields from the front of a packet.
struct Fields<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    const fn malformed(&self) -> CodecError {
        CodecError::Malformed { kind: self.kind }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(head)
    }

    fn number(&mut self) -> Result<u32, CodecError> {
        let bytes = self.take(4)?;
        let bytes = bytes.first_chunk::<4>().ok_or_else(|| self.malformed())?;
        Ok(u32::from_be_bytes(*bytes))
    }

    fn long(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from(self.number()?) << 32 | u64::from(self.number()?))
    }

    fn text(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A path. A NUL byte would end it early at the target: another path than the one decided on.
    fn path(&mut self) -> Result<&'a [u8], CodecError> {
        let path = self.text()?;
        if path.contains(&0) {
            return Err(self.malformed());
        }
        Ok(path)
    }

    fn handle(&mut self) -> Result<&'a [u8], CodecError> {
        let handle = self.text()?;
        if handle.len() > HANDLE_BYTES_MAX {
            return Err(self.malformed());
        }
        Ok(handle)
    }

    fn extended(&mut self) -> Result<Act<'a>, CodecError> {
        let name = self.text()?;
        Ok(match name {
            b"posix-rename@openssh.com" => Act::Change {
                verb: "rename",
                paths: Paths::Two(self.path()?, self.path()?),
            },
            b"hardlink@openssh.com" => Act::Change {
                verb: "hardlink",
                paths: Paths::Two(self.path()?, self.path()?),
            },
            b"lsetstat@openssh.com" => Act::Change {
                verb: "setstat",
                paths: Paths::One(self.path()?),
            },
            b"fsync@openssh.com" | b"fstatvfs@openssh.com" => Act::InspectHandle {
                handle: self.handle()?,
            },
            b"statvfs@openssh.com" | b"expand-path@openssh.com" | b"home-directory" => {
                self.path()?;
                Act::InspectPath
            }
            b"limits@openssh.com" | b"users-groups-by-id@openssh.com" => Act::InspectServer,
            name => Act::UnknownExtension { name },
        })
    }
}

/// The first packet of a client that speaks [`VERSION`] and no later one.
pub(super) fn encode_init() -> Bytes {
    let mut packet = BytesMut::with_capacity(9);
    packet.put_u32(5);
    packet.put_u8(kinds::INIT);
    packet.put_u32(VERSION);
    packet.freeze()
}

/// A status answer to request `id`, as a server would send it.
pub(super) fn encode_status(id: u32, code: u32, message: &str) -> Bytes {
    // Messages are our own words and the peer's shortened ones; the bound keeps the packet legal.
    let message = message.as_bytes();
    let message = message.get(..1024).unwrap_or(message);
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut packet = BytesMut::with_capacity(message.len().saturating_add(21));
    packet.put_u32(length.saturating_add(17));
    packet.put_u8(kinds::STATUS);
    packet.put_u32(id);
    packet.put_u32(code);
    packet.put_u32(length);
    packet.put_slice(message);
    packet.put_u32(0);
    packet.freeze()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet of type `kind` with `id` and then length-prefixed `texts`.
    pub(in super::super) fn packet(kind: u8, id: u32, texts: &[&[u8]], tail: &[u8]) -> Vec<u8> {
        let mut body = vec![kind];
        body.extend(id.to_be_bytes());
        for text in texts {
            body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            body.extend(*text);
        }
        body.extend(tail);
        let mut whole = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        whole.extend(body);
        whole
    }

    fn one(bytes: &[u8]) -> Packet {
        let mut framer = Framer::default();
        framer.push(bytes);
        framer.next_packet().unwrap().unwrap()
    }

    #[test]
    fn given_a_packet_in_pieces_when_the_last_byte_arrives_then_it_is_whole() {
        let bytes = packet(kinds::OPEN, 7, &[b"/etc/motd"], &[0, 0, 0, 1, 0, 0, 0, 0]);
        let mut framer = Framer::default();
        for (index, byte) in bytes.iter().enumerate() {
            framer.push(&[*byte]);
            let whole = framer.next_packet().unwrap();
            assert_eq!(whole.is_some(), index + 1 == bytes.len());
            if let Some(whole) = whole {
                assert_eq!(
                    whole.request(),
                    Ok(Request::Act {
                        id: 7,
                        act: Act::Open {
                            path: b"/etc/motd",
                            flags: 1
                        }
                    })
                );
                assert_eq!(&whole.into_bytes()[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn given_an_oversized_length_when_only_the_length_has_arrived_then_it_is_refused() {
        let mut framer = Framer::default();
        framer.push(&[0, 4, 0, 1]);
        assert_eq!(
            framer.next_packet(),
            Err(CodecError::TooLong {
                size_bytes: 262_145
            })
        );
    }

    #[test]
    fn given_a_path_with_a_nul_byte_then_the_packet_is_malformed() {
        let bytes = packet(kinds::REMOVE, 1, &[b"/tmp/a\0b"], &[]);
        assert_eq!(
            one(&bytes).request(),
            Err(CodecError::Malformed {
                kind: kinds::REMOVE
            })
        );
    }

    #[test]
    fn given_an_extension_nobody_decided_on_then_it_is_named_unknown() {
        let bytes = packet(kinds::EXTENDED, 1, &[b"copy-data"], &[]);
        assert_eq!(
            one(&bytes).request(),
            Ok(Request::Act {
                id: 1,
                act: Act::UnknownExtension { name: b"copy-data" }
            })
        );
    }

    #[test]
    fn our_own_status_reads_back() {
        let bytes = encode_status(9, status::PERMISSION_DENIED, "no");
        assert_eq!(
            one(&bytes).response(),
            Ok(Response::Status { id: 9, code: 3 })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_packets_or_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut framer = Framer::default();
            framer.push(&bytes);
            while let Ok(Some(packet)) = framer.next_packet() {
                let _ = packet.request();
                let _ = packet.response();
            }
        }

        #[test]
        fn every_cut_of_a_stream_gives_the_same_packets(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 1..8),
            cut in 1_usize..40,
        ) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
                stream.extend(body);
            }
            let mut framer = Framer::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                framer.push(piece);
                while let Some(packet) = framer.next_packet().unwrap() {
                    seen.extend_from_slice(&packet.into_bytes());
                }
            }
            prop_assert_eq!(seen, stream);
        }
    }
}
