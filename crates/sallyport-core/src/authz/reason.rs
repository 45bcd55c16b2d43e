//! Every reason for which access is refused: one list, stable codes, words for the person.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $code:literal $message:literal $remedy:literal;)+) => {
        /// Why something was refused. The code is stable and documented; the words may improve.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable code, kebab case.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// What happened, in words.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),+ }
            }

            /// What the person can do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),+ }
            }
        }
    };
}

reasons! {
    /// No policy permits it, or the account or target does not exist: the two look the same.
    NotPermitted "not-permitted"
        "no policy permits this access, or there is no such account or target"
        "check the spelling of account@target, or ask your security team to be made eligible";
    /// A forbid policy matched.
    Forbidden "forbidden"
        "a policy forbids this"
        "ask your security team; the request id names the policy";
    /// Policy evaluation failed.
    PolicyError "policy-error"
        "the policies could not be evaluated, so nothing is permitted"
        "tell your security team: `sallyport policy check` shows the fault";
    /// A lock is in force.
    Locked "locked"
        "access is locked"
        "ask the security team why and until when";
    /// The person is disabled.
    PersonDisabled "person-disabled"
        "your account is disabled"
        "ask an owner to enable it";
    /// There is a grant, but for somebody or something else, or it has ended.
    GrantNotLive "grant-not-live"
        "the grant has ended or is for another account"
        "ask for access again";
    /// Authentication is too weak or too old.
    AuthenticationTooWeak "authentication-too-weak"
        "a stronger or fresher sign-in is needed"
        "connect with a one-time code or sign in again";
    /// Asked for longer than policy allows.
    DurationTooLong "duration-too-long"
        "the duration asked for is longer than policy allows"
        "ask for a shorter time";
    /// Break-glass is blocked until its last use was reviewed.
    ReviewOutstanding "review-outstanding"
        "your last break-glass access has not been reviewed yet"
        "ask the security team to close the review";
    /// Uploads are not allowed.
    UploadRefused "upload-refused"
        "policy does not allow moving files to this target"
        "ask for access that allows uploads";
    /// Downloads are not allowed.
    DownloadRefused "download-refused"
        "policy does not allow taking files from this target"
        "ask for access that allows downloads";
    /// The protocol feature is not offered.
    FeatureRefused "feature-refused"
        "this feature is not offered through Sallyport"
        "shell, exec, sftp and scp are available";
    /// Where a forwarded connection would go cannot be read.
    DestinationInvalid "destination-invalid"
        "where the connection should go cannot be read"
        "name a host or an address and a port, or the absolute path of a socket";
    /// The target did not open what was permitted.
    TargetRefused "target-refused"
        "the target refused it"
        "check that the target's own settings allow it and that something answers there";
    /// Policy keeps the keyboard of a session to its own person, or it is one's own session.
    KeyboardRefused "keyboard-refused"
        "policy does not let anybody else type in this session"
        "join without `--keyboard`";
    /// An operation's description is too long to decide and record.
    OperationTooLong "operation-too-long"
        "the command or path is too long to be decided and recorded"
        "put it into a script and run that";
    /// The vault is sealed.
    VaultSealed "vault-sealed"
        "the vault is sealed, so no credential can be used"
        "an operator must unseal it: `sallyport operator unseal`";
    /// The account's credential cannot be made or opened.
    CredentialUnavailable "credential-unavailable"
        "no credential could be made for this account"
        "tell your operators: the account's secret is missing or its engine fails";
    /// The target cannot be reached.
    TargetUnreachable "target-unreachable"
        "the target could not be reached or refused the credential"
        "check that the target is up; an operator sees the cause in the log";
    /// The target's host key differs from the pinned one.
    HostKeyChanged "host-key-changed"
        "the target shows another host key than the pinned one"
        "do not go on; tell your security team";
    /// The target has no pinned host key and may not pin the first seen.
    HostKeyUnknown "host-key-unknown"
        "the target has no pinned host key"
        "an owner must add one: `sallyport target edit TARGET --host-key ...`";
    /// Recording cannot be written.
    RecorderFailed "recorder-failed"
        "the session cannot be recorded, so it does not take place"
        "tell your operators: the gateway cannot write recordings";
    /// The audit log cannot be written.
    AuditFailed "audit-failed"
        "the audit log cannot be written, so nothing happens"
        "tell your operators: the store cannot be written";
    /// The control plane does not answer.
    ControlUnavailable "control-unavailable"
        "the control plane does not answer"
        "try again in a moment";
    /// Too many attempts.
    TooManyAttempts "too-many-attempts"
        "too many failed attempts"
        "wait 15 minutes, or ask an owner";
    /// The selector cannot be read.
    SelectorInvalid "selector-invalid"
        "the name you connect to is not account@target"
        "use ssh account@target@gateway, for example ssh root@web-1@gw.example";
    /// A jump to something that is no target of this gateway, or from where nobody may jump.
    JumpRefused "jump-refused"
        "a jump through this gateway goes to one of its targets, port 22, and nowhere else"
        "use ssh -J gateway:7022 account@target, with the target's name as Sallyport knows it";
    /// The request was denied by an approver.
    RequestDenied "request-denied"
        "an approver denied the request"
        "talk to the approver, then ask again";
    /// A statement would write, or may, where only reading is allowed.
    ReadOnly "read-only"
        "this access only reads, and this statement may do more"
        "ask for access that allows writing; functions that are not known count as writing";
    /// A result has more rows than allowed.
    RowBudget "row-budget"
        "the result has more rows than policy allows, and was cut off"
        "ask for less at once, for example with LIMIT, or for another access";
    /// A result has more bytes than allowed.
    ByteBudget "byte-budget"
        "the result is larger than policy allows, and was cut off"
        "ask for less at once, for example for fewer columns, or for another access";
    /// A result may hold values of masked columns in a form that cannot be masked.
    MaskedColumn "masked-column"
        "policy masks columns that this result may hold in a form that cannot be masked"
        "ask for columns of tables as they are, without expressions, functions and COPY, in a new connection if policies changed; or for other access";
    /// Policy demands that only reading passes, and the protocol cannot tell.
    ReadOnlyNotEnforced "read-only-not-enforced"
        "policy demands that this access only reads (`@read_only`), which cannot be enforced in this protocol"
        "ask your security team to name `resource.target.protocol` in that policy, or ask for other access";
    /// Policy limits results, and the protocol has none that could be counted.
    BudgetsNotEnforced "budgets-not-enforced"
        "policy limits what statements take (`@statement_*`, `@grant_*`), which cannot be enforced in this protocol"
        "ask your security team to name `resource.target.protocol` in that policy, or ask for other access";
    /// Policy masks columns, and the protocol cannot tell where they are.
    MasksNotEnforced "masks-not-enforced"
        "policy masks columns (`@mask`), which cannot be enforced in this protocol"
        "ask your security team to name `resource.target.protocol` in that policy, or ask for other access";
    /// A statement ran longer than allowed.
    TimeBudget "time-budget"
        "the statement ran longer than policy allows, and was stopped"
        "ask for less at once, or for another access";
    /// The request ended before it was approved.
    RequestEnded "request-ended"
        "the request was cancelled or ran out before enough people approved"
        "ask again";
    /// Somebody denied a held command.
    CommandDenied "command-denied"
        "another person denied this command"
        "talk to that person; nothing of it has run";
    /// A held command was not approved in time.
    CommandNotApproved "command-not-approved"
        "this command was not approved in time"
        "run it again when an approver is there: `sallyport operation list`";
    /// A held command was given up while it waited.
    CommandWithdrawn "command-withdrawn"
        "the wait for approval was given up"
        "run the command again";
    /// What was approved is not what would run any more.
    CommandChanged "command-changed"
        "the command, its place or the policies changed while it waited for approval"
        "run the command again; it has to be approved anew";
    /// A command that must be approved cannot be shown exactly.
    CommandUnreadable "command-unreadable"
        "commands here must be approved, and this one cannot be shown exactly"
        "type it anew on one line, in UTF-8, as it is to run, without the shell's history (`!`)";
    /// Commands must be approved, and a program has the whole screen.
    ScreenUnreadable "screen-unreadable"
        "commands here must be approved, and lines cannot be read while a program has the whole screen; its Enter goes nowhere"
        "leave it with a key of its own (`q`, Ctrl-X, `ZZ`), or ask for `full_screen=allow` in the policy";
    /// Commands must be approved, and it cannot be seen where they begin.
    PromptUnknown "prompt-unknown"
        "commands here must be approved one by one, and this line stands behind no prompt that is known"
        "run single commands (`ssh account@target@gateway COMMAND`), or ask for a prompt pattern in the policy";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
