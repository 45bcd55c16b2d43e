//! Tables `session`, `operation`, `recording`, `lease`.

pub(super) mod lease;

use sallyport_core::{
    id::{GatewayId, GrantId, LeaseId, PersonId, RecordingId, SessionId},
    lease::{Lease, LeaseState},
    policy::Constraints,
    principal::PersonName,
    session::{EndReason, OperationRecord},
    time::Timestamp,
};

use crate::{
    kernel::{
        database::StoreError,
        rows::RowsInsert,
        statement::{Row, Sql, Value},
        transaction::Transaction,
    },
    params,
};

/// A session as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Id.
    pub id: SessionId,
    /// Grant it runs under.
    pub grant_id: GrantId,
    /// Who.
    pub person_id: PersonId,
    /// Their name when it opened.
    pub person: String,
    /// Account id.
    pub account_id: String,
    /// Account name.
    pub account: String,
    /// Target id.
    pub target_id: String,
    /// Target name.
    pub target: String,
    /// Protocol kind.
    pub protocol: String,
    /// The client's address.
    pub ip: String,
    /// Gateway it runs on.
    pub gateway_id: GatewayId,
    /// Its recording.
    pub recording_id: RecordingId,
    /// When it opened.
    pub opened_at: Timestamp,
    /// Whether it is live.
    pub is_live: bool,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why, as its code.
    pub end_reason: Option<String>,
    /// Bytes towards the target.
    pub bytes_up: u64,
    /// Bytes from the target.
    pub bytes_down: u64,
    /// Operations recorded so far.
    pub operations: u64,
    /// What somebody said who asked to end it; the gateway is told until it reports the end.
    pub end_requested: Option<String>,
    /// Who paused it.
    pub paused_by: Option<PersonName>,
    /// The limits of its permit; absent for sessions of older versions.
    pub constraints: Option<Constraints>,
}

fn session(row: &Row) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id: row.parsed("id")?,
        grant_id: row.parsed("grant_id")?,
        person_id: row.parsed("person_id")?,
        person: row.text("person")?,
        account_id: row.text("account_id")?,
        account: row.text("account")?,
        target_id: row.text("target_id")?,
        target: row.text("target")?,
        protocol: row.text("protocol")?,
        ip: row.text("ip")?,
        gateway_id: row.parsed("gateway_id")?,
        recording_id: row.parsed("recording_id")?,
        opened_at: row.time("opened_at")?,
        is_live: row.flag("is_live")?,
        ended_at: row.time_or_null("ended_at")?,
        end_reason: row.text_or_null("end_reason")?,
        bytes_up: row.count("bytes_up")?,
        bytes_down: row.count("bytes_down")?,
        operations: row.count("operations")?,
        end_requested: row.text_or_null("end_requested")?,
        paused_by: row.parsed_or_null("paused_by")?,
        constraints: row.json_or_null("constraints")?,
    })
}

/// The session of this id, if there is one.
///
/// # Errors
/// [`StoreError`]; so for all here.
pub async fn session_by_id(
    sql: &mut dyn Sql,
    id: &SessionId,
) -> Result<Option<SessionRow>, StoreError> {
    let row = sql
        .optional("SELECT * FROM session WHERE id = $1", params![id.as_str()])
        .await?;
    row.as_ref().map(session).transpose()
}

/// Which sessions a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionFilter<'a> {
    /// Only this person's.
    pub(super) person: Option<&'a PersonId>,
    /// Only those under this grant.
    pub(super) grant: Option<&'a GrantId>,
    /// Only those that have not ended.
    pub(super) is_live_only: bool,
}

/// Sessions older than `cursor` (an id), newest first.
pub(super) async fn sessions_page(
    sql: &mut dyn Sql,
    filter: SessionFilter<'_>,
    cursor: &str,
    limit: u32,
) -> Result<Vec<SessionRow>, StoreError> {
    let rows = sql
        .all(
            "SELECT * FROM session WHERE ($1 = '' OR person_id = $1) AND ($2 = '' OR grant_id = $2)
                 AND is_live >= $3 AND ($4 = '' OR id < $4)
             ORDER BY id DESC LIMIT $5",
            params![
                filter.person.map_or("", PersonId::as_str),
                filter.grant.map_or("", GrantId::as_str),
                filter.is_live_only,
                cursor,
                limit
            ],
        )
        .await?;
    rows.iter().map(session).collect()
}

/// The sessions of one grant, counted and summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionGroup {
    pub(super) grant_id: GrantId,
    pub(super) person: String,
    pub(super) account: String,
    pub(super) target: String,
    pub(super) sessions: u64,
    pub(super) live: u64,
    pub(super) last: SessionId,
    pub(super) first_opened_at: Timestamp,
    pub(super) last_opened_at: Timestamp,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

