//! The conversation in which a person at a keyboard signs in, gives what is missing, and waits for
//! approval: keyboard-interactive authentication (RFC 4256), round by round.
//!
//! A prompt without questions is how a stock client is told something before it is let in (section
//! 3.2): it shows the text and answers by itself. So a waiting person reads where the request stands,
//! and the gateway hears that the client is still there.
//!
//! INVARIANT: only what is missing is asked for, and the number of rounds is bounded; waiting is
//! bounded by the request's own end.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use russh::{MethodKind, MethodSet, server::Auth};
use sallyport_api::{
    gateway::{ChallengeAnswer, RequestAnswer, RequestProgress},
    sensitive::Sensitive,
};
use sallyport_core::{
    authz::{Reason, Unmet},
    id::RequestId,
};
use tokio::time::timeout;

use super::{
    super::{
        limits::{LIFE_SIGN_EVERY, LIFE_SIGNS_PER_LINE, PROMPT_ROUNDS_MAX},
        wording,
    },
    Login,
};
use crate::{
    control::ControlError,
    door::{Claim, Wish},
};

/// Longest answer to a prompt, in bytes.
const ANSWER_BYTES_MAX: usize = 1_024;
/// How often control may fail to answer, one after the other, before a waiting person is told.
const UNANSWERED_MAX: u32 = 24;

/// One thing a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Password,
    Code,
    Reason,
    Ticket,
}

impl Question {
    const fn prompt(self) -> (&'static str, bool) {
        match self {
            Self::Password => ("Password: ", false),
            Self::Code => ("One-time code: ", false),
            Self::Reason => ("Reason: ", true),
            Self::Ticket => ("Ticket: ", true),
        }
    }
}

type Progress = Result<RequestAnswer, ControlError>;

/// A request that somebody waits for.
pub(super) struct Waiting {
    request_id: RequestId,
    seen: RequestProgress,
    /// Runs across several rounds of prompts. Never contended; shared references to a login must be
    /// allowed to change threads.
    answer: Option<Mutex<Pin<Box<dyn Future<Output = Progress> + Send>>>>,
    quiet_rounds: u32,
    unanswered: u32,
}

/// Where the conversation stands.
pub(super) enum Stage {
    /// Nothing was asked yet.
    Start,
    /// Control says what is missing.
    Challenged(ChallengeAnswer),
    /// These were asked.
    Asked(Vec<Question>, Option<ChallengeAnswer>),
    /// Waiting for approvers.
    Waiting(Waiting),
    /// The last words were said.
    Parted,
}

impl Login {
    /// A round of keyboard-interactive: `answers` to the last prompts, or nothing when it begins.
    pub(in super::super) async fn by_keyboard(
        &mut self,
        user: &str,
        answers: Option<Vec<String>>,
    ) -> Auth {
        self.turn_to(user);
        if !matches!(self.stage, Stage::Waiting(_)) {
            self.rounds = self.rounds.saturating_add(1);
            if self.rounds > PROMPT_ROUNDS_MAX {
                return refuse_for_good();
            }
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Start);
        match (stage, answers) {
            (Stage::Asked(questions, challenge), Some(answers)) => {
                self.answered(&questions, challenge, answers).await
            }
            (Stage::Waiting(waiting), Some(_)) => self.wait(waiting).await,
            (Stage::Parted, _) => {
                self.stage = Stage::Parted;
                refuse_for_good()
            }
            (Stage::Challenged(challenge) | Stage::Asked(_, Some(challenge)), None) => {
                self.ask(challenge).await
            }
            (Stage::Waiting(waiting), None) => self.wait(waiting).await,
            (Stage::Start | Stage::Asked(_, None), None) => self.ask_who(),
            (Stage::Start | Stage::Challenged(_), Some(_)) => Auth::reject(),
        }
    }

    /// Nothing is proven yet: asks for password and code.
    fn ask_who(&mut self) -> Auth {
        if let Some(reason) = self.trouble.take() {
            return self.part(wording::reason_lines(reason));
        }
        if self.typed_claim().person.is_none() {
            return match &self.selector {
                None => self.part(wording::reason_lines(Reason::SelectorInvalid)),
                Some(selector) => self.part(format!(
                    "sallyport: no key of yours was accepted; to sign in with a password, name \
                     yourself: ssh NAME:{}@{}@...",
                    selector.account, selector.target
                )),
            };
        }
        self.prompt(
            String::new(),
            vec![Question::Password, Question::Code],
            None,
        )
    }

