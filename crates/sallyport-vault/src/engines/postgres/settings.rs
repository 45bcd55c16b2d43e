//! What an account with the `postgres` engine may be configured to be.

use sallyport_core::{
    descriptor::{Descriptor, Setting},
    inventory::AccountName,
};
use serde_json::Value;

use super::{
    super::{EngineError, settings::Settings},
    DATABASE_DEFAULT, KIND,
};
use crate::database::sql_text::{Dialect, NAME_BYTES_MAX, SqlTextError, Statement};

/// Connections a user may have at once, unless the setting says otherwise.
const CONNECTIONS_DEFAULT: u32 = 20;
/// Bounds of the setting.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 1..=1_000;
/// Powers that a user has only where the settings name them.
const POWERS: [&str; 7] = [
    "superuser",
    "createrole",
    "createdb",
    "replication",
    "bypassrls",
    "server_files",
    "server_programs",
];

/// What happens to objects that a user owns when it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OwnedObjects {
    /// The user stays, locked out, until somebody has looked.
    Refuse,
    /// They are dropped with it.
    Drop,
    /// They go to this role, or to the root account.
    Reassign(Option<String>),
}

/// The settings of an account, read.
#[derive(Clone, Debug)]
pub(super) struct PostgresSettings {
    pub(super) root: AccountName,
    pub(super) database: String,
    pub(super) roles: Vec<String>,
    /// What else `creation` may make the user a member of.
    pub(super) allowed_roles: Vec<String>,
    pub(super) creation: Vec<Statement>,
    pub(super) powers: Vec<String>,
    pub(super) connections: u32,
    pub(super) owned_objects: OwnedObjects,
}

pub(super) fn descriptor() -> Descriptor {
    let setting = |name: &str, purpose: &str| Setting {
        name: name.to_owned(),
        purpose: purpose.to_owned(),
        is_required: name == "root",
    };
    Descriptor {
        kind: KIND.to_owned(),
        title: "PostgreSQL user for each session".to_owned(),
        settings: vec![
            setting(
                "allowed_roles",
                "roles that `creation` may grant beyond `roles`, as names separated by commas",
            ),
            setting(
                "connections",
                "connections a user may have at once, 1 to 1000; 20 by default",
            ),
            setting(
                "creation",
                "SQL that runs once the user is made, in the same transaction; {{user}}, {{expires_at}} and \
                 {{database}} are replaced, names need their schema",
            ),
            setting("database", "where `creation` runs; `postgres` by default"),
            setting(
                "owned_objects",
                "what happens to objects a user owns when it goes: `refuse` (it stays, locked out; the \
                 default), `drop` or `reassign`",
            ),
            setting(
                "powers",
                "what users may be beyond ordinary ones: superuser, createrole, createdb, replication, \
                 bypassrls, server_files, server_programs, separated by commas; nothing by default",
            ),
            setting(
                "reassign_to",
                "the role that gets the objects with `reassign`; the root account by default",
            ),
            setting(
                "roles",
                "roles that users are members of, as names separated by commas",
            ),
            setting(
                "root",
                "the account on the same target, engine `static`, that makes and drops users",
            ),
        ],
        operations: Vec::new(),
        secrets_needed: Vec::new(),
    }
}

pub(super) fn read(settings: &Value) -> Result<PostgresSettings, EngineError> {
    let settings = Settings::read(KIND, &descriptor(), settings)?;
    let sql = |name: &'static str, error: SqlTextError| settings.refuse(name, &error.to_string());
    let names = |name: &'static str| {
        Dialect::Postgres
            .name_list(settings.text(name).unwrap_or_default())
            .map_err(|error| sql(name, error))
    };
    let root = settings.text("root").unwrap_or_default();
    let root = root
        .parse()
        .map_err(|_| settings.refuse("root", "is not the name of an account"))?;
    let database = settings
        .text("database")
        .unwrap_or(DATABASE_DEFAULT)
        .to_owned();
    if database.is_empty() || database.len() > NAME_BYTES_MAX || database.contains('\0') {
        return Err(settings.refuse("database", "must be 1 to 63 bytes"));
    }
    let powers: Vec<String> = settings
        .text("powers")
        .unwrap_or_default()
        .split(',')
        .map(|power| power.trim().to_owned())
        .filter(|power| !power.is_empty())
        .collect();
    if powers.iter().any(|power| !POWERS.contains(&power.as_str())) {
        return Err(settings.refuse("powers", &format!("can be {}", POWERS.join(", "))));
    }
    let connections = match settings.text("connections") {
        None => CONNECTIONS_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|connections| CONNECTIONS.contains(connections))
            .ok_or_else(|| settings.refuse("connections", "must be 1 to 1000"))?,
    };
    let heir = names("reassign_to")?;
    let owned_objects = match settings.text("owned_objects").unwrap_or("refuse") {
        "refuse" => OwnedObjects::Refuse,
        "drop" => OwnedObjects::Drop,
        "reassign" => OwnedObjects::Reassign(heir.first().cloned()),
        _ => return Err(settings.refuse("owned_objects", "must be refuse, drop or reassign")),
    };
    let needs_no_heir = !matches!(owned_objects, OwnedObjects::Reassign(_));
    if heir.len() > 1 || (needs_no_heir && !heir.is_empty()) {
        return Err(settings.refuse(
            "reassign_to",
            "is one role, with `owned_objects` `reassign`",
        ));
    }
    let creation = Dialect::Postgres
        .statements(settings.text("creation").unwrap_or_default())
        .map_err(|error| sql("creation", error))?;
    Ok(PostgresSettings {
        root,
        database,
        roles: names("roles")?,
        allowed_roles: names("allowed_roles")?,
        creation,
        powers,
        connections,
        owned_objects,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// VA-3
    #[test]
    fn given_settings_that_make_no_sense_then_they_are_refused_by_name() {
        let with = |name: &str, value: &str| {
            let mut settings = json!({ "root": "admin" });
            settings[name] = json!(value);
            read(&settings)
        };
        assert!(read(&json!({})).is_err());
        for (name, value) in [
            ("root", "a b"),
            ("root", ""),
            ("database", ""),
            ("roles", "a b"),
            ("allowed_roles", "\"a"),
            ("powers", "root"),
            ("connections", "0"),
            ("connections", "1001"),
            ("owned_objects", "keep"),
            ("reassign_to", "heir"),
            ("creation", "GRANT a TO '{{user}}'"),
            ("creation", "COMMIT"),
        ] {
            let error = with(name, value).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{name}: {error}");
        }
        let all = json!({
            "root": "admin", "roles": "readonly, \"Größe \"\"x\"\"\"", "owned_objects": "reassign",
            "reassign_to": "heir", "powers": "createdb", "connections": 3,
        });
        let all = read(&all).unwrap();
        assert_eq!(all.roles, ["readonly", "Größe \"x\""]);
        assert_eq!(
            all.owned_objects,
            OwnedObjects::Reassign(Some("heir".to_owned()))
        );
    }
}
