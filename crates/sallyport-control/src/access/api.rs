//! Routes of requests, votes, grants, break-glass and reviews.

use axum::{Json, extract::State, http::StatusCode};
use sallyport_api::rest::{
    access::{
        CastVote, CloseReview, CreateRequest, End, GrantView, RequestView, ReviewView, VoteView,
    },
    page::{Page, PageQuery},
    problem::Problem,
};
use sallyport_core::{
    access::{AccessRequest, Ballot, Grant, Refusal, RequestState, Review, ReviewState, VoteKind},
    authz::{AdminAction, Unmet},
    id::{GrantId, RequestId, ReviewId},
    time::Timestamp,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{
    facts::Asker,
    store,
    workflow::{self, AccessError, Ask, Submitted, name_of},
};
use crate::{
    inventory,
    kernel::{
        caller::{Caller, ClientAddress},
        control::Control,
        database::StoreError,
        extract::{JsonBody, PathText, QueryFields},
        http::{Access, Routes},
        page::Wanted,
        problem::{Fault, Faulty, HttpProblem},
        statement::Sql,
    },
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    let ask = Access::Action(AdminAction::RequestCreate);
    let vote = Access::Action(AdminAction::RequestVote);
    Routes::new()
        .route(ask, routes!(create_request))
        .route(ask, routes!(break_glass))
        .route(ask, routes!(list_requests))
        .route(ask, routes!(show_request))
        .route(ask, routes!(cancel_request))
        .route(vote, routes!(approve_request))
        .route(vote, routes!(deny_request))
        .route(ask, routes!(list_grants))
        .route(ask, routes!(show_grant))
        .route(ask, routes!(end_grant))
        .route(
            Access::Action(AdminAction::ReviewList),
            routes!(list_reviews),
        )
        .route(
            Access::Action(AdminAction::ReviewClose),
            routes!(close_review),
        )
}

impl Faulty for AccessError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotFound { noun } => Fault::NotFound { noun },
            Self::BadField { field, problem } => {
                Fault::field(*field, format!("`{field}` {problem}"))
            }
            Self::Refused(Refusal::ContentChanged) => Fault::Conflict {
                title: self.to_string(),
                remedy: "show the request again and vote on what it says now",
            },
            Self::Refused(refusal) => Fault::Conflict {
                title: refusal.to_string(),
                remedy: match refusal {
                    Refusal::OwnRequest | Refusal::AlreadyVoted | Refusal::NotAnApprover => {
                        "another person must vote; `request show` says who may"
                    }
                    Refusal::NotPending | Refusal::NotRequester | Refusal::ContentChanged => {
                        "see where it stands: `request show`"
                    }
                    Refusal::TextTooLong => "shorten it",
                },
            },
            Self::Review(error) => Fault::Conflict {
                title: error.to_string(),
                remedy: "see where it stands: `review list`",
            },
            Self::Ended => Fault::Conflict {
                title: "it has ended already".to_owned(),
                remedy: "nothing needs to be done",
            },
            Self::Store(error) => error.fault(),
        }
    }
}

/// Which requests or grants to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Items on a page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Requests: `pending`, `granted`, `denied`, `cancelled`, `expired`. Grants: `live`.
    state: Option<String>,
    /// Only the caller's own; always so for those who may not see everybody's.
    #[serde(default)]
    mine: bool,
}

impl ListQuery {
    fn wanted(&self) -> Result<Wanted, HttpProblem> {
        Wanted::from_query(&PageQuery {
            cursor: self.cursor.clone(),
            limit: self.limit,
        })
    }
}

/// What is missing, in words for a person.
#[must_use]
pub fn unmet_in_words(unmet: &Unmet) -> String {
    match unmet {
        Unmet::Grant => "access must be asked for".to_owned(),
        Unmet::Mfa {
            strength,
            max_age_s: None,
        } => format!("a {} sign-in", strength.as_str()),
        Unmet::Mfa {
            strength,
            max_age_s: Some(age),
        } => {
            format!(
                "a {} sign-in no older than {age} seconds",
                strength.as_str()
            )
        }
        Unmet::Justification { min_chars } => {
            format!("a reason of at least {min_chars} characters")
        }
        Unmet::Ticket { prefix } => format!("a ticket such as {prefix}1234"),
        Unmet::Approval {
            count,
            from: Some(group),
        } => format!("{count} approval(s) from group {group}"),
        Unmet::Approval { count, from: None } => format!("{count} approval(s)"),
        Unmet::CommandApproval(_) => "approval of this command".to_owned(),
    }
}

