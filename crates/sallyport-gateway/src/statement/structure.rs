//! Queries and changes of rows, parsed: what they touch, whether a change has a condition, which functions
//! they call.
//!
//! The parser gets tokens, not the client's text: comments are gone and texts are neutral, so that it
//! cannot take a border for another than the server does. Words that change what a name means, where the
//! parser is known to read them otherwise or may, are not read at all.
//!
//! INVARIANT: what passes for a question holds no word by which something is changed. Relations are those
//! of the server's scopes: a name is left out only where a `WITH` above it defines it.
//!
//! Not here: statements that are neither (`leading`).

use std::ops::ControlFlow;

use sallyport_core::session::{ANY_RELATION, StatementFacts, Verb};
use sqlparser::{
    ast::{
        Expr, FromTable, Function, Ident, ObjectName, ObjectNamePart, Query, SetExpr, Statement,
        TableFactor, TableObject, TableWithJoins, Visit as _, Visitor,
    },
    dialect::{MySqlDialect, PostgreSqlDialect},
    parser::Parser,
};

use super::{
    Dialect, Place, about_anything,
    functions::{Effect, effect},
    leading,
    lexer::{Kind, Token, Unclear},
    only,
};

/// How deep the parser goes.
const PARSED_DEPTH_MAX: usize = 50;
/// Digits that fit into any number that the parser reads for its value.
const PLAIN_NUMBER_BYTES_MAX: usize = 18;
/// Longest text that the parser gets as it is, when nothing in it could be taken for anything else.
const SHOWN_TEXT_BYTES_MAX: usize = 64;

/// Words that change rows, or where they come from or go to.
const CHANGING: [&str; 7] = [
    "INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "OUTFILE", "DUMPFILE",
];
/// Words of queries and changes that the parser reads otherwise than a server does, or may.
const UNREAD: [&str; 27] = [
    "ANALYSE",
    "ANALYZE",
    "ASYMMETRIC",
    "ATOMIC",
    "AUTHORIZATION",
    "CALL",
    "CHECK",
    "COLUMN",
    "CONCURRENTLY",
    "CONSTRAINT",
    "CREATE",
    "DEFERRABLE",
    "EXECUTE",
    "FOREIGN",
    "FREEZE",
    "GRANT",
    "HANDLER",
    "INITIALLY",
    "PLACING",
    "PRIMARY",
    "PROCEDURE",
    "REFERENCES",
    "TABLE",
    "TABLESAMPLE",
    "UNIQUE",
    "VARIADIC",
    "VERBOSE",
];

