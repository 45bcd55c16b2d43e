//! What an account with the `postgres` engine may be configured to be.

use sallyport_core::descriptor::Descriptor;
use serde_json::Value;

use super::{
    super::{
        EngineError,
        database::settings::{self, UserSettings},
        settings::Settings,
    },
    DATABASE_DEFAULT, KIND, SQL,
};

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
pub(in super::super) enum OwnedObjects {
    /// The user stays, locked out, until somebody has looked.
    Refuse,
    /// They are dropped with it.
    Drop,
    /// They go to this role, or to the root account.
    Reassign(Option<String>),
}

/// The settings of an account, read.
#[derive(Clone, Debug)]
pub(in super::super) struct PostgresSettings {
    pub(super) users: UserSettings,
    pub(super) owned_objects: OwnedObjects,
}

impl AsRef<UserSettings> for PostgresSettings {
    fn as_ref(&self) -> &UserSettings {
        &self.users
    }
}

pub(super) fn descriptor() -> Descriptor {
    settings::describe(
        KIND,
        "PostgreSQL user for each session",
        &[
            (
                "creation",
                "SQL that runs once the user is made, in the same transaction; {{user}}, {{expires_at}} and \
                 {{database}} are replaced, names need their schema",
            ),
            ("database", "where `creation` runs; `postgres` by default"),
            (
                "owned_objects",
                "what happens to objects a user owns when it goes: `refuse` (it stays, locked out; the \
                 default), `drop` or `reassign`",
            ),
            (
                "powers",
                "what users may be beyond ordinary ones: superuser, createrole, createdb, replication, \
                 bypassrls, server_files, server_programs, separated by commas; nothing by default",
            ),
            (
                "reassign_to",
                "the role that gets the objects with `reassign`; the root account by default",
            ),
            (
                "roles",
                "roles that users are members of, as names separated by commas",
            ),
        ],
    )
}

pub(super) fn read(settings: &Value) -> Result<PostgresSettings, EngineError> {
    let settings = Settings::read(KIND, &descriptor(), settings)?;
    let database = settings.text("database").unwrap_or(DATABASE_DEFAULT);
    if database.is_empty() || !settings::is_name(database) {
        return Err(settings.refuse("database", "must be 1 to 63 bytes"));
    }
    let users = UserSettings::read(&settings, SQL, database)?;
    let is_power = |power: &String| POWERS.contains(&power.as_str());
    if !users.powers.iter().all(is_power) {
        return Err(settings.refuse("powers", &format!("can be {}", POWERS.join(", "))));
    }
    let heir = settings::names(&settings, SQL, "reassign_to")?;
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
    Ok(PostgresSettings {
        users,
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
        assert_eq!(all.users.roles, ["readonly", "Größe \"x\""]);
        assert_eq!(
            all.owned_objects,
            OwnedObjects::Reassign(Some("heir".to_owned()))
        );
    }
}
