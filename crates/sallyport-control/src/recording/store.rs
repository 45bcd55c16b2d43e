//! Reads recordings with the sessions they are of, and their anchors in the audit log. Nothing is
//! written here: the rows belong to `broker`.

use std::time::Duration;

use sallyport_core::{
    event::EventName,
    id::{GrantId, RecordingId, SessionId},
    time::Timestamp,
};
use sallyport_evidence::{
    log::entry::EntryHeader,
    recording::{Anchor, ChainValue},
};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Row, Sql},
    },
    params,
};

/// A recording and its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordingRow {
    pub(super) id: RecordingId,
    pub(super) session_id: SessionId,
    pub(super) person: String,
    pub(super) account: String,
    pub(super) target: String,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    /// `live`, `complete` or `cut_off`.
    pub(super) state: String,
    pub(super) chunks: u64,
    pub(super) size_bytes: u64,
    pub(super) chain: String,
}

impl RecordingRow {
    pub(super) fn is_live(&self) -> bool {
        self.state == "live"
    }

    /// The newest anchor; nothing when no chunk was anchored.
    pub(super) fn anchor(&self) -> Result<Option<Anchor>, StoreError> {
        anchor_reported(&self.id, self.chunks, &self.chain)
    }
}

fn recording(row: &Row) -> Result<RecordingRow, StoreError> {
    Ok(RecordingRow {
        id: row.parsed("id")?,
        session_id: row.parsed("session_id")?,
        person: row.text("person")?,
        account: row.text("account")?,
        target: row.text("target")?,
        started_at: row.time("opened_at")?,
        ended_at: row.time_or_null("ended_at")?,
        state: row.text("state")?,
        chunks: row.count("chunks")?,
        size_bytes: row.count("size_bytes")?,
        chain: row.text("chain")?,
    })
}

/// The recording of this id, if there is one.
pub(super) async fn by_id(
    sql: &mut dyn Sql,
    id: &RecordingId,
) -> Result<Option<RecordingRow>, StoreError> {
    let row = sql
        .optional(
            "SELECT recording.id AS id, session_id, person, account, target, opened_at, ended_at, state,
                 chunks, size_bytes, chain
             FROM recording JOIN session ON session.id = recording.session_id WHERE recording.id = $1",
            params![id.as_str()],
        )
        .await?;
    row.as_ref().map(recording).transpose()
}

/// Recordings older than `cursor` (an id), newest first; only of sessions under `grant` when given.
pub(super) async fn page(
    sql: &mut dyn Sql,
    grant: Option<&GrantId>,
    cursor: &str,
    limit: u32,
) -> Result<Vec<RecordingRow>, StoreError> {
    let rows = sql
        .all(
            "SELECT recording.id AS id, session_id, person, account, target, opened_at, ended_at, state,
                 chunks, size_bytes, chain
             FROM recording JOIN session ON session.id = recording.session_id
             WHERE ($1 = '' OR recording.id < $1) AND ($2 = '' OR grant_id = $2)
             ORDER BY recording.id DESC LIMIT $3",
            params![cursor, grant.map_or("", GrantId::as_str), limit],
        )
        .await?;
    rows.iter().map(recording).collect()
}

/// The recordings of one grant's sessions, counted and summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordingGroup {
    pub(super) grant_id: GrantId,
    pub(super) person: String,
    pub(super) account: String,
    pub(super) target: String,
    pub(super) recordings: u64,
    pub(super) live: u64,
    pub(super) cut_off: u64,
    pub(super) last: RecordingId,
    pub(super) first_started_at: Timestamp,
    pub(super) last_started_at: Timestamp,
    pub(super) size_bytes: u64,
}

/// Recordings by grant, the grant used last first: those whose newest recording is older than `cursor`
/// (its id).
pub(super) async fn groups_page(
    sql: &mut dyn Sql,
    cursor: &str,
    limit: u32,
) -> Result<Vec<RecordingGroup>, StoreError> {
    let rows = sql
        .all(
            "SELECT grant_id, MAX(person) AS person, MAX(account) AS account, MAX(target) AS target,
                 COUNT(*) AS recordings,
                 CAST(SUM(CASE state WHEN 'live' THEN 1 ELSE 0 END) AS BIGINT) AS live,
                 CAST(SUM(CASE state WHEN 'cut_off' THEN 1 ELSE 0 END) AS BIGINT) AS cut_off,
                 MAX(recording.id) AS last, MIN(opened_at) AS first_started_at,
                 MAX(opened_at) AS last_started_at, CAST(SUM(size_bytes) AS BIGINT) AS size_bytes
             FROM recording JOIN session ON session.id = recording.session_id
             GROUP BY grant_id HAVING $1 = '' OR MAX(recording.id) < $1
             ORDER BY MAX(recording.id) DESC LIMIT $2",
            params![cursor, limit],
        )
        .await?;
    let group = |row: &Row| {
        Ok(RecordingGroup {
            grant_id: row.parsed("grant_id")?,
            person: row.text("person")?,
            account: row.text("account")?,
            target: row.text("target")?,
            recordings: row.count("recordings")?,
            live: row.count("live")?,
            cut_off: row.count("cut_off")?,
            last: row.parsed("last")?,
            first_started_at: row.time("first_started_at")?,
            last_started_at: row.time("last_started_at")?,
            size_bytes: row.count("size_bytes")?,
        })
    };
    rows.iter().map(group).collect()
}

