//! What an account with the `mysql` engine may be configured to be.

use sallyport_core::{
    descriptor::{Descriptor, Setting},
    inventory::AccountName,
};
use serde_json::Value;

use super::{
    super::{EngineError, settings::Settings},
    KIND, SQL,
};
use crate::database::sql_text::{NAME_BYTES_MAX, SqlTextError, Statement};

/// Connections a user may have at once, unless the setting says otherwise.
const CONNECTIONS_DEFAULT: u32 = 20;
/// Bounds of the setting.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 1..=1_000;

/// The settings of an account, read.
#[derive(Clone, Debug)]
pub(super) struct MysqlSettings {
    pub(super) root: AccountName,
    pub(super) database: String,
    pub(super) roles: Vec<String>,
    /// What else `creation` may make the user a member of.
    pub(super) allowed_roles: Vec<String>,
    pub(super) creation: Vec<Statement>,
    /// Privileges on everything that a user may have, in capital letters.
    pub(super) powers: Vec<String>,
    pub(super) connections: u32,
    /// Where an event that ends a user is put; empty for nowhere.
    pub(super) expiry_database: String,
}

pub(super) fn descriptor() -> Descriptor {
    let setting = |name: &str, purpose: &str| Setting {
        name: name.to_owned(),
        purpose: purpose.to_owned(),
        is_required: name == "root",
    };
    Descriptor {
        kind: KIND.to_owned(),
        title: "MariaDB user for each session".to_owned(),
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
                "SQL that runs while the user is made and still locked; {{user}} and {{database}} are replaced",
            ),
            setting("database", "what {{database}} stands for; none by default"),
            setting(
                "expiry_database",
                "database for an event that locks a user out at its end, whatever becomes of control; the \
                 server's event scheduler must be on; none by default",
            ),
            setting(
                "powers",
                "privileges on everything (`ON *.*`) that users may have, separated by commas; none by default",
            ),
            setting(
                "roles",
                "roles that users have, as names separated by commas; the first is in force at login",
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

pub(super) fn read(settings: &Value) -> Result<MysqlSettings, EngineError> {
    let settings = Settings::read(KIND, &descriptor(), settings)?;
    let sql = |name: &'static str, error: SqlTextError| settings.refuse(name, &error.to_string());
    let names = |name: &'static str| {
        SQL.name_list(settings.text(name).unwrap_or_default())
            .map_err(|error| sql(name, error))
    };
    let root = settings.text("root").unwrap_or_default();
    let root = root
        .parse()
        .map_err(|_| settings.refuse("root", "is not the name of an account"))?;
    let database_of = |name: &'static str| {
        let database = settings.text(name).unwrap_or_default();
        (database.len() <= NAME_BYTES_MAX && !database.contains('\0'))
            .then(|| database.to_owned())
            .ok_or_else(|| settings.refuse(name, "must be at most 63 bytes"))
    };
    let (database, expiry_database) = (database_of("database")?, database_of("expiry_database")?);
    let powers: Vec<String> = settings
        .text("powers")
        .unwrap_or_default()
        .split(',')
        .map(|power| power.trim().to_ascii_uppercase())
        .filter(|power| !power.is_empty())
        .collect();
    let is_power = |power: &String| power.chars().all(|c| c.is_ascii_uppercase() || c == ' ');
    if !powers.iter().all(is_power) {
        return Err(settings.refuse("powers", "must be privileges, such as `process`"));
    }
    let connections = match settings.text("connections") {
        None => CONNECTIONS_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|connections| CONNECTIONS.contains(connections))
            .ok_or_else(|| settings.refuse("connections", "must be 1 to 1000"))?,
    };
    let creation = SQL
        .statements(settings.text("creation").unwrap_or_default())
        .map_err(|error| sql("creation", error))?;
    Ok(MysqlSettings {
        root,
        database,
        roles: names("roles")?,
        allowed_roles: names("allowed_roles")?,
        creation,
        powers,
        connections,
        expiry_database,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// VA-3
    #[test]
    fn given_settings_that_make_no_sense_then_they_are_refused_by_name() {
        assert!(read(&json!({})).is_err());
        for (name, value) in [
            ("root", "a b"),
            ("roles", "a b"),
            ("allowed_roles", "`a"),
            ("powers", "file; drop"),
            ("connections", "0"),
            ("creation", "GRANT a TO '{{user}}'"),
            ("creation", "/*! DROP USER x */"),
            ("database", "ü".repeat(32).as_str()),
            ("expiry_database", "ü".repeat(32).as_str()),
        ] {
            let mut settings = json!({ "root": "admin" });
            settings[name] = json!(value);
            let error = read(&settings).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{name}: {error}");
        }
    }
}
