//! What stands between what passed and what is stored: patterns are redacted, then commands are read off
//! the screen, then keys that were not shown are masked.
//!
//! Part of the writer, so it costs the relay nothing; the sink calls [`Redactor::push`] for every frame
//! and [`Redactor::settle`] once for each batch.
//!
//! INVARIANT: frames leave in the order in which they came; commands are read from what is stored, so
//! they hold no match of a pattern that the recording does not.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{hmac, rand::SystemRandom};
use sallyport_evidence::recording::{CommandTracker, Frame, TypedCommand, decode_frames};
use sallyport_policy::RuleSet;

use super::{RecorderError, echo::EchoMask, patterns::Patterns};

/// Takes what is stored.
pub(super) type Store<'a> = dyn FnMut(&Frame<'_>) -> Result<(), RecorderError> + 'a;

/// Fingerprints of what was redacted, under a key that is drawn here and dies here.
pub(super) struct Digests(hmac::Key);

impl Digests {
    fn new() -> Result<Self, RecorderError> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map(Self)
            .map_err(|_| RecorderError::DigestKey)
    }

    pub(super) fn of(&self, rule: &str, bytes: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(rule.as_bytes());
        context.update(&[0]);
        context.update(bytes);
        let mut digest = [0; 32];
        for (slot, byte) in digest.iter_mut().zip(context.sign().as_ref()) {
            *slot = *byte;
        }
        digest
    }
}

/// What stands between what passed and what is stored.
pub(super) struct Redactor {
    patterns: Patterns,
    commands: CommandTracker,
    typed: Vec<TypedCommand>,
    echo: EchoMask,
    now_us: u64,
    has_frames: bool,
}

impl Redactor {
    pub(super) fn new(rules: Arc<RuleSet>) -> Result<Self, RecorderError> {
        let digests = Arc::new(Digests::new()?);
        Ok(Self {
            patterns: Patterns::new(rules, Arc::clone(&digests)),
            commands: CommandTracker::new(),
            typed: Vec::new(),
            echo: EchoMask::new(digests),
            now_us: 0,
            has_frames: false,
        })
    }

    /// Takes a frame in; `store` gets what can be stored by now.
    pub(super) fn push(
        &mut self,
        frame: &Frame<'_>,
        store: &mut Store<'_>,
    ) -> Result<(), RecorderError> {
        self.now_us = self.now_us.max(frame.at_us);
        self.has_frames = true;
        let (commands, typed, echo) = (&mut self.commands, &mut self.typed, &mut self.echo);
        self.patterns.push(frame, &mut |frame| {
            typed.extend(commands.frame(frame));
            echo.push(frame, store)
        })
    }

    /// Ends a batch that was gathered for `waited` at least, or the recording: `store` gets everything that has
    /// waited long enough. Returns the commands that were completed.
    pub(super) fn settle(
        &mut self,
        waited: Duration,
        is_last: bool,
        store: &mut Store<'_>,
    ) -> Result<Vec<TypedCommand>, RecorderError> {
        if !std::mem::take(&mut self.has_frames) {
            // No frame says how late it is.
            let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            self.now_us = self.now_us.saturating_add(waited_us);
        }
        let (commands, typed, echo) = (&mut self.commands, &mut self.typed, &mut self.echo);
        self.patterns.settle(self.now_us, is_last, &mut |frame| {
            typed.extend(commands.frame(frame));
            echo.push(frame, store)
        })?;
        self.commands.rest();
        if is_last {
            self.typed
                .extend(std::mem::take(&mut self.commands).finish());
        }
        self.echo.settle(self.now_us, is_last, store)?;
        Ok(std::mem::take(&mut self.typed))
    }

    /// Whether something waits that a later round must let out.
    pub(super) fn holds(&self) -> bool {
        self.patterns.holds() || self.echo.holds()
    }
}

/// A frame that has to wait, as bytes.
pub(super) fn encode(frame: &Frame<'_>) -> Result<Vec<u8>, RecorderError> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).map_err(RecorderError::Frames)?;
    Ok(bytes)
}

/// The frame that [`encode`] made bytes of.
pub(super) fn decode_one(bytes: &[u8]) -> Result<Frame<'_>, RecorderError> {
    decode_frames(bytes)
        .next()
        .ok_or(RecorderError::Panicked)?
        .map_err(RecorderError::Frames)
}

#[cfg(test)]
mod tests;
