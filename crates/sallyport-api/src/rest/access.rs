//! Requests, votes, grants, break-glass and reviews.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use sallyport_core::time::Timestamp;

/// `POST /v1/requests`, and `POST /v1/break-glass` with the same shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Change ticket.
    pub ticket: Option<String>,
    /// For how long, in seconds; absent means one hour, or what policy allows if less.
    pub duration_s: Option<u64>,
}

/// A vote on a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VoteView {
    /// Who.
    pub voter: String,
    /// `approve` or `deny`.
    pub kind: String,
    /// Remark.
    pub comment: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestView {
    /// Id.
    pub id: String,
    /// Who asks.
    pub requester: String,
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// Why.
    pub reason: String,
    /// Change ticket.
    pub ticket: Option<String>,
    /// For how long, in seconds.
    pub duration_s: u64,
    /// Whether it is break-glass.
    pub is_break_glass: bool,
    /// `pending`, `granted`, `denied`, `cancelled`, `expired`.
    pub state: String,
    /// Yes votes still missing.
    pub approvals_missing: u64,
    /// Votes needed, in words: `2 from group sre`.
    pub quorums: Vec<String>,
    /// Votes cast.
    pub votes: Vec<VoteView>,
    /// Hash of exactly what is asked; a vote must name it.
    pub content_hash: String,
    /// The grant it became.
    pub grant_id: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// `POST /v1/requests/{id}/approve` and `…/deny`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CastVote {
    /// `content_hash` of the request as the voter saw it.
    pub content_hash: String,
    /// Remark.
    #[serde(default)]
    pub comment: String,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// Id.
    pub id: String,
    /// Request it came from.
    pub request_id: String,
    /// Holder.
    pub person: String,
    /// Account.
    pub account: String,
    /// Target.
    pub target: String,
    /// First moment.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// First moment after.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// `live` or `ended`.
    pub state: String,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// Whether it is break-glass.
    pub is_break_glass: bool,
}

/// Ends a grant (`POST /v1/grants/{id}/end`) or a session (`POST /v1/sessions/{id}/end`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Why; the person sees it. At most 1,000 characters.
    pub reason: String,
}

/// A break-glass review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReviewView {
    /// Id.
    pub id: String,
    /// The grant looked at.
    pub grant_id: String,
    /// Who broke the glass.
    pub person: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// `open` or `closed`.
    pub state: String,
    /// Who closed it.
    pub closed_by: Option<String>,
    /// What was found.
    pub finding: Option<String>,
}

/// `POST /v1/reviews/{id}/close`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseReview {
    /// What was found, 10 to 1,000 characters.
    pub finding: String,
}