/// Votes needed, in words.
pub(crate) fn quorum_words(ballot: &Ballot) -> Vec<String> {
    let words = ballot.quorums.iter().map(|quorum| match &quorum.from {
        Some(group) => format!("{} from group {group}", quorum.count),
        None => format!("{} from any approver", quorum.count),
    });
    words.collect()
}

/// Votes cast.
pub(crate) fn vote_views(ballot: &Ballot) -> Vec<VoteView> {
    let views = ballot.votes.iter().map(|vote| VoteView {
        voter: vote.voter.to_string(),
        kind: match vote.kind {
            VoteKind::Approve => "approve".to_owned(),
            VoteKind::Deny => "deny".to_owned(),
        },
        comment: vote.comment.clone(),
        at: vote.at,
    });
    views.collect()
}

fn request_view(request: &AccessRequest) -> RequestView {
    let asked = &request.asked;
    RequestView {
        id: request.id.to_string(),
        requester: asked.requester.to_string(),
        account: asked.account.to_string(),
        target: asked.target.to_string(),
        reason: asked.reason.clone(),
        ticket: asked.ticket.clone(),
        duration_s: asked.duration_s,
        is_break_glass: asked.is_break_glass,
        state: request.state.as_str().to_owned(),
        approvals_missing: request.approvals_missing(),
        quorums: quorum_words(&request.ballot),
        votes: vote_views(&request.ballot),
        content_hash: asked.content_hash(),
        grant_id: match &request.state {
            RequestState::Granted { grant_id } => Some(grant_id.to_string()),
            _ => None,
        },
        created_at: request.created_at,
        expires_at: request.expires_at,
    }
}

async fn grant_view(
    sql: &mut dyn Sql,
    grant: &Grant,
    now: Timestamp,
) -> Result<GrantView, StoreError> {
    let request = store::request_by_id(sql, &grant.request_id).await?;
    let (account, target) = match &request {
        Some(request) => (
            request.asked.account.to_string(),
            request.asked.target.to_string(),
        ),
        None => {
            let target = inventory::target_by_id(sql, &grant.target_id).await?;
            (
                grant.account_id.to_string(),
                target.map_or_else(String::new, |target| target.name.to_string()),
            )
        }
    };
    Ok(GrantView {
        id: grant.id.to_string(),
        request_id: grant.request_id.to_string(),
        person: name_of(sql, &grant.person_id).await?,
        account,
        target,
        from: grant.from,
        until: grant.until,
        state: if grant.is_live(now) { "live" } else { "ended" }.to_owned(),
        end_reason: grant.ended.map(|(_, reason)| reason.as_str().to_owned()),
        is_break_glass: grant.is_break_glass,
    })
}

async fn review_view(sql: &mut dyn Sql, review: &Review) -> Result<ReviewView, StoreError> {
    let (state, closed_by, finding) = match &review.state {
        ReviewState::Open => ("open", None, None),
        ReviewState::Closed { by, finding, .. } => (
            "closed",
            Some(name_of(sql, by).await?),
            Some(finding.clone()),
        ),
    };
    Ok(ReviewView {
        id: review.id.to_string(),
        grant_id: review.grant_id.to_string(),
        person: name_of(sql, &review.person_id).await?,
        opened_at: review.opened_at,
        state: state.to_owned(),
        closed_by,
        finding,
    })
}

async fn ask(
    control: &Control,
    caller: &Caller,
    ClientAddress(ip): ClientAddress,
    body: CreateRequest,
    is_break_glass: bool,
) -> Result<(StatusCode, Json<RequestView>), HttpProblem> {
    let ask = Ask {
        account: body
            .account
            .parse()
            .map_err(|error| HttpProblem::of(Fault::field("account", error)))?,
        target: body
            .target
            .parse()
            .map_err(|error| HttpProblem::of(Fault::field("target", error)))?,
        reason: body.reason,
        ticket: body.ticket,
        duration_s: body.duration_s,
        is_break_glass,
    };
    let asker = Asker {
        person_id: caller.person.id.clone(),
        authentication: caller.authentication.clone(),
        ip,
    };
    match workflow::submit(control, &asker, ask).await? {
        Submitted::Request { request, .. } => {
            Ok((StatusCode::CREATED, Json(request_view(&request))))
        }
        Submitted::Challenge { unmet, .. } => Err(HttpProblem::of(Fault::Challenged {
            unmet: unmet.iter().map(unmet_in_words).collect(),
        })),
        Submitted::Refused { reasons, reference } => Err(HttpProblem::of(Fault::Refused {
            reason: reasons
                .first()
                .copied()
                .unwrap_or(sallyport_core::authz::Reason::NotPermitted),
            unmet: Vec::new(),
            reference: Some(reference),
        })),
    }
}

