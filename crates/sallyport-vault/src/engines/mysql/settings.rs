//! What an account with the `mysql` engine may be configured to be.

use sallyport_core::descriptor::Descriptor;
use serde_json::Value;

use super::{
    super::{
        EngineError,
        database::settings::{self, UserSettings},
        settings::Settings,
    },
    KIND, SQL,
};

/// The settings of an account, read. Its powers are privileges on everything, in capital letters.
#[derive(Clone, Debug)]
pub(in super::super) struct MysqlSettings {
    pub(super) users: UserSettings,
    /// Where an event that ends a user is put; empty for nowhere.
    pub(super) expiry_database: String,
}

impl AsRef<UserSettings> for MysqlSettings {
    fn as_ref(&self) -> &UserSettings {
        &self.users
    }
}

pub(super) fn descriptor() -> Descriptor {
    settings::describe(
        KIND,
        "MariaDB user for each session",
        &[
            (
                "creation",
                "SQL that runs while the user is made and still locked; {{user}} and {{database}} are replaced",
            ),
            ("database", "what {{database}} stands for; none by default"),
            (
                "expiry_database",
                "database for an event that locks a user out at its end, whatever becomes of control; the \
                 server's event scheduler must be on; none by default",
            ),
            (
                "powers",
                "privileges on everything (`ON *.*`) that users may have, separated by commas; none by default",
            ),
            (
                "roles",
                "roles that users have, as names separated by commas; the first is in force at login",
            ),
        ],
    )
}

pub(super) fn read(settings: &Value) -> Result<MysqlSettings, EngineError> {
    let settings = Settings::read(KIND, &descriptor(), settings)?;
    let database = |name: &'static str| {
        let database = settings.text(name).unwrap_or_default();
        settings::is_name(database)
            .then_some(database)
            .ok_or_else(|| settings.refuse(name, "must be at most 63 bytes"))
    };
    let mut users = UserSettings::read(&settings, SQL, database("database")?)?;
    for power in &mut users.powers {
        power.make_ascii_uppercase();
    }
    let is_power = |power: &String| power.chars().all(|c| c.is_ascii_uppercase() || c == ' ');
    if !users.powers.iter().all(is_power) {
        return Err(settings.refuse("powers", "must be privileges, such as `process`"));
    }
    Ok(MysqlSettings {
        users,
        expiry_database: database("expiry_database")?.to_owned(),
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
