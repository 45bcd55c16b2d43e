//! Tables `audit_entry` (read), `audit_tile`, `audit_checkpoint`.

use sallyport_evidence::log::{tile::Tile, tree::TreeHash};

use crate::{
    kernel::{
        database::StoreError,
        statement::Sql,
        transaction::{OperationalTable, Transaction},
    },
    params,
};

/// Leaf hashes from `first` on, in order.
pub(super) async fn leaves(
    sql: &mut dyn Sql,
    first: u64,
    limit: u32,
) -> Result<Vec<(u64, TreeHash)>, StoreError> {
    let rows = sql
        .all(
            "SELECT seq, leaf FROM audit_entry WHERE seq >= $1 ORDER BY seq LIMIT $2",
            params![first, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let seq = row.count("seq")?;
            let leaf =
                TreeHash::from_slice(&row.bytes("leaf")?).ok_or_else(|| StoreError::Damaged {
                    place: format!("audit_entry {seq}"),
                    problem: "its leaf hash has not 32 bytes".to_owned(),
                })?;
            Ok((seq, leaf))
        })
        .collect()
}

/// The newest checkpoint: size, root, signed text.
pub(super) async fn checkpoint(
    sql: &mut dyn Sql,
) -> Result<Option<(u64, Vec<u8>, String)>, StoreError> {
    let sql_text = "SELECT size, root, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
    let row = sql.optional(sql_text, vec![]).await?;
    row.map(|row| Ok((row.count("size")?, row.bytes("root")?, row.text("note")?)))
        .transpose()
}

pub(super) async fn put_checkpoint(
    tx: &mut Transaction,
    size: u64,
    root: &TreeHash,
    note: &str,
) -> Result<(), StoreError> {
    tx.run_operational(
        OperationalTable::AuditCheckpoint,
        "INSERT INTO audit_checkpoint (size, root, note) VALUES ($1, $2, $3)
         ON CONFLICT (size) DO UPDATE SET root = excluded.root, note = excluded.note",
        params![size, root.as_bytes().to_vec(), note],
    )
    .await
    .map(drop)
}

/// Stores a full tile; it never changes, so a repeat is harmless.
pub(super) async fn put_tile(tx: &mut Transaction, tile: &Tile) -> Result<(), StoreError> {
    tx.run_operational(
        OperationalTable::AuditTile,
        "INSERT INTO audit_tile (level, position, hashes) VALUES ($1, $2, $3)
         ON CONFLICT (level, position) DO NOTHING",
        params![tile.address.level, tile.address.number, tile.bytes.clone()],
    )
    .await
    .map(drop)
}

/// Exact texts of entries from `first` on; only of `event` and about `about` unless empty. Newest
/// first when asked.
pub(super) async fn entries(
    sql: &mut dyn Sql,
    wanted: &Wanted<'_>,
) -> Result<Vec<(u64, String)>, StoreError> {
    let event = format!("%\"event\":\"{}\"%", wanted.event);
    let about = format!("%\"{}\"%", wanted.about);
    let arguments = params![
        wanted.first,
        wanted.event,
        event,
        wanted.about,
        about,
        wanted.limit
    ];
    let rows = if wanted.is_newest_first {
        sql.all(
            "SELECT seq, entry FROM audit_entry WHERE seq >= $1 AND ($2 = '' OR entry LIKE $3)
             AND ($4 = '' OR entry LIKE $5) ORDER BY seq DESC LIMIT $6",
            arguments,
        )
        .await?
    } else {
        sql.all(
            "SELECT seq, entry FROM audit_entry WHERE seq >= $1 AND ($2 = '' OR entry LIKE $3)
             AND ($4 = '' OR entry LIKE $5) ORDER BY seq LIMIT $6",
            arguments,
        )
        .await?
    };
    rows.iter()
        .map(|row| Ok((row.count("seq")?, row.text("entry")?)))
        .collect()
}

/// Which entries to read. `event` and `about` hold checked characters only, so that they cannot be
/// read as patterns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) first: u64,
    pub(super) event: &'a str,
    pub(super) about: &'a str,
    pub(super) limit: u32,
    pub(super) is_newest_first: bool,
}

/// Exact texts of the entries of one event that name `about`, oldest first, at most 10,000.
///
/// # Errors
/// [`StoreError`].
pub async fn entries_about(
    sql: &mut dyn Sql,
    event: sallyport_core::event::EventName,
    about: &str,
) -> Result<Vec<String>, StoreError> {
    let wanted = Wanted {
        first: 0,
        event: event.as_str(),
        about,
        limit: 10_000,
        is_newest_first: false,
    };
    Ok(entries(sql, &wanted)
        .await?
        .into_iter()
        .map(|(_, entry)| entry)
        .collect())
}