/// Asks for access.
#[utoipa::path(post, path = "/v1/requests", tag = "request", request_body = CreateRequest,
    responses((status = 201, body = RequestView), (status = "default", body = Problem)))]
async fn create_request(
    State(control): State<Control>,
    caller: Caller,
    address: ClientAddress,
    JsonBody(body): JsonBody<CreateRequest>,
) -> Result<(StatusCode, Json<RequestView>), HttpProblem> {
    ask(&control, &caller, address, body, false).await
}

/// Breaks the glass: access at once, security told at once, a review that blocks the next use.
#[utoipa::path(post, path = "/v1/break-glass", tag = "request", request_body = CreateRequest,
    responses((status = 201, body = RequestView), (status = "default", body = Problem)))]
async fn break_glass(
    State(control): State<Control>,
    caller: Caller,
    address: ClientAddress,
    JsonBody(body): JsonBody<CreateRequest>,
) -> Result<(StatusCode, Json<RequestView>), HttpProblem> {
    ask(&control, &caller, address, body, true).await
}

/// Lists requests, newest first: everybody's for those who may see them, else one's own.
#[utoipa::path(get, path = "/v1/requests", tag = "request", params(ListQuery),
    responses((status = 200, body = Page<RequestView>), (status = "default", body = Problem)))]
async fn list_requests(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<ListQuery>,
) -> Result<Json<Page<RequestView>>, HttpProblem> {
    let wanted = query.wanted()?;
    let is_own_only = query.mine || !caller.is_permitted(AdminAction::RequestList);
    let requester = is_own_only.then_some(&caller.person.id);
    let mut reader = control.db().read().await?;
    let requests = store::requests_page(
        &mut reader,
        requester,
        query.state.as_deref(),
        &wanted.cursor,
        wanted.load(),
    )
    .await?;
    let views = requests.iter().map(request_view).collect();
    Ok(Json(wanted.page(views, |view| view.id.clone())))
}

/// Shows a request.
#[utoipa::path(get, path = "/v1/requests/{id}", tag = "request", params(("id" = String, Path,)),
    responses((status = 200, body = RequestView), (status = "default", body = Problem)))]
async fn show_request(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<RequestId>,
) -> Result<Json<RequestView>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let request = store::request_by_id(&mut reader, &id)
        .await?
        .filter(|request| {
            request.asked.requester_id == caller.person.id
                || caller.is_permitted(AdminAction::RequestList)
        })
        .ok_or(AccessError::NotFound { noun: "request" })?;
    Ok(Json(request_view(&request)))
}

/// Takes one's own request back.
#[utoipa::path(post, path = "/v1/requests/{id}/cancel", tag = "request", params(("id" = String, Path,)),
    responses((status = 200, body = RequestView), (status = "default", body = Problem)))]
async fn cancel_request(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<RequestId>,
) -> Result<Json<RequestView>, HttpProblem> {
    let request = workflow::cancel(&control, &caller.person.id, &id).await?;
    Ok(Json(request_view(&request)))
}

/// Votes yes on exactly what `content_hash` names.
#[utoipa::path(post, path = "/v1/requests/{id}/approve", tag = "request", params(("id" = String, Path,)),
    request_body = CastVote,
    responses((status = 200, body = RequestView), (status = "default", body = Problem)))]
async fn approve_request(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<RequestId>,
    JsonBody(body): JsonBody<CastVote>,
) -> Result<Json<RequestView>, HttpProblem> {
    cast(&control, &caller, &id, &body, VoteKind::Approve).await
}

/// Votes no on exactly what `content_hash` names; one no is enough.
#[utoipa::path(post, path = "/v1/requests/{id}/deny", tag = "request", params(("id" = String, Path,)),
    request_body = CastVote,
    responses((status = 200, body = RequestView), (status = "default", body = Problem)))]
async fn deny_request(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<RequestId>,
    JsonBody(body): JsonBody<CastVote>,
) -> Result<Json<RequestView>, HttpProblem> {
    cast(&control, &caller, &id, &body, VoteKind::Deny).await
}

