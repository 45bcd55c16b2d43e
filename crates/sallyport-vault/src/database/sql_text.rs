//! SQL as text: quoting names and values, and reading the creation statements that an owner wrote, with
//! their placeholders. Pure.
//!
//! INVARIANT: a quoted name or value is one token whatever it holds (security class D5); a placeholder
//! stands where a token can, never inside quotes or a comment, so what replaces it is read as one.
//!
//! Not here: deciding what a statement may do. That is read from the server's catalogue afterwards.

/// Longest name PostgreSQL and MySQL roles are given; longer ones are cut off silently by servers.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// Whose rules of quoting hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Names in `"`, values in `'`, backslashes mean nothing, `$tag$` quotes.
    Postgres,
    /// Names in backticks, values in `'` or `"`, backslashes escape.
    Mysql,
}

/// What is wrong with a text of SQL. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SqlTextError {
    #[error(
        "has a placeholder that is none: {{{{user}}}}, {{{{expires_at}}}} and {{{{database}}}} are"
    )]
    UnknownPlaceholder,
    #[error("has a placeholder inside quotes or a comment, where it would not be replaced safely")]
    QuotedPlaceholder,
    #[error("ends inside quotes, a comment or a placeholder")]
    Unfinished,
    #[error("holds a NUL character or a comment that servers execute")]
    Forbidden,
    #[error("begins or ends a transaction; the engine does that")]
    Transaction,
    #[error(
        "is not a list of names: separate them by commas, and put names that are not a-z, 0-9 and _ into quotes"
    )]
    NameList,
    #[error("has a name of more than 63 bytes, or an empty one")]
    NameLength,
}

impl Dialect {
    /// A name as one token.
    pub(crate) fn name(self, name: &str) -> String {
        let quote = match self {
            Self::Postgres => '"',
            Self::Mysql => '`',
        };
        enclosed(name, quote)
    }

    /// A value as one token.
    pub(crate) fn value(self, value: &str) -> String {
        match self {
            // With `standard_conforming_strings`, which connections demand.
            Self::Postgres => enclosed(value, '\''),
            Self::Mysql => enclosed(&value.replace('\\', "\\\\"), '\''),
        }
    }

    /// Reads names separated by commas, as SQL writes them: without quotes in lower case.
    pub(crate) fn name_list(self, text: &str) -> Result<Vec<String>, SqlTextError> {
        let quote = match self {
            Self::Postgres => '"',
            Self::Mysql => '`',
        };
        let mut names = Vec::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Ok(names);
        }
        loop {
            let (name, after) = match rest.strip_prefix(quote) {
                Some(inside) => quoted(inside, quote)?,
                None => bare(rest)?,
            };
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
                return Err(SqlTextError::NameLength);
            }
            names.push(name);
            rest = after.trim_start();
            if rest.is_empty() {
                return Ok(names);
            }
            rest = rest
                .strip_prefix(',')
                .ok_or(SqlTextError::NameList)?
                .trim_start();
        }
    }

    /// Reads creation statements: each of its own, in order.
    pub(crate) fn statements(self, text: &str) -> Result<Vec<Statement>, SqlTextError> {
        let mut reader = Reader {
            dialect: self,
            rest: text,
            statements: Vec::new(),
            parts: Vec::new(),
            literal: String::new(),
        };
        reader.read()?;
        Ok(reader.statements)
    }
}

fn enclosed(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push(quote);
    for c in text.chars().filter(|c| *c != '\0') {
        if c == quote {
            quoted.push(quote);
        }
        quoted.push(c);
    }
    quoted.push(quote);
    quoted
}

/// A name after its opening quote, and what follows the closing one.
fn quoted(mut rest: &str, quote: char) -> Result<(String, &str), SqlTextError> {
    let mut name = String::new();
    loop {
        let (inside, after) = rest.split_once(quote).ok_or(SqlTextError::NameList)?;
        name.push_str(inside);
        match after.strip_prefix(quote) {
            Some(further) => {
                name.push(quote);
                rest = further;
            }
            None => return Ok((name, after)),
        }
    }
}

fn bare(rest: &str) -> Result<(String, &str), SqlTextError> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let (name, after) = rest.split_at_checked(end).ok_or(SqlTextError::NameList)?;
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well
        .then(|| (name.to_ascii_lowercase(), after))
        .ok_or(SqlTextError::NameList)
}

/// What is put in the place of placeholders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) user: &'a str,
    pub(crate) expires_at: &'a str,
    pub(crate) database: &'a str,
}

/// One statement with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    dialect: Dialect,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    ExpiresAt,
    Database,
}

impl Statement {
    /// The statement with its placeholders replaced: names as names, times as values.
    pub(crate) fn fill(&self, values: &Values<'_>) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::User if self.dialect == Dialect::Mysql => {
                    format!("{}@'%'", self.dialect.value(values.user))
                }
                Part::User => self.dialect.name(values.user),
                Part::Database => self.dialect.name(values.database),
                Part::ExpiresAt => self.dialect.value(values.expires_at),
            })
            .collect()
    }
}

/// First words of statements that would take the transaction out of the engine's hands.
const TRANSACTION_WORDS: [&str; 11] = [
    "abort",
    "begin",
    "commit",
    "end",
    "prepare",
    "release",
    "rollback",
    "savepoint",
    "start",
    "lock",
    "unlock",
];

