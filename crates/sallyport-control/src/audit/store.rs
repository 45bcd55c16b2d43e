//! Tables `audit_entry` (read), `audit_tile`, `audit_checkpoint`.

use sallyport_core::event::EventName;
use sallyport_evidence::log::{
    tile::{TILE_WIDTH, Tile, TileAddress},
    tree::TreeHash,
};

use crate::{
    kernel::{
        database::StoreError,
        statement::{Row, Sql},
        transaction::{OperationalTable, Transaction},
    },
    params,
};

/// An entry with the leaf hash that was stored with it.
#[derive(Debug)]
pub(super) struct StoredEntry {
    pub(super) seq: u64,
    pub(super) text: String,
    pub(super) leaf: TreeHash,
}

fn leaf(row: &Row, seq: u64) -> Result<TreeHash, StoreError> {
    TreeHash::from_slice(&row.bytes("leaf")?).ok_or_else(|| StoreError::Damaged {
        place: format!("audit_entry {seq}"),
        problem: "its leaf hash has not 32 bytes".to_owned(),
    })
}

/// Entries from `first` on, in order, with their leaves.
pub(super) async fn stored_entries(
    sql: &mut dyn Sql,
    first: u64,
    limit: u64,
) -> Result<Vec<StoredEntry>, StoreError> {
    let rows = sql
        .all(
            "SELECT seq, entry, leaf FROM audit_entry WHERE seq >= $1 ORDER BY seq LIMIT $2",
            params![first, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let seq = row.count("seq")?;
            Ok(StoredEntry {
                seq,
                text: row.text("entry")?,
                leaf: leaf(row, seq)?,
            })
        })
        .collect()
}

/// Leaf hashes from `first` on, in order.
pub(super) async fn leaves(
    sql: &mut dyn Sql,
    first: u64,
    limit: u64,
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
            Ok((seq, leaf(row, seq)?))
        })
        .collect()
}

/// The exact text of one entry.
pub(super) async fn entry(sql: &mut dyn Sql, seq: u64) -> Result<Option<String>, StoreError> {
    let row = sql
        .optional("SELECT entry FROM audit_entry WHERE seq = $1", params![seq])
        .await?;
    row.map(|row| row.text("entry")).transpose()
}

/// A stored checkpoint.
#[derive(Debug)]
pub(super) struct StoredCheckpoint {
    pub(super) size: u64,
    pub(super) root: Vec<u8>,
    pub(super) note: String,
}

/// The newest checkpoint.
pub(super) async fn checkpoint(sql: &mut dyn Sql) -> Result<Option<StoredCheckpoint>, StoreError> {
    let row = sql
        .optional(
            "SELECT size, root, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1",
            vec![],
        )
        .await?;
    row.map(|row| {
        Ok(StoredCheckpoint {
            size: row.count("size")?,
            root: row.bytes("root")?,
            note: row.text("note")?,
        })
    })
    .transpose()
}

/// Stores a checkpoint in place of the one before: any older state is proven from the tiles.
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
    .await?;
    tx.run_operational(
        OperationalTable::AuditCheckpoint,
        "DELETE FROM audit_checkpoint WHERE size < $1",
        params![size],
    )
    .await
    .map(drop)
}

/// Stores a tile; a partial one grows.
pub(super) async fn put_tile(tx: &mut Transaction, tile: &Tile) -> Result<(), StoreError> {
    tx.run_operational(
        OperationalTable::AuditTile,
        "INSERT INTO audit_tile (level, position, hashes) VALUES ($1, $2, $3)
         ON CONFLICT (level, position) DO UPDATE SET hashes = excluded.hashes",
        params![tile.address.level, tile.address.number, tile.bytes.clone()],
    )
    .await
    .map(drop)
}

/// The hashes of a tile, perhaps more than its width by now. The last tile of level 0 is not stored: its
/// hashes are the leaves themselves.
pub(super) async fn tile(
    sql: &mut dyn Sql,
    address: TileAddress,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sql
        .optional(
            "SELECT hashes FROM audit_tile WHERE level = $1 AND position = $2",
            params![address.level, address.number],
        )
        .await?;
    if let Some(row) = row {
        return row.bytes("hashes").map(Some);
    }
    if address.level != 0 || address.is_full() {
        return Ok(None);
    }
    let first = address.number.saturating_mul(TILE_WIDTH);
    let leaves = leaves(sql, first, address.width).await?;
    Ok(Some(
        leaves
            .iter()
            .flat_map(|(_, leaf)| *leaf.as_bytes())
            .collect(),
    ))
}

/// Which entries to read. `event` and `about` hold checked characters only, so that they cannot be
/// read as patterns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) first: u64,
    /// Empty for every event.
    pub(super) event: &'a str,
    /// Empty for everything.
    pub(super) about: &'a str,
    pub(super) limit: u32,
    pub(super) is_newest_first: bool,
}

/// Exact texts of entries with their numbers.
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

/// Exact texts of the entries of one event that name `about`, oldest first, at most 10,000.
///
/// # Errors
/// [`StoreError`].
pub async fn entries_about(
    sql: &mut dyn Sql,
    event: EventName,
    about: &str,
) -> Result<Vec<String>, StoreError> {
    let wanted = Wanted {
        first: 0,
        event: event.as_str(),
        about,
        limit: 10_000,
        is_newest_first: false,
    };
    let found = entries(sql, &wanted).await?;
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}
