//! The RPC between a gateway and the control plane: a closed table of calls, replies and pushes over
//! one stream of length-prefixed JSON frames. The format and the states in which each call is allowed
//! are in `docs/formats/gateway-rpc.md`.
//!
//! INVARIANT: the gateway asks, control decides; nothing control pushes makes a gateway open anything.

mod call;
mod codec;
mod credential;
mod push;

pub use call::{
    Anchor, AuthenticationAnswer, AuthenticationFacts, Call, CallError, ChallengeAnswer,
    Credential, Entrance, Fault, GatewayHello, HeldProgress, HoldOperation, OpenSession, Opened,
    OperationBatch, PassProof, PasswordProof, Refused, Reply, RequestAnswer, RequestProgress,
    SessionClosed, SshCertificateProof, SshKeyProof, Submission, Welcome,
};
pub use codec::{FRAME_BYTES_MAX, FrameError, decode_frame, encode_frame};
pub use credential::CredentialContent;
pub use push::{FromControl, FromGateway, KEYSTROKES_BYTES_MAX, Keystrokes, Push};

/// Version of this RPC. Control refuses a gateway that speaks another.
pub const RPC_VERSION: u32 = 1;