/// Facts of a query or a change of rows.
pub(super) fn facts(tokens: &[Token<'_>], place: Place<'_>) -> Result<StatementFacts, Unclear> {
    let text = neutral(tokens, place);
    let Some(shapes) = place.shapes else {
        return facts_of(tokens, &text, place);
    };
    // All that is looked at below: the text that is parsed, and the kind of each token.
    let mut shape = text.clone();
    shape.push('\0');
    shape.extend(tokens.iter().map(|token| token.kind.letter()));
    if let Some(facts) = shapes.find(&shape, place) {
        return Ok(facts);
    }
    let facts = facts_of(tokens, &text, place)?;
    shapes.keep(shape, place, &facts);
    Ok(facts)
}

fn facts_of(tokens: &[Token<'_>], text: &str, place: Place<'_>) -> Result<StatementFacts, Unclear> {
    if tokens
        .iter()
        .zip(previous(tokens))
        .any(|(token, before)| is_unread(token, before))
    {
        return Err(Unclear);
    }
    let statement = parse(text, place)?;
    let is_known = matches!(
        statement,
        Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_)
    );
    if !is_known {
        return Err(Unclear);
    }
    let mut facts = walk(&statement, place)?;
    let is_changing = tokens
        .iter()
        .any(|token| CHANGING.iter().any(|word| token.is_word(word)));
    if is_changing && facts.verb() < Verb::Write {
        return Err(Unclear);
    }
    let leaves = ["OUTFILE", "DUMPFILE"];
    if tokens
        .iter()
        .any(|token| leaves.iter().any(|word| token.is_word(word)))
    {
        facts.reaches_server = true;
        facts.verbs.insert(Verb::Admin);
    }
    facts.add(calls(tokens));
    Ok(facts)
}

fn is_unread(token: &Token<'_>, before: Option<&Token<'_>>) -> bool {
    if token.kind != Kind::Word || before.is_some_and(|before| before.is_symbol(".")) {
        return false;
    }
    // `FETCH FIRST ROW ONLY` does not keep heirs of a table out.
    let is_only = token.is_word("ONLY")
        && !before.is_some_and(|before| before.is_word("ROW") || before.is_word("ROWS"));
    is_only || UNREAD.iter().any(|word| token.is_word(word))
}

fn previous<'t, 'a>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = Option<&'t Token<'a>>> {
    std::iter::once(None).chain(tokens.iter().map(Some))
}

/// Facts of a definition, of which the parser only says what it is about.
pub(super) fn definition(tokens: &[Token<'_>], place: Place<'_>, verb: Verb) -> StatementFacts {
    let text = neutral(tokens, place);
    let mut facts = match parse(&text, place).and_then(|statement| defined(&statement, place)) {
        Ok(facts) => facts,
        Err(Unclear) => about_anything(verb),
    };
    facts.verbs.insert(verb);
    facts.add(calls(tokens));
    facts.add(filling(tokens, place));
    facts
}

/// What fills a new relation, or changes what an old one holds, while it is defined: a query behind `AS`,
/// an expression behind `USING`. As grave as by itself.
fn filling(tokens: &[Token<'_>], place: Place<'_>) -> StatementFacts {
    const QUERIES: [&str; 5] = ["SELECT", "WITH", "VALUES", "TABLE", "EXECUTE"];
    let mut found = StatementFacts::default();
    let named = |word: &str| tokens.iter().take(6).any(|token| token.is_word(word));
    // A view runs its query when somebody reads it.
    if named("VIEW") && !named("MATERIALIZED") {
        return found;
    }
    for (index, token) in tokens.iter().enumerate() {
        let rest = tokens.get(index.saturating_add(1)..).unwrap_or_default();
        let begins = rest.iter().find(|token| !token.is_symbol("("));
        if token.is_word("AS") && begins.is_some_and(|t| QUERIES.iter().any(|w| t.is_word(w))) {
            // `WITH [NO] DATA` is no part of the query.
            let with = match rest.last() {
                Some(last) if last.is_word("DATA") => rest.iter().rposition(|t| t.is_word("WITH")),
                _ => None,
            };
            let body = with.map_or(rest, |with| rest.get(..with).unwrap_or_default());
            found.add(self::facts(body, place).unwrap_or_else(|Unclear| StatementFacts::unknown()));
            return found;
        }
        let is_change = tokens.first().is_some_and(|first| first.is_word("ALTER"));
        if is_change && token.is_word("USING") && has_unknown_call(rest) {
            found.add(StatementFacts::unknown());
        }
    }
    found
}

fn has_unknown_call(tokens: &[Token<'_>]) -> bool {
    tokens.windows(2).any(|pair| match pair {
        [name, bracket] => {
            bracket.is_symbol("(")
                && matches!(name.kind, Kind::Word | Kind::Name)
                && matches!(
                    effect(&name.text.to_ascii_lowercase()),
                    Effect::Sets | Effect::Unknown
                )
        }
        _ => false,
    })
}

fn defined(statement: &Statement, place: Place<'_>) -> Result<StatementFacts, Unclear> {
    let names: Vec<&ObjectName> = match statement {
        Statement::CreateTable(table) => vec![&table.name],
        Statement::CreateView(view) => vec![&view.name],
        Statement::CreateIndex(index) => vec![&index.table_name],
        Statement::AlterTable(table) => vec![&table.name],
        Statement::Drop { names, .. } => names.iter().collect(),
        Statement::Truncate(truncate) => truncate
            .table_names
            .iter()
            .map(|target| &target.name)
            .collect(),
        _ => return Err(Unclear),
    };
    let mut facts = walk(statement, place)?;
    for name in names {
        facts.relations.insert(named(name, place)?);
    }
    Ok(facts)
}

/// Facts of `TABLE name`, which reads all of it.
pub(super) fn table(tokens: &[Token<'_>], place: Place<'_>) -> Result<StatementFacts, Unclear> {
    Ok(StatementFacts {
        relations: [relation_of(tokens, place)?].into(),
        ..only(Verb::Read)
    })
}

/// The relation that tokens name, a list of columns behind it left out.
pub(super) fn relation_of(tokens: &[Token<'_>], place: Place<'_>) -> Result<String, Unclear> {
    let mut parts = Vec::new();
    let mut tokens = tokens.iter();
    loop {
        let token = tokens.next().ok_or(Unclear)?;
        parts.push(match token.kind {
            Kind::Word => folded(&token.text, place),
            Kind::Name => token.text.to_string(),
            _ => return Err(Unclear),
        });
        match tokens.next() {
            Some(token) if token.is_symbol(".") => {}
            Some(token) if token.is_symbol("(") => break,
            None => break,
            Some(_) => return Err(Unclear),
        }
    }
    spelt(&parts, place)
}

/// The statement that the parser makes of a neutral text: exactly one.
fn parse(text: &str, place: Place<'_>) -> Result<Statement, Unclear> {
    let parsed = match place.dialect {
        Dialect::Postgres => Parser::new(&PostgreSqlDialect {})
            .with_recursion_limit(PARSED_DEPTH_MAX)
            .try_with_sql(text)
            .and_then(|mut parser| parser.parse_statements()),
        Dialect::MySql { .. } => Parser::new(&MySqlDialect {})
            .with_recursion_limit(PARSED_DEPTH_MAX)
            .try_with_sql(text)
            .and_then(|mut parser| parser.parse_statements()),
    };
    let mut statements = parsed.map_err(|_| Unclear)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(Unclear),
    }
}

/// A number of which the parser only sees that it is one: it makes the same of every other that is as long.
fn is_plain_number(number: &str) -> bool {
    number.len() <= PLAIN_NUMBER_BYTES_MAX
        && number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Tokens as text again, in which nothing can be taken for anything else. Numbers lose their digits, so that
/// statements that differ in them alone have one shape.
fn neutral(tokens: &[Token<'_>], place: Place<'_>) -> String {
    let mut text = String::new();
    for token in tokens {
        if !token.is_glued {
            text.push(' ');
        }
        match token.kind {
            Kind::Name if matches!(place.dialect, Dialect::Postgres) => {
                text.push('"');
                text.push_str(&token.text.replace('"', "\"\""));
                text.push('"');
            }
            Kind::Name => {
                text.push('`');
                text.push_str(&token.text.replace('`', "``"));
                text.push('`');
            }
            Kind::Text => {
                let is_plain = token.text.len() <= SHOWN_TEXT_BYTES_MAX
                    && token
                        .text
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || " _.,:-".contains(c));
                text.push_str(if token.is_glued { " '" } else { "'" });
                text.push_str(if is_plain { &token.text } else { "x" });
                text.push_str("' ");
            }
            Kind::Number if is_plain_number(&token.text) => {
                text.extend(token.text.chars().map(|c| if c == '.' { c } else { '1' }));
            }
            Kind::Word | Kind::Number | Kind::Parameter | Kind::Symbol => {
                text.push_str(&token.text)
            }
        }
    }
    text
}

/// What the calls in a statement do that are dangerous by their name, wherever they stand.
fn calls(tokens: &[Token<'_>]) -> StatementFacts {
    let mut facts = StatementFacts::default();
    for pair in tokens.windows(2) {
        let [name, bracket] = pair else { continue };
        if !bracket.is_symbol("(") || !matches!(name.kind, Kind::Word | Kind::Name) {
            continue;
        }
        match effect(&name.text.to_ascii_lowercase()) {
            Effect::Reaches => facts.add(reaching()),
            Effect::Writes => facts.add(only(Verb::Write)),
            Effect::Sets if tokens.first().is_some_and(defines) => {
                facts.add(about_anything(Verb::Admin));
            }
            Effect::Computes | Effect::Sets | Effect::Unknown => {}
        }
    }
    facts
}

/// Whether what begins so is no query, whose calls are looked at one by one.
fn defines(first: &Token<'_>) -> bool {
    ["CREATE", "ALTER", "DROP", "TRUNCATE"]
        .iter()
        .any(|word| first.is_word(word))
}

fn reaching() -> StatementFacts {
    StatementFacts {
        reaches_server: true,
        ..about_anything(Verb::Admin)
    }
}

/// A word as the server takes it for a name.
fn folded(word: &str, place: Place<'_>) -> String {
    match place.dialect {
        Dialect::Postgres => word.to_ascii_lowercase(),
        Dialect::MySql { .. } => word.to_owned(),
    }
}

fn name_of(ident: &Ident, place: Place<'_>) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => folded(&ident.value, place),
    }
}

fn parts_of(name: &ObjectName, place: Place<'_>) -> Result<Vec<String>, Unclear> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(name_of(ident, place)),
            ObjectNamePart::Function(_) => Err(Unclear),
        })
        .collect()
}

fn named(name: &ObjectName, place: Place<'_>) -> Result<String, Unclear> {
    spelt(&parts_of(name, place)?, place)
}

/// A part of a name as policies spell it.
pub(super) fn shown(part: &str) -> String {
    match part.contains(['.', '*', '"', ' ']) {
        true => format!("\"{}\"", part.replace('"', "\"\"")),
        false => part.to_owned(),
    }
}

/// A relation as policies spell it.
fn spelt(parts: &[String], place: Place<'_>) -> Result<String, Unclear> {
    let database = place.database.map_or("*".to_owned(), shown);
    let parts: Vec<String> = parts.iter().map(|part| shown(part)).collect();
    match (place.dialect, parts.as_slice()) {
        (Dialect::Postgres, [relation]) => Ok(format!("{database}.*.{relation}")),
        (Dialect::Postgres, [schema, relation]) => Ok(format!("{database}.{schema}.{relation}")),
        (Dialect::Postgres, [database, schema, relation]) => {
            Ok(format!("{database}.{schema}.{relation}"))
        }
        (Dialect::MySql { .. }, [relation]) => Ok(format!("{database}.{relation}")),
        (Dialect::MySql { .. }, [database, relation]) => Ok(format!("{database}.{relation}")),
        _ => Err(Unclear),
    }
}

fn walk(statement: &Statement, place: Place<'_>) -> Result<StatementFacts, Unclear> {
    let mut walker = Walker {
        place,
        facts: only(Verb::Read),
        scopes: Vec::new(),
        call: None,
    };
    match statement.visit(&mut walker) {
        ControlFlow::Continue(()) => Ok(walker.facts),
        ControlFlow::Break(unclear) => Err(unclear),
    }
}

/// The names that a query's WITH defines, and which of them can be seen at this moment.
struct Scope {
    query: *const Query,
    names: Vec<String>,
    bodies: Vec<*const Query>,
    is_recursive: bool,
    /// The first so many.
    visible: usize,
}

struct Walker<'a> {
    place: Place<'a>,
    facts: StatementFacts,
    scopes: Vec<Scope>,
    /// A relation that is about to be visited and is a function.
    call: Option<ObjectName>,
}

type Step = ControlFlow<Unclear>;

fn step(result: Result<(), Unclear>) -> Step {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(unclear) => ControlFlow::Break(unclear),
    }
}

impl Walker<'_> {
    fn is_defined(&self, parts: &[String]) -> bool {
        let [name] = parts else { return false };
        self.scopes.iter().any(|scope| {
            scope
                .names
                .iter()
                .take(scope.visible)
                .any(|known| known == name)
        })
    }

    fn call(&mut self, name: &ObjectName) -> Result<(), Unclear> {
        let parts = parts_of(name, self.place)?;
        let (schema, function) = match parts.as_slice() {
            [function] => (None, function),
            [schema, function] => (Some(schema.as_str()), function),
            _ => return Err(Unclear),
        };
        let is_own = matches!(schema, None | Some("pg_catalog"));
        match effect(&function.to_ascii_lowercase()) {
            Effect::Computes if is_own => {}
            Effect::Writes if is_own => {
                self.facts.verbs.insert(Verb::Write);
            }
            Effect::Reaches => self.facts.add(reaching()),
            _ => return Err(Unclear),
        }
        Ok(())
    }

    /// A call in an expression. What one of `set_config` sets is known only there.
    fn expression(&mut self, function: &Function) -> Result<(), Unclear> {
        let parts = parts_of(&function.name, self.place)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if !matches!(
            parts.as_slice(),
            ["set_config"] | ["pg_catalog", "set_config"]
        ) {
            return self.call(&function.name);
        }
        let sqlparser::ast::FunctionArguments::List(list) = &function.args else {
            return Err(Unclear);
        };
        let Some(sqlparser::ast::FunctionArg::Unnamed(sqlparser::ast::FunctionArgExpr::Expr(
            Expr::Value(name),
        ))) = list.args.first()
        else {
            return Err(Unclear);
        };
        let sqlparser::ast::Value::SingleQuotedString(name) = &name.value else {
            return Err(Unclear);
        };
        self.facts.add(leading::setting(&name.to_ascii_lowercase()));
        self.facts.computes_setting |= !matches!(
            list.args.get(1),
            Some(sqlparser::ast::FunctionArg::Unnamed(
                sqlparser::ast::FunctionArgExpr::Expr(Expr::Value(_)),
            ))
        );
        Ok(())
    }

    /// Notes what is changed. Such a name is that of a relation, whatever a WITH defines.
    fn change(&mut self, tables: &[&TableFactor], condition: Option<&Expr>) -> Result<(), Unclear> {
        self.facts.verbs.insert(Verb::Write);
        self.facts.is_unfiltered |= !condition.is_some_and(looks_at_rows);
        for table in tables {
            if let TableFactor::Table { name, .. } = table {
                self.facts.relations.insert(named(name, self.place)?);
            } else {
                self.facts.relations.insert(ANY_RELATION.to_owned());
            }
        }
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), Unclear> {
        match statement {
            Statement::Query(_) => Ok(()),
            Statement::Insert(insert) => {
                self.facts.verbs.insert(Verb::Write);
                match &insert.table {
                    TableObject::TableName(name) => {
                        self.facts.relations.insert(named(name, self.place)?);
                    }
                    _ => return Err(Unclear),
                }
                Ok(())
            }
            Statement::Update(update) => {
                self.change(&factors(&update.table), update.selection.as_ref())
            }
            Statement::Delete(delete) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) =
                    &delete.from;
                let tables: Vec<&TableFactor> = from.iter().flat_map(factors).collect();
                self.change(&tables, delete.selection.as_ref())
            }
            Statement::Merge(merge) => self.change(&[&merge.table], Some(&merge.on)),
            // The statement that is walked, when it is a definition.
            Statement::CreateTable(_)
            | Statement::CreateView(_)
            | Statement::CreateIndex(_)
            | Statement::AlterTable(_)
            | Statement::Drop { .. }
            | Statement::Truncate(_) => Ok(()),
            _ => Err(Unclear),
        }
    }

    fn query(&mut self, query: &Query) -> Result<(), Unclear> {
        if let Some(scope) = self.scopes.last_mut()
            && let Some(index) = scope
                .bodies
                .iter()
                .position(|body| std::ptr::eq(*body, query))
        {
            // Without RECURSIVE, a body sees the names before its own.
            scope.visible = if scope.is_recursive {
                scope.names.len()
            } else {
                index
            };
        }
        if !query.locks.is_empty() {
            self.facts.verbs.insert(Verb::Write);
        }
        if let SetExpr::Table(_) = query.body.as_ref() {
            return Err(Unclear);
        }
        let is_plain = query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if !is_plain {
            return Err(Unclear);
        }
        let (names, bodies, is_recursive) = match &query.with {
            Some(with) => (
                with.cte_tables
                    .iter()
                    .map(|cte| name_of(&cte.alias.name, self.place))
                    .collect(),
                with.cte_tables
                    .iter()
                    .map(|cte| std::ptr::from_ref::<Query>(&cte.query))
                    .collect(),
                with.recursive,
            ),
            None => (Vec::new(), Vec::new(), false),
        };
        self.scopes.push(Scope {
            query: std::ptr::from_ref(query),
            visible: names.len(),
            names,
            bodies,
            is_recursive,
        });
        Ok(())
    }
}