struct Reader<'a> {
    dialect: Dialect,
    rest: &'a str,
    statements: Vec<Statement>,
    parts: Vec<Part>,
    literal: String,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), SqlTextError> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\0' => return Err(SqlTextError::Forbidden),
                '{' if self.rest.starts_with("{{") => self.placeholder()?,
                '-' if self.rest.starts_with("--") => self.take_comment("\n")?,
                '#' if self.dialect == Dialect::Mysql => self.take_comment("\n")?,
                '/' if self.rest.starts_with("/*") => self.take_block_comment()?,
                '\'' | '"' | '`' => self.take_quoted(c)?,
                '$' if self.dialect == Dialect::Postgres => self.take_dollar()?,
                ';' => {
                    self.skip(1);
                    self.finish()?;
                }
                _ => self.take(c.len_utf8()),
            }
        }
        self.finish()
    }

    /// Moves `bytes` of the text into the statement.
    fn take(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.literal.push_str(taken);
        self.rest = rest;
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or("");
    }

    /// Moves everything up to and with `end`; it holds no placeholder.
    fn take_to(&mut self, from: usize, end: &str) -> Result<(), SqlTextError> {
        let inside = self.rest.get(from..).ok_or(SqlTextError::Unfinished)?;
        let length = inside.find(end).ok_or(SqlTextError::Unfinished)?;
        self.take_checked(from.saturating_add(length).saturating_add(end.len()))
    }

    fn take_checked(&mut self, bytes: usize) -> Result<(), SqlTextError> {
        let taken = self.rest.get(..bytes).ok_or(SqlTextError::Unfinished)?;
        if taken.contains("{{") {
            return Err(SqlTextError::QuotedPlaceholder);
        }
        if taken.contains('\0') {
            return Err(SqlTextError::Forbidden);
        }
        self.take(bytes);
        Ok(())
    }

    fn placeholder(&mut self) -> Result<(), SqlTextError> {
        let (name, _) = self
            .rest
            .get(2..)
            .and_then(|rest| rest.split_once("}}"))
            .ok_or(SqlTextError::Unfinished)?;
        let part = match name.trim() {
            "user" => Part::User,
            "expires_at" => Part::ExpiresAt,
            "database" => Part::Database,
            _ => return Err(SqlTextError::UnknownPlaceholder),
        };
        let length = name.len().saturating_add(4);
        self.flush();
        self.parts.push(part);
        self.skip(length);
        Ok(())
    }

    fn take_comment(&mut self, end: &str) -> Result<(), SqlTextError> {
        let length = self.rest.find(end).unwrap_or(self.rest.len());
        self.take_checked(length)
    }

    fn take_block_comment(&mut self) -> Result<(), SqlTextError> {
        // `/*!` is executed by MySQL, `/*M!` by MariaDB; nesting is read differently by each.
        let inside = self.rest.get(2..).unwrap_or("");
        let end = inside.find("*/").ok_or(SqlTextError::Unfinished)?;
        let comment = inside.get(..end).unwrap_or("");
        if comment.starts_with('!') || comment.starts_with("M!") || comment.contains("/*") {
            return Err(SqlTextError::Forbidden);
        }
        self.take_checked(end.saturating_add(4))
    }

    fn take_quoted(&mut self, quote: char) -> Result<(), SqlTextError> {
        // What a backslash means depends on the dialect, the quote and a letter before it: with one
        // inside, the end of the text is not certain.
        let inside = self.rest.get(1..).unwrap_or("");
        let end = inside.find(quote).ok_or(SqlTextError::Unfinished)?;
        if inside.get(..end).is_some_and(|text| text.contains('\\')) {
            return Err(SqlTextError::Forbidden);
        }
        self.take_checked(end.saturating_add(2))
    }

    /// A text in `$tag$`, or a dollar that is none.
    fn take_dollar(&mut self) -> Result<(), SqlTextError> {
        let after = self.rest.get(1..).unwrap_or("");
        let is_in_name = self
            .literal
            .ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let Some((tag, _)) = after.split_once('$') else {
            self.take(1);
            return Ok(());
        };
        let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !tag.starts_with(|c: char| c.is_ascii_digit());
        if is_in_name || !is_tag {
            self.take(1);
            return Ok(());
        }
        let delimiter = format!("${tag}$");
        self.take_to(delimiter.len(), &delimiter)
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.parts
                .push(Part::Text(std::mem::take(&mut self.literal)));
        }
    }

    fn finish(&mut self) -> Result<(), SqlTextError> {
        self.flush();
        let parts = std::mem::take(&mut self.parts);
        let first = match parts.first() {
            None => return Ok(()),
            Some(Part::Text(text)) if parts.len() == 1 && text.trim().is_empty() => return Ok(()),
            Some(Part::Text(text)) => first_word(text),
            Some(_) => String::new(),
        };
        if TRANSACTION_WORDS.contains(&first.as_str()) {
            return Err(SqlTextError::Transaction);
        }
        self.statements.push(Statement {
            dialect: self.dialect,
            parts,
        });
        Ok(())
    }
}

/// The first word of a statement in lower case, comments before it left out.
fn first_word(text: &str) -> String {
    let mut rest = text.trim_start();
    loop {
        let after = if rest.starts_with("--") || rest.starts_with('#') {
            rest.split_once('\n').map(|(_, after)| after)
        } else if rest.starts_with("/*") {
            rest.split_once("*/").map(|(_, after)| after)
        } else {
            break;
        };
        rest = after.unwrap_or("").trim_start();
    }
    rest.chars()
        .take_while(|c| c.is_ascii_alphabetic())
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
#[path = "sql_text_tests.rs"]
mod tests;