/// Sessions by grant, the grant used last first: those whose newest session is older than `cursor` (its
/// id); only of `person` when given.
pub(super) async fn session_groups_page(
    sql: &mut dyn Sql,
    person: Option<&PersonId>,
    cursor: &str,
    limit: u32,
) -> Result<Vec<SessionGroup>, StoreError> {
    // A grant is one person's for one account; their names are as of the newest session.
    let rows = sql
        .all(
            "SELECT grant_id, MAX(person) AS person, MAX(account) AS account, MAX(target) AS target,
                 COUNT(*) AS sessions, CAST(SUM(is_live) AS BIGINT) AS live, MAX(id) AS last,
                 MIN(opened_at) AS first_opened_at, MAX(opened_at) AS last_opened_at,
                 CAST(SUM(bytes_up) AS BIGINT) AS bytes_up, CAST(SUM(bytes_down) AS BIGINT) AS bytes_down
             FROM session WHERE ($1 = '' OR person_id = $1)
             GROUP BY grant_id HAVING $2 = '' OR MAX(id) < $2 ORDER BY MAX(id) DESC LIMIT $3",
            params![person.map_or("", PersonId::as_str), cursor, limit],
        )
        .await?;
    let group = |row: &Row| {
        Ok(SessionGroup {
            grant_id: row.parsed("grant_id")?,
            person: row.text("person")?,
            account: row.text("account")?,
            target: row.text("target")?,
            sessions: row.count("sessions")?,
            live: row.count("live")?,
            last: row.parsed("last")?,
            first_opened_at: row.time("first_opened_at")?,
            last_opened_at: row.time("last_opened_at")?,
            bytes_up: row.count("bytes_up")?,
            bytes_down: row.count("bytes_down")?,
        })
    };
    rows.iter().map(group).collect()
}

/// Live sessions, all of them.
pub(super) async fn live_sessions(sql: &mut dyn Sql) -> Result<Vec<SessionRow>, StoreError> {
    let rows = sql
        .all(
            "SELECT * FROM session WHERE is_live = 1 ORDER BY id",
            vec![],
        )
        .await?;
    rows.iter().map(session).collect()
}

/// Live sessions under one grant.
pub(super) async fn live_sessions_of_grant(
    sql: &mut dyn Sql,
    grant_id: &GrantId,
) -> Result<Vec<SessionRow>, StoreError> {
    let rows = sql
        .all(
            "SELECT * FROM session WHERE is_live = 1 AND grant_id = $1",
            params![grant_id.as_str()],
        )
        .await?;
    rows.iter().map(session).collect()
}

pub(super) async fn insert_session(
    tx: &mut Transaction,
    session: &SessionRow,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO session (id, grant_id, person_id, person, account_id, account, target_id, target, protocol, ip,
             gateway_id, recording_id, opened_at, is_live, ended_at, end_reason, bytes_up, bytes_down, operations,
             end_requested, paused_by, constraints)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1, NULL, NULL, 0, 0, 0, NULL, NULL, $14)",
        params![
            session.id.as_str(),
            session.grant_id.as_str(),
            session.person_id.as_str(),
            session.person.as_str(),
            session.account_id.as_str(),
            session.account.as_str(),
            session.target_id.as_str(),
            session.target.as_str(),
            session.protocol.as_str(),
            session.ip.as_str(),
            session.gateway_id.as_str(),
            session.recording_id.as_str(),
            session.opened_at,
            Value::json(&session.constraints)?,
        ],
    )
    .await
    .map(drop)
}

/// Writes down who paused a session, or that nobody does any more.
pub(super) async fn set_paused(
    tx: &mut Transaction,
    id: &SessionId,
    by: Option<&PersonName>,
) -> Result<(), StoreError> {
    tx.run(
        "UPDATE session SET paused_by = $2 WHERE id = $1",
        params![id.as_str(), by.map(ToString::to_string)],
    )
    .await
    .map(drop)
}

/// Writes down that somebody asked to end a session.
pub(super) async fn request_end(
    tx: &mut Transaction,
    id: &SessionId,
    comment: &str,
) -> Result<(), StoreError> {
    tx.run(
        "UPDATE session SET end_requested = $2 WHERE id = $1",
        params![id.as_str(), comment],
    )
    .await
    .map(drop)
}

/// Marks a session ended; says whether it was live.
pub(super) async fn end_session(
    tx: &mut Transaction,
    id: &SessionId,
    reason: EndReason,
    now: Timestamp,
    bytes_up: u64,
    bytes_down: u64,
) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            "UPDATE session SET is_live = 0, ended_at = $2, end_reason = $3, bytes_up = $4, bytes_down = $5
             WHERE id = $1 AND is_live = 1",
            params![id.as_str(), now, reason.as_str(), bytes_up, bytes_down],
        )
        .await?;
    Ok(touched > 0)
}

static OPERATIONS: RowsInsert =
    RowsInsert::new("INSERT INTO operation (session_id, position, body)", 3);

/// A record of an operation as it is stored.
pub(super) struct OperationBody(String);

impl OperationBody {
    /// # Errors
    /// [`StoreError::Encode`].
    pub(super) fn of(record: &OperationRecord) -> Result<Self, StoreError> {
        let text = serde_json::to_string(record);
        text.map(Self).map_err(StoreError::Encode)
    }

