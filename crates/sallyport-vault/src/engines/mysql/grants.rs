//! What a server says a user may do, as `SHOW GRANTS` writes it: pure.
//!
//! INVARIANT: what is in quotes is never read as a word of the statement.

/// The server's own tables: who may write there may do anything.
const OWN_DATABASE: &str = "mysql";

/// What a line of `SHOW GRANTS` gives beyond what it may: anything on everything or on the server's own
/// tables that `powers` does not name, what can be passed on, and being somebody else.
pub(super) fn too_much(grant: &str, powers: &[String]) -> Option<String> {
    let bare = without_quoted(grant);
    if bare.contains(" WITH GRANT OPTION") || bare.contains(" WITH ADMIN OPTION") {
        return Some("could give others what it has".to_owned());
    }
    let granted = bare.strip_prefix("GRANT ")?;
    // A role has no object; it is looked at for itself.
    let (privileges, _) = granted.split_once(" ON ")?;
    if privileges == "PROXY" {
        return Some("could become another user".to_owned());
    }
    if !is_on_everything(grant, &bare) {
        return None;
    }
    privileges
        .split(", ")
        .find(|privilege| *privilege != "USAGE" && !powers.iter().any(|power| power == privilege))
        .map(|privilege| {
            let privilege: String = privilege.chars().take(64).collect();
            format!("has `{privilege}` on everything, which `powers` does not name")
        })
}

fn is_on_everything(grant: &str, bare: &str) -> bool {
    // Quoted text is blotted out with as many bytes, so that places are the same in both.
    let Some(at) = bare.find(" ON ") else {
        return false;
    };
    let object = grant.get(at.saturating_add(4)..).unwrap_or_default();
    let object = ["PROCEDURE ", "FUNCTION ", "PACKAGE BODY ", "PACKAGE "]
        .iter()
        .find_map(|kind| object.strip_prefix(kind))
        .unwrap_or(object);
    if object.starts_with("*.*") {
        return true;
    }
    let database = object
        .strip_prefix('`')
        .and_then(|rest| rest.split_once('`'))
        .map(|(database, _)| database);
    // A name that cannot be read is looked at as if it were everything.
    database.is_none_or(|pattern| matches(pattern, OWN_DATABASE))
}

/// Whether a pattern of database names, as grants have it, includes this one: `%` for anything, `_` for any
/// character, `\` before either for itself.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('%') => {
            let further = rest.as_str().trim_start_matches('%');
            matches(further, name)
                || name.char_indices().any(|(at, c)| {
                    matches(
                        further,
                        name.get(at.saturating_add(c.len_utf8())..).unwrap_or(""),
                    )
                })
        }
        Some(first) => {
            let mut name = name.chars();
            let (first, is_any) = match first {
                '\\' => (rest.next().unwrap_or('\\'), false),
                other => (other, other == '_'),
            };
            name.next()
                .is_some_and(|c| is_any || c.eq_ignore_ascii_case(&first))
                && matches(rest.as_str(), name.as_str())
        }
    }
}

/// The text with everything in quotes, and the quotes, replaced by dots.
fn without_quoted(text: &str) -> String {
    let mut inside = None;
    text.chars()
        .map(|c| {
            let is_quoted = inside.is_some() || c == '`' || c == '\'';
            match inside {
                Some(quote) if quote == c => inside = None,
                None if is_quoted => inside = Some(c),
                _ => {}
            }
            match is_quoted {
                true => ".".repeat(c.len_utf8()),
                false => c.to_string(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// VA-3, D9: grants as MariaDB 10.11 writes them.
    #[test]
    fn given_a_grant_then_only_what_is_on_everything_or_can_be_passed_on_is_too_much() {
        let powers = ["PROCESS".to_owned()];
        for fine in [
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*6C' REQUIRE SSL",
            "GRANT SELECT, INSERT ON `shop`.* TO `u`@`%`",
            "GRANT SELECT ON `my\\_shop`.* TO `u`@`%`",
            "GRANT SELECT (`c`, `a ON *.* TO b`, `WITH GRANT OPTION`) ON `shop`.`t` TO `u`@`%`",
            "GRANT EXECUTE ON PROCEDURE `shop`.`mysql` TO `u`@`%`",
            "GRANT PROCESS ON *.* TO `u`@`%`",
            "GRANT `readonly` TO `u`@`%`",
            "GRANT ` ON *.* TO ` TO `u`@`%`",
            "SET DEFAULT ROLE `readonly` FOR `u`@`%`",
        ] {
            assert_eq!(too_much(fine, &powers), None, "{fine}");
        }
        for wrong in [
            "GRANT FILE ON *.* TO `strong`",
            "GRANT PROCESS, SUPER ON *.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON *.* TO `u`@`%`",
            "GRANT SELECT ON `mysql`.* TO `u`@`%`",
            "GRANT SELECT ON `my%`.* TO `u`@`%`",
            "GRANT SELECT ON `%`.* TO `u`@`%`",
            "GRANT SELECT ON `m_sql`.* TO `u`@`%`",
            "GRANT UPDATE ON `mysql`.`global_priv` TO `u`@`%`",
            "GRANT EXECUTE ON PROCEDURE `mysql`.`p` TO `u`@`%`",
            "GRANT SELECT (`x ON shop`) ON `mysql`.`proc` TO `u`@`%`",
            "GRANT PROXY ON `maker`@`%` TO `u`@`%`",
            "GRANT SELECT ON `shop`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT `readonly` TO `u`@`%` WITH ADMIN OPTION",
        ] {
            assert!(too_much(wrong, &powers).is_some(), "{wrong}");
        }
    }
}