    /// Asks for exactly what is missing, or goes on when nothing can be asked.
    pub(super) async fn ask(&mut self, challenge: ChallengeAnswer) -> Auth {
        let has_code = self.proof.as_ref().is_some_and(|proof| proof.has_code);
        let needs_grant = challenge.unmet.contains(&Unmet::Grant);
        let mut questions = Vec::new();
        for unmet in &challenge.unmet {
            match unmet {
                // It was given, and it is not enough.
                Unmet::Mfa { .. } if has_code => {
                    return self.part(wording::reason_lines(Reason::AuthenticationTooWeak));
                }
                Unmet::Mfa { .. } => questions.push(Question::Code),
                Unmet::Justification { .. } if challenge.pending_request.is_none() => {
                    questions.push(Question::Reason);
                }
                Unmet::Ticket { .. } if challenge.pending_request.is_none() => {
                    questions.push(Question::Ticket);
                }
                Unmet::Justification { .. }
                | Unmet::Ticket { .. }
                | Unmet::Grant
                | Unmet::Approval { .. }
                | Unmet::CommandApproval(_) => {}
            }
        }
        if !questions.is_empty() {
            let text = match &self.selector {
                Some(selector) => wording::challenge(selector, &challenge),
                None => String::new(),
            };
            return self.prompt(text, questions, Some(challenge));
        }
        if !needs_grant {
            // Something is missing that nobody can type.
            return self.part(wording::reason_lines(Reason::NotPermitted));
        }
        match challenge.pending_request {
            Some(request_id) => self.await_pending(request_id).await,
            None => self.submit(String::new(), None).await,
        }
    }

    fn prompt(
        &mut self,
        text: String,
        questions: Vec<Question>,
        challenge: Option<ChallengeAnswer>,
    ) -> Auth {
        let prompts: Vec<(Cow<'static, str>, bool)> = questions
            .iter()
            .map(|question| {
                let (prompt, is_echoed) = question.prompt();
                (Cow::Borrowed(prompt), is_echoed)
            })
            .collect();
        self.stage = Stage::Asked(questions, challenge);
        Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Owned(text),
            prompts: Cow::Owned(prompts),
        }
    }

    /// The last words: shown, then refused.
    fn part(&mut self, text: String) -> Auth {
        self.take_request_back();
        self.stage = Stage::Parted;
        say(text)
    }

    async fn answered(
        &mut self,
        questions: &[Question],
        challenge: Option<ChallengeAnswer>,
        answers: Vec<String>,
    ) -> Auth {
        let is_sound = answers.len() == questions.len()
            && answers
                .iter()
                .all(|answer| answer.len() <= ANSWER_BYTES_MAX);
        let (mut password, mut code, mut reason, mut ticket) = (None, None, String::new(), None);
        for (question, answer) in questions.iter().zip(answers) {
            match question {
                Question::Password => password = Some(Sensitive::new(answer)),
                Question::Code => code = Some(Sensitive::new(answer)),
                Question::Reason => reason = answer,
                Question::Ticket => ticket = Some(answer.trim().to_owned()),
            }
        }
        let asks_for_proof = password.is_some() || code.is_some();
        if !is_sound || (asks_for_proof && !self.prove(password, code).await) {
            if let Some(challenge) = challenge {
                self.stage = Stage::Challenged(challenge);
            }
            return go_on_at_keyboard(false);
        }
        match challenge {
            Some(challenge)
                if challenge.unmet.contains(&Unmet::Grant)
                    && challenge.pending_request.is_none() =>
            {
                self.submit(reason, ticket).await
            }
            _ => self.open(true).await,
        }
    }

    async fn prove(&mut self, password: Option<Sensitive>, code: Option<Sensitive>) -> bool {
        let before = self.proof.clone();
        let code = code.filter(|code| !code.expose().trim().is_empty());
        let has_code = code.is_some();
        let claim = Claim {
            adds_to: before.as_ref().map(|proof| proof.authentication_id.clone()),
            ..self.typed_claim()
        };
        let answer = self.door.prove_password(claim, password, code).await;
        let is_proven = self.is_proven(answer, has_code);
        match (before, &self.proof) {
            (Some(before), Some(after)) if before.person != after.person => {
                // Two factors of two people prove neither.
                self.proof = None;
                false
            }
            _ => is_proven,
        }
    }

