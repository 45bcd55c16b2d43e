//! A file of the client's that the target asks for, in the middle of a statement.
//!
//! INVARIANT: the target gets a file only if the client's own statement names it and policy permits it
//! (security class G8); what it gets is counted and hashed.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::BytesMut;
use sallyport_core::{
    authz::Reason,
    session::{OPERATION_DETAIL_BYTES_MAX, OperationOutcome},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        codec::{self, CodecError, HEADER_BYTES, PAYLOAD_MAX, put_packet},
        operations, wording,
    },
    Relay, RelayError, fill,
};
use crate::session::{OperationResult, OperationStart};

impl<C, T> Relay<C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// The target asks for the file `name` by a packet of `wire` bytes, while it runs `sql`.
    pub(super) async fn file_wanted(
        &mut self,
        name: &[u8],
        sql: &[u8],
        wire: usize,
    ) -> Result<(), RelayError> {
        let operation = operations::local_file(name);
        let number = self.setup.record.number();
        let is_named = operations::names_file(sql, name);
        if !is_named || name.len() > OPERATION_DETAIL_BYTES_MAX {
            let session = &self.setup.session;
            let reason = Reason::FeatureRefused;
            session.refuse_operation(number, operation, reason).await;
            tracing::warn!(session_id = %session.id(), "a target asked for a file that nobody offered");
            return Err(RelayError::FileUnasked);
        }
        let reason = match self.setup.session.begin_operation(number, operation).await {
            OperationStart::Begun(operation) => {
                self.passed = wire;
                self.pass().await?;
                let (size_bytes, sha256) = self.file_from_client().await?;
                let result = OperationResult {
                    size_bytes: Some(size_bytes),
                    sha256: Some(sha256),
                    ..OperationResult::default()
                };
                operation.finish(OperationOutcome::Completed, result);
                return Ok(());
            }
            // What is held is commands and statements.
            OperationStart::Held(held) => {
                held.refuse(Reason::NotPermitted);
                Reason::NotPermitted
            }
            OperationStart::Refused(reason) => reason,
            OperationStart::Over(over) => return Err(over.into()),
        };
        // The target gets an empty file, and the client our error for what it makes of that.
        self.drop_packet(wire).await?;
        let mut nothing = BytesMut::new();
        put_packet(&mut nothing, self.sequence, |_| {}).map_err(RelayError::Target)?;
        self.send(&nothing).await?;
        self.sequence = self.sequence.wrapping_add(1);
        self.instead = Some(wording::refusal(reason, ""));
        Ok(())
    }

    /// Passes a file as it comes, to its empty last packet; returns its size and hash.
    async fn file_from_client(&mut self) -> Result<(u64, [u8; 32]), RelayError> {
        let (mut size, mut hash) = (0_u64, Context::new(&SHA256));
        let mut is_continued = false;
        loop {
            let header = loop {
                if let Some(header) = codec::header(&self.setup.from_client) {
                    break header;
                }
                self.hear_client().await?;
            };
            if header.sequence != self.sequence {
                return Err(RelayError::Client(CodecError::Sequence {
                    expected: self.sequence,
                    found: header.sequence,
                }));
            }
            self.sequence = self.sequence.wrapping_add(1);
            let mut rest = HEADER_BYTES.saturating_add(header.payload);
            let mut skip = HEADER_BYTES;
            while rest > 0 {
                if self.setup.from_client.is_empty() {
                    self.hear_client().await?;
                }
                let count = rest.min(self.setup.from_client.len());
                let piece = self.setup.from_client.split_to(count);
                let content = piece.get(skip..).unwrap_or_default();
                size = size.saturating_add(content.len() as u64);
                hash.update(content);
                skip = skip.saturating_sub(count);
                rest = rest.saturating_sub(count);
                self.send(&piece).await?;
            }
            let is_last = header.payload == 0 && !is_continued;
            is_continued = header.payload >= PAYLOAD_MAX;
            if is_last {
                let mut sha256 = [0; 32];
                for (slot, byte) in sha256.iter_mut().zip(hash.finish().as_ref()) {
                    *slot = *byte;
                }
                return Ok((size, sha256));
            }
        }
    }

    async fn hear_client(&mut self) -> Result<(), RelayError> {
        let [want, _] = &mut self.want;
        let filled = fill(&mut self.setup.client, &mut self.setup.from_client, want).await;
        match filled {
            Ok(0) | Err(_) => Err(RelayError::ClientLeft),
            Ok(_) => Ok(()),
        }
    }
}
