//! What the catalogue of a target says of masked columns: which tables hold them, which views may show them under
//! another name, and which have nothing to do with them.
//!
//! Tables are known by the names that a statement's facts spell. A policy's name is held against theirs in whatever
//! case, because servers do so with columns, and some with tables; its schema is not looked at, because a database
//! here has none.
//!
//! INVARIANT: what was not there, or was not understood, when the session began is not clear.
//!
//! Not here: asking the target (`questions`).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sallyport_core::{
    policy::{ColumnName, Mask, Masks},
    session::{StatementFacts, Verb},
};

use super::super::{
    super::masking::{self, Reach, Unmaskable},
    operations,
};
use crate::statement::{self, Backslash, Built, Form};

/// Databases of the server itself. They hold statements of others, samples of values, and what failed.
const SERVERS_OWN: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];
/// What of `information_schema` says how things are built, and holds no values of tables.
const DEFINITIONS: [&str; 30] = [
    "applicable_roles",
    "character_sets",
    "check_constraints",
    "collation_character_set_applicability",
    "collations",
    "column_privileges",
    "columns",
    "enabled_roles",
    "engines",
    "events",
    "global_status",
    "global_variables",
    "key_column_usage",
    "keywords",
    "parameters",
    "plugins",
    "referential_constraints",
    "routines",
    "schema_privileges",
    "schemata",
    "session_status",
    "session_variables",
    "sql_functions",
    "statistics",
    "system_variables",
    "table_constraints",
    "table_privileges",
    "tables",
    "user_privileges",
    "views",
];
/// Engines whose tables hold their own rows and nobody else's.
const ENGINES: [&str; 8] = [
    "aria",
    "archive",
    "csv",
    "innodb",
    "memory",
    "myisam",
    "rocksdb",
    "blackhole",
];

/// What has to be known of a target, as it answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) tables: Vec<Table>,
    /// The text of each view, by database and name.
    pub(super) definitions: HashMap<(String, String), String>,
    /// Columns of tables that bear the name of a masked one's table: database, table, column.
    pub(super) columns: Vec<(String, String, String)>,
    /// Functions that came with no server.
    pub(super) functions: Vec<String>,
}

/// A table or view.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) database: String,
    pub(super) name: String,
    pub(super) is_view: bool,
    /// What keeps its rows; empty for views.
    pub(super) engine: String,
}

/// How a column is shown, and the name that its tokens are made with; nothing when it is shown as it is.
type Shown = Option<(Mask, Arc<str>)>;

/// What is masked at a target.
#[derive(Debug)]
pub(in super::super) struct Catalog {
    /// What it was made for.
    masks: Arc<Masks>,
    /// By the name that facts spell.
    reaches: HashMap<String, Reach>,
    /// Tables and views that are not clear, by their names, with their databases; in lower case.
    unclear: HashMap<String, HashSet<String>>,
    /// Names of functions that came with no server, in lower case: their code may ask anything.
    functions: HashSet<String>,
    /// Every column of the tables that hold masked ones, by the table's name; names of columns in lower case.
    columns: HashMap<String, HashMap<String, Shown>>,
    /// Names of the columns that policies mask, in lower case.
    masked: HashSet<String>,
}

/// What a statement has to do with masked columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Touch {
    /// Nothing.
    Nothing,
    /// Fields of its result that are columns say which.
    Columns,
}

impl Catalog {
    /// What follows from the target's answers, for these masks.
    pub(super) fn new(masks: Arc<Masks>, answers: Answers) -> Self {
        let mut columns: HashMap<String, HashMap<String, Shown>> = HashMap::new();
        for (database, table, column) in &answers.columns {
            let rules = masks
                .iter()
                .filter(|(rule, _)| names(rule, database, table) && is_same(rule.column(), column));
            // Of two masks the stricter holds; a token is made with the same name in every case.
            let shown = rules.max_by_key(|(_, mask)| **mask);
            let shown = shown.map(|(rule, mask)| (*mask, Arc::from(rule.to_string())));
            columns
                .entry(statement::table_name(database, table))
                .or_default()
                .insert(column.to_lowercase(), shown);
        }
        // What a policy names and whose column the account may not see, or is spelt in a way that was not found.
        // Others may see it, and views show it with their eyes.
        let unread = |table: &Table| {
            let name = statement::table_name(&table.database, &table.name);
            let of_table = columns.get(&name);
            let is_seen = |rule: &ColumnName| {
                of_table.is_some_and(|all| all.contains_key(&rule.column().to_lowercase()))
            };
            let mut rules = masks.keys();
            rules.any(|rule| names(rule, &table.database, &table.name) && !is_seen(rule))
        };
        let unread = answers.tables.iter().filter(|table| unread(table));
        let unread: HashSet<String> = unread
            .map(|table| statement::table_name(&table.database, &table.name))
            .collect();
        columns.retain(|_, columns| columns.values().any(Option::is_some));
        let reaches = reaches(&answers, &columns, &unread);
        let unclear = answers.tables.iter().filter(|table| {
            let name = statement::table_name(&table.database, &table.name);
            servers_own(&name).is_none() && reaches.get(&name) != Some(&Reach::Clear)
        });
        let mut databases: HashMap<String, HashSet<String>> = HashMap::new();
        for table in unclear {
            let of_name = databases.entry(table.name.to_lowercase()).or_default();
            of_name.insert(table.database.to_lowercase());
        }
        let functions = answers.functions.iter().map(|name| name.to_lowercase());
        let functions = functions.collect();
        let masked = masks.keys().map(|rule| rule.column().to_lowercase());
        let masked = masked.collect();
        Self {
            masked,
            functions,
            masks,
            reaches,
            unclear: databases,
            columns,
        }
    }

