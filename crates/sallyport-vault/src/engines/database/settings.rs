//! The settings that every engine of database users has.
//!
//! Called by the engines' own `settings`, which add theirs and check what their server wants checked.

use std::ops::RangeInclusive;

use sallyport_core::{
    descriptor::{Descriptor, Setting},
    inventory::AccountName,
};

use super::super::{EngineError, settings::Settings};
use crate::database::sql_text::{Dialect, NAME_BYTES_MAX, SqlTextError, Statement, Values};

/// Connections a user may have at once, unless the setting says otherwise.
const CONNECTIONS_DEFAULT: u32 = 20;
/// Bounds of the setting.
const CONNECTIONS: RangeInclusive<u32> = 1..=1_000;

/// What a user is to be, and who makes it.
#[derive(Clone, Debug)]
pub(in super::super) struct UserSettings {
    pub(in super::super) root: AccountName,
    pub(in super::super) database: String,
    pub(in super::super) roles: Vec<String>,
    /// What else `creation` may make the user a member of.
    pub(in super::super) allowed_roles: Vec<String>,
    creation: Vec<Statement>,
    /// What a user may be that ordinary ones are not, in the server's words.
    pub(in super::super) powers: Vec<String>,
    pub(in super::super) connections: u32,
}

/// Describes an engine by the settings that all have and those that it has to word itself.
pub(in super::super) fn describe(kind: &str, title: &str, own: &[(&str, &str)]) -> Descriptor {
    let every = [
        (
            "allowed_roles",
            "roles that `creation` may grant beyond `roles`, as names separated by commas",
        ),
        (
            "connections",
            "connections a user may have at once, 1 to 1000; 20 by default",
        ),
        (
            "root",
            "the account on the same target, engine `static`, that makes and drops users",
        ),
    ];
    let mut settings: Vec<Setting> = every
        .iter()
        .chain(own)
        .map(|(name, purpose)| Setting {
            name: (*name).to_owned(),
            purpose: (*purpose).to_owned(),
            is_required: *name == "root",
        })
        .collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    Descriptor {
        kind: kind.to_owned(),
        title: title.to_owned(),
        settings,
        operations: Vec::new(),
        secrets_needed: Vec::new(),
    }
}

impl UserSettings {
    /// Reads what is read alike everywhere. `database` is the setting of that name, with the engine's default.
    pub(in super::super) fn read(
        settings: &Settings,
        sql: Dialect,
        database: &str,
    ) -> Result<Self, EngineError> {
        let root = settings.text("root").unwrap_or_default();
        let root = root
            .parse()
            .map_err(|_| settings.refuse("root", "is not the name of an account"))?;
        let connections = match settings.text("connections") {
            None => CONNECTIONS_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|connections| CONNECTIONS.contains(connections))
                .ok_or_else(|| settings.refuse("connections", "must be 1 to 1000"))?,
        };
        let powers = settings
            .text("powers")
            .unwrap_or_default()
            .split(',')
            .map(|power| power.trim().to_owned())
            .filter(|power| !power.is_empty())
            .collect();
        let creation = sql
            .statements(settings.text("creation").unwrap_or_default())
            .map_err(|error| refused(settings, "creation", error))?;
        Ok(Self {
            root,
            database: database.to_owned(),
            roles: names(settings, sql, "roles")?,
            allowed_roles: names(settings, sql, "allowed_roles")?,
            creation,
            powers,
            connections,
        })
    }

    /// Whether a user may be a member of this role.
    pub(in super::super) fn allows(&self, role: &str) -> bool {
        let mut allowed = self.roles.iter().chain(&self.allowed_roles);
        allowed.any(|name| name == role)
    }

    /// The statements of the setting `creation`, for one user.
    pub(in super::super) fn creation(&self, user: &str, expires_at: &str) -> Vec<String> {
        let values = Values {
            user,
            expires_at,
            database: &self.database,
        };
        self.creation
            .iter()
            .map(|statement| statement.fill(&values))
            .collect()
    }
}

/// A setting that is a list of names in SQL.
pub(in super::super) fn names(
    settings: &Settings,
    sql: Dialect,
    name: &'static str,
) -> Result<Vec<String>, EngineError> {
    sql.name_list(settings.text(name).unwrap_or_default())
        .map_err(|error| refused(settings, name, error))
}

/// Whether servers take this as a name, an empty one too.
pub(in super::super) fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.contains('\0')
}

fn refused(settings: &Settings, name: &'static str, error: SqlTextError) -> EngineError {
    settings.refuse(name, &error.to_string())
}