/// Whether a recording is still being written; one that is gone is not.
pub(super) async fn is_live(sql: &mut dyn Sql, id: &RecordingId) -> Result<bool, StoreError> {
    let row = sql
        .optional(
            "SELECT state FROM recording WHERE id = $1",
            params![id.as_str()],
        )
        .await?;
    Ok(match row {
        Some(row) => row.text("state")? == "live",
        None => false,
    })
}

/// Entries looked through at a time.
const ENTRIES_AT_ONCE: u32 = 500;
/// The last anchor is recorded with the session's end; this much later nothing follows.
const AFTER_END: Duration = Duration::from_secs(60);

/// Every anchor of a recording in the audit log, in order of the log. Looks only at entries of the
/// session's time, because entries are in order of time.
pub(super) async fn anchors_in_log(
    sql: &mut dyn Sql,
    recording: &RecordingRow,
) -> Result<Vec<Anchor>, StoreError> {
    let size = log_size(sql).await?;
    let mut next = first_at_or_after(sql, recording.started_at, size).await?;
    let end = match recording.ended_at {
        Some(ended_at) => first_at_or_after(sql, ended_at.plus(AFTER_END), size).await?,
        None => size,
    };
    // The pattern finds more than this recording's own entries; each is read before it counts.
    let pattern = format!("%\"subject\":\"{}\"%", recording.id);
    let mut anchors = Vec::new();
    while next < end {
        let rows = sql
            .all(
                "SELECT seq, entry FROM audit_entry WHERE seq >= $1 AND seq < $2 AND entry LIKE $3
                 ORDER BY seq LIMIT $4",
                params![next, end, pattern.as_str(), ENTRIES_AT_ONCE],
            )
            .await?;
        let Some(last) = rows.last() else { break };
        next = last.count("seq")?.saturating_add(1);
        for row in &rows {
            anchors.extend(anchor_of_entry(&recording.id, &row.text("entry")?)?);
        }
    }
    Ok(anchors)
}

async fn log_size(sql: &mut dyn Sql) -> Result<u64, StoreError> {
    let row = sql
        .optional("SELECT next_seq FROM audit_head WHERE id = 1", vec![])
        .await?;
    row.map_or(Ok(0), |row| row.count("next_seq"))
}

/// The first entry recorded at `at` or later, by bisection; `size` when there is none.
async fn first_at_or_after(sql: &mut dyn Sql, at: Timestamp, size: u64) -> Result<u64, StoreError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let row = sql
            .optional(
                "SELECT entry FROM audit_entry WHERE seq = $1",
                params![middle],
            )
            .await?
            .ok_or_else(|| damaged(middle, "it is missing"))?;
        let entry = row.text("entry")?;
        let header =
            EntryHeader::parse(entry.as_bytes()).map_err(|error| damaged(middle, error))?;
        let recorded_at: Timestamp = header.at.parse().map_err(|error| damaged(middle, error))?;
        if recorded_at < at {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn damaged(seq: u64, problem: impl ToString) -> StoreError {
    StoreError::Damaged {
        place: format!("audit entry {seq}"),
        problem: problem.to_string(),
    }
}

/// The anchor that an entry holds, if it is one of this recording's.
fn anchor_of_entry(id: &RecordingId, entry: &str) -> Result<Option<Anchor>, StoreError> {
    let header = EntryHeader::parse(entry.as_bytes()).map_err(|error| StoreError::Damaged {
        place: "audit_entry".to_owned(),
        problem: error.to_string(),
    })?;
    let is_anchor = [
        EventName::RecordingAnchored,
        EventName::RecordingCompleted,
        EventName::RecordingCutOff,
    ]
    .iter()
    .any(|name| name.as_str() == header.event);
    if !is_anchor || header.subject != id.as_str() {
        return Ok(None);
    }
    let unreadable = || damaged(header.seq, "it holds no readable anchor");
    let body: serde_json::Value = serde_json::from_str(entry).map_err(|_| unreadable())?;
    let fields = body.get("data").ok_or_else(unreadable)?;
    let chunks = fields.get("chunks").and_then(serde_json::Value::as_u64);
    let chain = fields.get("chain").and_then(serde_json::Value::as_str);
    match (chunks, chain) {
        (Some(chunks), Some(chain)) => anchor(chunks, chain).map_err(|_| unreadable()),
        _ => Err(unreadable()),
    }
}

/// An anchor as a gateway reports one; nothing when it is of no chunk.
pub(super) fn anchor_reported(
    id: &RecordingId,
    chunks: u64,
    chain: &str,
) -> Result<Option<Anchor>, StoreError> {
    anchor(chunks, chain).map_err(|_| StoreError::Damaged {
        place: format!("recording {id}"),
        problem: "its chain value is not 64 hexadecimal digits".to_owned(),
    })
}

/// An anchor from a number of chunks and the chain value after them; nothing when there are none yet.
fn anchor(chunks: u64, chain: &str) -> Result<Option<Anchor>, hex::FromHexError> {
    let Some(index) = chunks.checked_sub(1) else {
        return Ok(None);
    };
    let mut value = [0_u8; 32];
    hex::decode_to_slice(chain, &mut value)?;
    Ok(Some(Anchor {
        index,
        chain: ChainValue(value),
    }))
}