    /// Whether it was made for these masks.
    pub(in super::super) fn is_for(&self, masks: &Masks) -> bool {
        *self.masks == *masks
    }

    /// What a statement that is built so has to do with masked columns.
    pub(in super::super) fn touch(
        &self,
        facts: &StatementFacts,
        built: &Built,
    ) -> Result<Touch, Unmaskable> {
        let form = built.form;
        let is_about = |verb: Verb| facts.verbs.iter().all(|one| *one == verb);
        match form {
            Form::Telling => return Err(Unmaskable),
            Form::Listing => return Ok(Touch::Nothing),
            // What a mask counts as characters would be others.
            _ if !built.keeps_results_plain => return Err(Unmaskable),
            // It has no rows.
            _ if !facts.verbs.is_empty() && is_about(Verb::Session) => return Ok(Touch::Nothing),
            _ if facts.verb() >= Verb::Unknown => return Err(Unmaskable),
            // What a server calls by a name that another server's own function has.
            _ if built.calls.iter().any(|name| self.functions.contains(name)) => {
                return Err(Unmaskable);
            }
            // What it calls its parts may be read otherwise by a server than here.
            Form::Other if self.may_mean_unclear(built) => return Err(Unmaskable),
            Form::OneQuery | Form::Other => {}
        }
        let mut touch = Touch::Nothing;
        for name in &facts.relations {
            match self.reach(name) {
                Reach::Clear => {}
                Reach::Holds if form == Form::OneQuery => touch = Touch::Columns,
                Reach::Holds | Reach::Shows => return Err(Unmaskable),
            }
        }
        match touch == Touch::Columns && self.reads_out(built) {
            true => Err(Unmaskable),
            false => Ok(touch),
        }
    }

    /// Whether which rows a statement finds may tell more of masked values than that they equal another.
    fn reads_out(&self, built: &Built) -> bool {
        // Servers take other letters for those of a name than ours do.
        let is_masked = |name: &String| self.masked.contains(name) || !name.is_ascii();
        built.computes || built.compared.iter().any(is_masked)
    }

    /// Whether a text holds the name of something that is not clear, and of its database.
    fn may_mean_unclear(&self, built: &Built) -> bool {
        built.names.iter().any(|name| {
            let databases = self.unclear.get(name);
            databases.is_some_and(|all| all.iter().any(|database| built.names.contains(database)))
        })
    }

    fn reach(&self, name: &str) -> Reach {
        match servers_own(name) {
            Some(true) => Reach::Clear,
            Some(false) => Reach::Shows,
            None => self.reaches.get(name).copied().unwrap_or(Reach::Shows),
        }
    }

    /// How the values of a column are shown that is one of these, as the target says; nothing when they are shown
    /// as they are.
    pub(super) fn column(
        &self,
        database: &str,
        table: &str,
        column: &str,
    ) -> Result<Shown, Unmaskable> {
        let table = statement::table_name(database, table);
        match self.reach(&table) {
            Reach::Clear => Ok(None),
            Reach::Holds => {
                let columns = self.columns.get(&table).ok_or(Unmaskable)?;
                let shown = columns.get(&column.to_lowercase());
                shown.cloned().ok_or(Unmaskable)
            }
            Reach::Shows => Err(Unmaskable),
        }
    }
}

/// Whether a policy means a table of this name.
fn names(rule: &ColumnName, database: &str, table: &str) -> bool {
    rule.database().is_none_or(|name| is_same(name, database)) && is_same(rule.relation(), table)
}

fn is_same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Whether it is a relation of the server's own; and whether that says only how things are built.
fn servers_own(name: &str) -> Option<bool> {
    let lower = name.to_lowercase();
    let (database, table) = lower.split_once('.').unwrap_or_default();
    SERVERS_OWN
        .contains(&database)
        .then(|| database == "information_schema" && DEFINITIONS.contains(&table))
}

fn reaches(
    answers: &Answers,
    columns: &HashMap<String, HashMap<String, Shown>>,
    unread: &HashSet<String>,
) -> HashMap<String, Reach> {
    let mut reaches = HashMap::new();
    let mut asks = Vec::new();
    for table in &answers.tables {
        let name = statement::table_name(&table.database, &table.name);
        let holds = columns.contains_key(&name);
        let reach = if table.is_view {
            let key = (table.database.clone(), table.name.clone());
            let asked = answers.definitions.get(&key).and_then(|text| asked(text));
            match asked {
                Some(relations) if !holds && !unread.contains(&name) => {
                    let relations = relations.into_iter();
                    let others = relations.filter(|asked| servers_own(asked) != Some(true));
                    asks.extend(others.map(|asked| (name.clone(), asked)));
                    Reach::Clear
                }
                // Its code is not known, or it is itself what a policy names.
                _ => Reach::Shows,
            }
        } else if unread.contains(&name) || !ENGINES.contains(&table.engine.to_lowercase().as_str())
        {
            Reach::Shows
        } else if holds {
            Reach::Holds
        } else {
            Reach::Clear
        };
        reaches.insert(name, reach);
    }
    masking::spread(&mut reaches, &asks);
    reaches
}

/// The relations that a view asks; nothing when it does anything else, or is not understood.
fn asked(text: &str) -> Option<Vec<String>> {
    let facts = operations::facts(text.as_bytes(), Backslash::Unsure, None);
    // An empty text is all that an account reads that may not see the view's.
    let is_plain = !facts.verbs.is_empty() && facts.verb() == Verb::Read && facts.only_read();
    is_plain.then(|| facts.relations.into_iter().collect())
}
