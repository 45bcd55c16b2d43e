//! What the catalogue of a target's database says of masked columns: which relations hold them, which show them
//! under another name, and which have nothing to do with them.
//!
//! Relations are known by their numbers, as results name them, and by every name that a statement may use for
//! them: a name is clear only if everything that bears it is, in whatever schema, so that no search path makes a
//! difference.
//!
//! INVARIANT: what was not there, or was not understood, when the session began is not clear.
//!
//! Not here: asking the target (`questions`).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sallyport_core::{
    policy::{Mask, Masks},
    session::{StatementFacts, Verb},
};

use super::{
    super::super::masking::{Reach, spread},
    Unmaskable,
};
use crate::statement;

/// Relations of the server itself that hold values of other relations' columns.
const SAMPLES: [&str; 6] = [
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_largeobject",
];
/// Numbers below are the server's own.
pub(super) const FIRST_OWN: u32 = 16_384;

/// What has to be known of a database, as the target answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) relations: Vec<Relation>,
    /// A relation and the one whose rows it has as well, in whatever direction.
    pub(super) inheritance: Vec<(u32, u32)>,
    /// A view and a relation that it asks.
    pub(super) views: Vec<(u32, u32)>,
    /// Views that use functions or operators that did not come with the server.
    pub(super) computing_views: HashSet<u32>,
    /// The text of each view.
    pub(super) definitions: Vec<(u32, String)>,
    /// Columns that bear the name of a masked one: relation, number, name.
    pub(super) columns: Vec<(u32, i16, String)>,
    /// There are functions that a statement can call without writing a call.
    pub(super) computes_unseen: bool,
}

/// A relation.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub(super) number: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// So many columns it has or had.
    pub(super) columns: i16,
    pub(super) is_view: bool,
}

/// What is masked in a database.
#[derive(Debug)]
pub(in super::super) struct Catalog {
    /// What it was made for.
    masks: Arc<Masks>,
    relations: HashMap<u32, (Reach, i16)>,
    masked: HashMap<(u32, i16), (Mask, Arc<str>)>,
    /// Every name that a statement may use, as facts spell it, and whether all that bears it is clear.
    names: HashMap<String, bool>,
    computes_unseen: bool,
}

impl Catalog {
    /// What follows from the target's answers, for these masks in the database of this name.
    pub(super) fn new(masks: Arc<Masks>, database: &str, answers: Answers) -> Self {
        let kin = kin(&answers.inheritance);
        let mut masked = HashMap::new();
        for (rule, mask) in masks.iter().filter(|(rule, _)| rule.is_in(database)) {
            let named = answers.relations.iter();
            let named = named.filter(|relation| rule.is_of(&relation.schema, &relation.name));
            let numbers: HashSet<u32> = named
                .flat_map(|relation| relatives(&kin, relation.number))
                .collect();
            for (relation, column, name) in &answers.columns {
                if name != rule.column() || !numbers.contains(relation) {
                    continue;
                }
                // Equal values have equal tokens in a table and in its parts.
                let known = masked
                    .entry((*relation, *column))
                    .or_insert_with(|| (*mask, Arc::from(rule.to_string())));
                known.0 = known.0.max(*mask);
            }
        }
        let reaches = reaches(&answers, &masked, database);
        let mut names: HashMap<String, bool> = HashMap::new();
        for relation in &answers.relations {
            let is_clear = reaches.get(&relation.number) == Some(&Reach::Clear);
            for schema in [None, Some(relation.schema.as_str())] {
                let name = statement::relation_name(database, schema, &relation.name);
                let known = names.entry(name).or_insert(true);
                *known &= is_clear;
            }
        }
        let relations = answers.relations.iter().map(|relation| {
            let reach = reaches.get(&relation.number).copied();
            (
                relation.number,
                (reach.unwrap_or(Reach::Shows), relation.columns),
            )
        });
        Self {
            relations: relations.collect(),
            masked,
            names,
            computes_unseen: answers.computes_unseen,
            masks,
        }
    }

    /// Whether it was made for these masks.
    pub(in super::super) fn is_for(&self, masks: &Masks) -> bool {
        *self.masks == *masks
    }

    /// Whether a statement touches nothing that is masked, as far as its text says.
    pub(in super::super) fn is_clear(&self, facts: &StatementFacts) -> bool {
        facts.verb() < Verb::Unknown
            && !facts.fetches
            && facts
                .relations
                .iter()
                .all(|name| self.names.get(name).copied().unwrap_or(false))
    }

    /// Whether there are functions that a statement can call without writing a call.
    pub(super) const fn computes_unseen(&self) -> bool {
        self.computes_unseen
    }

    /// How the values of a column are shown; nothing when they are shown as they are.
    pub(super) fn column(
        &self,
        relation: u32,
        column: i16,
    ) -> Result<Option<(Mask, Arc<str>)>, Unmaskable> {
        let (reach, columns) = *self.relations.get(&relation).ok_or(Unmaskable)?;
        let is_known = column <= columns;
        match reach {
            Reach::Clear if is_known => Ok(None),
            // A whole row is no column.
            Reach::Holds if is_known && column != 0 => {
                Ok(self.masked.get(&(relation, column)).cloned())
            }
            _ => Err(Unmaskable),
        }
    }
}

type Kin = HashMap<u32, Vec<u32>>;

fn kin(pairs: &[(u32, u32)]) -> Kin {
    let mut kin = Kin::new();
    for (one, other) in pairs {
        kin.entry(*one).or_default().push(*other);
        kin.entry(*other).or_default().push(*one);
    }
    kin
}

/// A relation and all whose rows it has or that have its rows.
fn relatives(kin: &Kin, number: u32) -> HashSet<u32> {
    let mut found = HashSet::from([number]);
    let mut rest = vec![number];
    while let Some(number) = rest.pop() {
        for other in kin.get(&number).into_iter().flatten() {
            if found.insert(*other) {
                rest.push(*other);
            }
        }
    }
    found
}

fn reaches(
    answers: &Answers,
    masked: &HashMap<(u32, i16), (Mask, Arc<str>)>,
    database: &str,
) -> HashMap<u32, Reach> {
    let holds: HashSet<u32> = masked.keys().map(|(relation, _)| *relation).collect();
    let read: HashSet<u32> = answers
        .definitions
        .iter()
        .filter(|(_, text)| is_plain(text, database))
        .map(|(number, _)| *number)
        .collect();
    let mut reaches: HashMap<u32, Reach> = answers
        .relations
        .iter()
        .map(|relation| {
            let is_sample =
                relation.schema == "pg_catalog" && SAMPLES.contains(&relation.name.as_str());
            let is_opaque = relation.is_view
                && relation.number >= FIRST_OWN
                && (answers.computing_views.contains(&relation.number)
                    || !read.contains(&relation.number));
            let reach = match (is_sample || is_opaque, holds.contains(&relation.number)) {
                (true, _) => Reach::Shows,
                (false, true) => Reach::Holds,
                (false, false) => Reach::Clear,
            };
            (relation.number, reach)
        })
        .collect();
    spread(&mut reaches, &answers.views);
    reaches
}

/// Whether the text of a view does nothing but ask, by functions that are known.
fn is_plain(text: &str, database: &str) -> bool {
    let place = statement::Place {
        dialect: statement::Dialect::Postgres,
        database: Some(database),
        shapes: None,
    };
    let facts = statement::read(text.as_bytes(), place);
    !facts.verbs.is_empty()
        && facts.verb() == Verb::Read
        && facts.only_read()
        && !facts.computes_setting
}