impl Visitor for Walker<'_> {
    type Break = Unclear;

    fn pre_visit_statement(&mut self, statement: &Statement) -> Step {
        step(self.statement(statement))
    }

    fn pre_visit_query(&mut self, query: &Query) -> Step {
        step(self.query(query))
    }

    fn post_visit_query(&mut self, query: &Query) -> Step {
        match self.scopes.pop() {
            Some(scope) if std::ptr::eq(scope.query, query) => {}
            _ => return ControlFlow::Break(Unclear),
        }
        if let Some(scope) = self.scopes.last_mut()
            && scope.bodies.iter().any(|body| std::ptr::eq(*body, query))
        {
            scope.visible = scope.names.len();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &sqlparser::ast::Select) -> Step {
        if select.into.is_some() {
            self.facts.add(about_anything(Verb::Ddl));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Step {
        if self.call.take().is_some_and(|call| call == *relation) {
            return step(self.call(relation));
        }
        step((|| {
            let parts = parts_of(relation, self.place)?;
            if !self.is_defined(&parts) {
                self.facts.relations.insert(spelt(&parts, self.place)?);
            }
            Ok(())
        })())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Step {
        match factor {
            TableFactor::Table {
                args: Some(_),
                name,
                ..
            } => {
                self.call = Some(name.clone());
                ControlFlow::Continue(())
            }
            TableFactor::Function { name, .. } => step(self.call(name)),
            TableFactor::Table { .. }
            | TableFactor::Derived { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => ControlFlow::Break(Unclear),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> Step {
        match expression {
            Expr::Function(function) => step(self.expression(function)),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn factors(table: &TableWithJoins) -> Vec<&TableFactor> {
    std::iter::once(&table.relation)
        .chain(table.joins.iter().map(|join| &join.relation))
        .collect()
}

/// Whether a condition depends on anything: `WHERE true` is none.
fn looks_at_rows(condition: &Expr) -> bool {
    struct Looks;
    impl Visitor for Looks {
        type Break = ();
        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            match expression {
                Expr::Identifier(_)
                | Expr::CompoundIdentifier(_)
                | Expr::CompoundFieldAccess { .. } => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    condition.visit(&mut Looks).is_break()
}