    async fn submit(&mut self, reason: String, ticket: Option<String>) -> Auth {
        let (Some(proof), Some(selector)) = (self.proof.clone(), self.selector.clone()) else {
            return Auth::reject();
        };
        let wish = Wish {
            authentication_id: proof.authentication_id.clone(),
            account: selector.account,
            target: selector.target,
            reason,
            ticket,
            duration_s: None,
        };
        match self.door.submit_request(wish).await {
            Ok(RequestAnswer::Progress {
                request_id,
                progress,
            }) => {
                self.own_request = Some((proof.authentication_id, request_id.clone()));
                self.stands(request_id, progress).await
            }
            Ok(RequestAnswer::Challenge(challenge)) => Box::pin(self.ask(challenge)).await,
            Ok(RequestAnswer::Refused(refused)) => {
                self.part(wording::denial(self.selector.as_ref(), &refused))
            }
            Err(error) => self.part(wording::reason_lines(error.reason())),
        }
    }

    /// Joins a request of this person that waits already.
    async fn await_pending(&mut self, request_id: RequestId) -> Auth {
        // Nothing is known of it, so the first answer comes at once.
        let nothing = RequestProgress::Ended {
            reason: Reason::RequestEnded,
            comment: String::new(),
        };
        self.wait(Waiting {
            request_id,
            seen: nothing,
            answer: None,
            quiet_rounds: 0,
            unanswered: 0,
        })
        .await
    }

    /// A request stands so.
    async fn stands(&mut self, request_id: RequestId, progress: RequestProgress) -> Auth {
        let text = wording::progress(&request_id, &progress);
        match progress {
            RequestProgress::Granted { .. } => {
                self.own_request = None;
                Box::pin(self.open(true)).await
            }
            RequestProgress::Ended { .. } => {
                self.own_request = None;
                self.part(text)
            }
            seen @ RequestProgress::Waiting { .. } => {
                self.stage = Stage::Waiting(Waiting {
                    request_id,
                    seen,
                    answer: None,
                    quiet_rounds: 0,
                    unanswered: 0,
                });
                say(text)
            }
        }
    }

    /// Waits a little for the request to stand otherwise; then asks the client for a sign of life,
    /// which it gives by answering a prompt without questions.
    async fn wait(&mut self, mut waiting: Waiting) -> Auth {
        let Some(proof) = &self.proof else {
            return Auth::reject();
        };
        let answer = waiting.answer.get_or_insert_with(|| {
            let door = Arc::clone(&self.door);
            let (id, request_id) = (proof.authentication_id.clone(), waiting.request_id.clone());
            let seen = waiting.seen.clone();
            Mutex::new(Box::pin(async move {
                door.await_request(id, request_id, seen).await
            }))
        });
        let answer = answer.get_mut().unwrap_or_else(PoisonError::into_inner);
        let answer = match timeout(LIFE_SIGN_EVERY, answer).await {
            Ok(answer) => {
                waiting.answer = None;
                Some(answer)
            }
            Err(_) => None,
        };
        match answer {
            None => {}
            Some(Ok(RequestAnswer::Progress {
                request_id,
                progress,
            })) => {
                waiting.unanswered = 0;
                if progress != waiting.seen {
                    return self.stands(request_id, progress).await;
                }
            }
            Some(Ok(RequestAnswer::Challenge(challenge))) => {
                return Box::pin(self.ask(challenge)).await;
            }
            Some(Ok(RequestAnswer::Refused(refused))) => {
                return self.part(wording::denial(self.selector.as_ref(), &refused));
            }
            Some(Err(error)) => {
                // Control may be restarting; the request is still there.
                waiting.unanswered = waiting.unanswered.saturating_add(1);
                if waiting.unanswered > UNANSWERED_MAX {
                    return self.part(wording::reason_lines(error.reason()));
                }
                tokio::time::sleep(LIFE_SIGN_EVERY).await;
            }
        }
        waiting.quiet_rounds = waiting.quiet_rounds.saturating_add(1);
        let text = match waiting.quiet_rounds.is_multiple_of(LIFE_SIGNS_PER_LINE) {
            true => wording::progress(&waiting.request_id, &waiting.seen),
            false => String::new(),
        };
        self.stage = Stage::Waiting(waiting);
        say(text)
    }
}

fn say(text: String) -> Auth {
    Auth::Partial {
        name: Cow::Borrowed(""),
        instructions: Cow::Owned(text),
        prompts: Cow::Borrowed(&[]),
    }
}

/// Only keyboard-interactive can go on. `is_partial`: what was proven stands.
pub(super) fn go_on_at_keyboard(is_partial: bool) -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])),
        partial_success: is_partial,
    }
}

fn refuse_for_good() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::empty()),
        partial_success: false,
    }
}