    /// Its bytes.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

/// Stores the next operations of a session.
pub(super) async fn append_operations(
    tx: &mut Transaction,
    id: &SessionId,
    first: u64,
    records: &[OperationBody],
) -> Result<(), StoreError> {
    let mut position = first;
    for (sql, piece) in OPERATIONS.pieces(records) {
        let mut arguments = Vec::new();
        for OperationBody(text) in piece {
            arguments.extend(params![id.as_str(), position, text.as_str()]);
            position = position.saturating_add(1);
        }
        tx.run(sql, arguments).await?;
    }
    let count = first.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
    tx.run(
        "UPDATE session SET operations = $2 WHERE id = $1",
        params![id.as_str(), count],
    )
    .await
    .map(drop)
}

/// Operations of a session from `first` on, in order.
pub async fn operations_of(
    sql: &mut dyn Sql,
    id: &SessionId,
    first: u64,
    limit: u32,
) -> Result<Vec<OperationRecord>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM operation WHERE session_id = $1 AND position >= $2 ORDER BY position LIMIT $3",
            params![id.as_str(), first, limit],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// A recording as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingRow {
    /// Id.
    pub id: RecordingId,
    /// Session it is of.
    pub session_id: SessionId,
    /// `live`, `complete`, `cut_off`.
    pub state: String,
    /// Durable chunks.
    pub chunks: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Chain value, lower-case hex.
    pub chain: String,
}

fn recording(row: &Row) -> Result<RecordingRow, StoreError> {
    Ok(RecordingRow {
        id: row.parsed("id")?,
        session_id: row.parsed("session_id")?,
        state: row.text("state")?,
        chunks: row.count("chunks")?,
        size_bytes: row.count("size_bytes")?,
        chain: row.text("chain")?,
    })
}

/// The recording of this id, if there is one.
pub async fn recording_by_id(
    sql: &mut dyn Sql,
    id: &RecordingId,
) -> Result<Option<RecordingRow>, StoreError> {
    let row = sql
        .optional(
            "SELECT * FROM recording WHERE id = $1",
            params![id.as_str()],
        )
        .await?;
    row.as_ref().map(recording).transpose()
}

pub(super) async fn insert_recording(
    tx: &mut Transaction,
    id: &RecordingId,
    session_id: &SessionId,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO recording (id, session_id, state, chunks, size_bytes, chain) VALUES ($1, $2, 'live', 0, 0, '')",
        params![id.as_str(), session_id.as_str()],
    )
    .await
    .map(drop)
}

pub(super) async fn update_recording(
    tx: &mut Transaction,
    recording: &RecordingRow,
) -> Result<(), StoreError> {
    tx.run(
        "UPDATE recording SET state = $2, chunks = $3, size_bytes = $4, chain = $5 WHERE id = $1",
        params![
            recording.id.as_str(),
            recording.state.as_str(),
            recording.chunks,
            recording.size_bytes,
            recording.chain.as_str(),
        ],
    )
    .await
    .map(drop)
}

pub(super) async fn put_lease(tx: &mut Transaction, lease: &Lease) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO lease (id, grant_id, session_id, state, expires_at, next_attempt_at, revoke_attempts, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at,
             next_attempt_at = excluded.next_attempt_at, revoke_attempts = excluded.revoke_attempts,
             body = excluded.body",
        params![
            lease.id.as_str(),
            lease.grant_id.as_str(),
            lease.session_id.as_str(),
            state_text(lease.state),
            lease.expires_at,
            lease.next_attempt_at,
            lease.revoke_attempts,
            Value::json(lease)?,
        ],
    )
    .await
    .map(drop)
}

/// As stored and shown.
pub(super) const fn state_text(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Intended => "intended",
        LeaseState::Issued => "issued",
        LeaseState::Revoking => "revoking",
        LeaseState::Revoked => "revoked",
    }
}

/// The lease of this id, if there is one.
pub(super) async fn lease_by_id(
    sql: &mut dyn Sql,
    id: &LeaseId,
) -> Result<Option<Lease>, StoreError> {
    let row = sql
        .optional("SELECT body FROM lease WHERE id = $1", params![id.as_str()])
        .await?;
    row.map(|row| row.json("body")).transpose()
}

/// Leases of one grant that still need an end.
pub(super) async fn open_leases_of_grant(
    sql: &mut dyn Sql,
    grant_id: &GrantId,
) -> Result<Vec<Lease>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM lease WHERE grant_id = $1 AND state <> 'revoked'",
            params![grant_id.as_str()],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// Leases of one session that still need an end.
pub(super) async fn open_leases_of_session(
    sql: &mut dyn Sql,
    session_id: &SessionId,
) -> Result<Vec<Lease>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM lease WHERE session_id = $1 AND state <> 'revoked'",
            params![session_id.as_str()],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}

/// Leases whose credential may or may not exist: what a crash left.
pub(super) async fn intended_leases(sql: &mut dyn Sql) -> Result<Vec<Lease>, StoreError> {
    let rows = sql
        .all(
            "SELECT body FROM lease WHERE state = 'intended' LIMIT 1000",
            vec![],
        )
        .await?;
    rows.iter().map(|row| row.json("body")).collect()
}