async fn cast(
    control: &Control,
    caller: &Caller,
    id: &RequestId,
    body: &CastVote,
    kind: VoteKind,
) -> Result<Json<RequestView>, HttpProblem> {
    let request = workflow::vote(
        control,
        &caller.person.id,
        id,
        &body.content_hash,
        kind,
        &body.comment,
    )
    .await?;
    Ok(Json(request_view(&request)))
}

/// Lists grants, newest first: everybody's for those who may see them, else one's own.
#[utoipa::path(get, path = "/v1/grants", tag = "grant", params(ListQuery),
    responses((status = 200, body = Page<GrantView>), (status = "default", body = Problem)))]
async fn list_grants(
    State(control): State<Control>,
    caller: Caller,
    QueryFields(query): QueryFields<ListQuery>,
) -> Result<Json<Page<GrantView>>, HttpProblem> {
    let wanted = query.wanted()?;
    let is_live_only = match query.state.as_deref() {
        None => false,
        Some("live") => true,
        Some(_) => {
            return Err(HttpProblem::of(Fault::field(
                "state",
                "is `live` or left out",
            )));
        }
    };
    let is_own_only = query.mine || !caller.is_permitted(AdminAction::GrantList);
    let person = is_own_only.then_some(&caller.person.id);
    let mut reader = control.db().read().await?;
    let now = control.now();
    let mut views = Vec::new();
    for grant in store::grants_page(
        &mut reader,
        person,
        is_live_only,
        &wanted.cursor,
        wanted.load(),
    )
    .await?
    {
        views.push(grant_view(&mut reader, &grant, now).await?);
    }
    Ok(Json(wanted.page(views, |view| view.id.clone())))
}

/// Shows a grant.
#[utoipa::path(get, path = "/v1/grants/{id}", tag = "grant", params(("id" = String, Path,)),
    responses((status = 200, body = GrantView), (status = "default", body = Problem)))]
async fn show_grant(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<GrantId>,
) -> Result<Json<GrantView>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let grant = store::grant_by_id(&mut reader, &id)
        .await?
        .filter(|grant| {
            grant.person_id == caller.person.id || caller.is_permitted(AdminAction::GrantList)
        })
        .ok_or(AccessError::NotFound { noun: "grant" })?;
    Ok(Json(grant_view(&mut reader, &grant, control.now()).await?))
}

/// Ends a grant and every session under it: one's own, or anybody's for those who may.
#[utoipa::path(post, path = "/v1/grants/{id}/end", tag = "grant", params(("id" = String, Path,)),
    request_body = End,
    responses((status = 200, body = GrantView), (status = "default", body = Problem)))]
async fn end_grant(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<GrantId>,
    JsonBody(body): JsonBody<End>,
) -> Result<Json<GrantView>, HttpProblem> {
    let may_end_any = caller.is_permitted(AdminAction::GrantEnd);
    let comment = workflow::checked_comment(&body.reason)?;
    let grant = workflow::end_grant(&control, &caller.person, may_end_any, &id, comment).await?;
    let mut reader = control.db().read().await?;
    Ok(Json(grant_view(&mut reader, &grant, control.now()).await?))
}

/// Lists break-glass reviews, newest first.
#[utoipa::path(get, path = "/v1/reviews", tag = "review", params(PageQuery),
    responses((status = 200, body = Page<ReviewView>), (status = "default", body = Problem)))]
async fn list_reviews(
    State(control): State<Control>,
    QueryFields(query): QueryFields<PageQuery>,
) -> Result<Json<Page<ReviewView>>, HttpProblem> {
    let wanted = Wanted::from_query(&query)?;
    let mut reader = control.db().read().await?;
    let mut views = Vec::new();
    for review in store::reviews_page(&mut reader, &wanted.cursor, wanted.load()).await? {
        views.push(review_view(&mut reader, &review).await?);
    }
    Ok(Json(wanted.page(views, |view| view.id.clone())))
}

/// Closes the review of a break-glass use.
#[utoipa::path(post, path = "/v1/reviews/{id}/close", tag = "review", params(("id" = String, Path,)),
    request_body = CloseReview,
    responses((status = 200, body = ReviewView), (status = "default", body = Problem)))]
async fn close_review(
    State(control): State<Control>,
    caller: Caller,
    PathText(id): PathText<ReviewId>,
    JsonBody(body): JsonBody<CloseReview>,
) -> Result<Json<ReviewView>, HttpProblem> {
    let review = workflow::close_review(&control, &caller.person, &id, &body.finding).await?;
    let mut reader = control.db().read().await?;
    Ok(Json(review_view(&mut reader, &review).await?))
}
