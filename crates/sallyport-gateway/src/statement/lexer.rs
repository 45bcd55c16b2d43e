//! Splits a text into tokens as the server does: where comments, texts, names and statements end.
//!
//! Followed: PostgreSQL's chapter "Lexical Structure" and its `scan.l`; MySQL's chapters "Language
//! Structure" and "Comments".
//!
//! INVARIANT: two readings of the same bytes are never mixed up: where the end of a token depends on
//! something that is not known here, the whole text is [`Unclear`].
//!
//! Not here: what words mean (`leading`, `structure`).

use std::borrow::Cow;

use super::{Backslash, Dialect, DoubleQuotes};

/// The text cannot be read with certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclear;

/// Tokens of one text that are read.
const TOKENS_MAX: usize = 50_000;
/// Brackets within brackets.
const DEPTH_MAX: usize = 48;
/// Operators that may follow each other, over all open brackets: what is parsed of them is as deep.
const CHAIN_MAX: usize = 1_000;
/// Longest name: the server silently cuts what is longer.
const NAME_BYTES_MAX: usize = 63;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word without quotes.
    Word,
    /// A name in quotes.
    Name,
    /// A text in quotes, of whatever kind.
    Text,
    Number,
    /// A place for a value: `$1`.
    Parameter,
    /// One character.
    Symbol,
}

impl Kind {
    /// One character for each kind.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Word => 'w',
            Self::Name => 'n',
            Self::Text => 't',
            Self::Number => '1',
            Self::Parameter => '$',
            Self::Symbol => 's',
        }
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// As written; without its quotes.
    pub(super) text: Cow<'a, str>,
    /// Nothing stands between it and the one before.
    pub(super) is_glued: bool,
}

impl Token<'_> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }
}

/// The tokens of a text; comments are gone.
pub(super) fn tokens(text: &str, dialect: Dialect) -> Result<Vec<Token<'_>>, Unclear> {
    let mut lexer = Lexer {
        text,
        at: 0,
        dialect,
        tokens: Vec::new(),
        is_glued: false,
    };
    while lexer.step()? {
        if lexer.tokens.len() > TOKENS_MAX {
            return Err(Unclear);
        }
    }
    Ok(lexer.tokens)
}

/// The statements of a text, without empty ones.
pub(super) fn statements<'t, 'a>(tokens: &'t [Token<'a>]) -> Result<Vec<&'t [Token<'a>]>, Unclear> {
    let mut statements = Vec::new();
    for statement in tokens.split(|token| token.is_symbol(";")) {
        check_depth(statement)?;
        if !statement.is_empty() {
            statements.push(statement);
        }
    }
    Ok(statements)
}

/// Words that build chains of expressions or queries.
const CHAINING: [&str; 22] = [
    "AND",
    "AT",
    "BETWEEN",
    "COLLATE",
    "DIV",
    "EXCEPT",
    "ILIKE",
    "IN",
    "INTERSECT",
    "IS",
    "ISNULL",
    "LIKE",
    "MINUS",
    "MOD",
    "NOT",
    "NOTNULL",
    "OR",
    "OVERLAPS",
    "REGEXP",
    "RLIKE",
    "UNION",
    "XOR",
];

/// Brackets match and are not too deep, and what is parsed of it is not, either.
fn check_depth(statement: &[Token<'_>]) -> Result<(), Unclear> {
    let mut open: Vec<(char, usize)> = Vec::new();
    let (mut sum, mut here) = (0_usize, 0_usize);
    for token in statement {
        let mut is_chaining = token.kind == Kind::Word
            && CHAINING
                .iter()
                .any(|word| token.text.eq_ignore_ascii_case(word));
        if token.kind == Kind::Symbol {
            match token.text.as_ref() {
                "(" | "[" => {
                    let closing = if token.text == "(" { ')' } else { ']' };
                    open.push((closing, here));
                    here = 0;
                }
                ")" | "]" => {
                    let (closing, outside) = open.pop().ok_or(Unclear)?;
                    if !token.text.starts_with(closing) {
                        return Err(Unclear);
                    }
                    sum = sum.saturating_sub(here);
                    here = outside;
                    // What follows is applied to what was in brackets.
                    is_chaining = true;
                }
                "," => {
                    sum = sum.saturating_sub(here);
                    here = 0;
                }
                "." => {}
                _ => is_chaining = true,
            }
        }
        if is_chaining {
            here = here.saturating_add(1);
            sum = sum.saturating_add(1);
        }
        if open.len() > DEPTH_MAX || sum > CHAIN_MAX {
            return Err(Unclear);
        }
    }
    open.is_empty().then_some(()).ok_or(Unclear)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
    tokens: Vec<Token<'a>>,
    is_glued: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    const fn is_postgres(&self) -> bool {
        matches!(self.dialect, Dialect::Postgres)
    }

    fn push(&mut self, kind: Kind, text: impl Into<Cow<'a, str>>, bytes: usize) {
        self.tokens.push(Token {
            kind,
            text: text.into(),
            is_glued: self.is_glued,
        });
        self.at = self.at.saturating_add(bytes);
        self.is_glued = true;
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
        self.is_glued = false;
    }

    /// Reads a token, or what stands between two. Says whether there was one.
    fn step(&mut self) -> Result<bool, Unclear> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(false);
        };
        match first {
            ' ' | '\t' | '\n' | '\r' | '\x0c' => self.skip(1),
            '-' if rest.starts_with("--") => self.line_comment(rest, 2)?,
            '#' if !self.is_postgres() => self.line_comment(rest, 1)?,
            '/' if rest.starts_with("/*") => self.block_comment(rest)?,
            '\'' => self.quoted_text(rest, 0, self.backslash())?,
            '"' => self.double_quoted(rest)?,
            '`' if !self.is_postgres() => {
                let (content, bytes) = quoted(rest, '`', Backslash::Plain)?;
                self.name(content.replace("``", "`"), bytes)?;
            }
            '$' if self.is_postgres() => self.dollar(rest)?,
            '.' if rest.get(1..2).is_some_and(|next| next.as_bytes().first().is_some_and(u8::is_ascii_digit))
                // `t.1` is none of ours.
                && !self.follows_name() =>
            {
                self.number(rest)?;
            }
            '0'..='9' => self.number(rest)?,
            first if is_word_start(first, self.dialect) => self.word(rest)?,
            '(' | ')' | '[' | ']' | ',' | ';' | '.' | ':' | '+' | '-' | '*' | '/' | '<' | '>'
            | '=' | '~' | '!' | '@' | '#' | '%' | '^' | '&' | '|' | '?' => {
                let symbol = rest.get(..1).ok_or(Unclear)?;
                self.push(Kind::Symbol, symbol, 1);
            }
            _ => return Err(Unclear),
        }
        Ok(true)
    }

    fn follows_name(&self) -> bool {
        self.is_glued
            && self
                .tokens
                .last()
                .is_some_and(|token| matches!(token.kind, Kind::Word | Kind::Name))
    }

    fn line_comment(&mut self, rest: &str, sign: usize) -> Result<(), Unclear> {
        let is_end = |c: char| c == '\n' || (self.is_postgres() && c == '\r');
        if !self.is_postgres() && sign == 2 {
            // Two minus signs are a comment here only in front of a blank.
            let after = rest.get(2..).and_then(|rest| rest.chars().next());
            if !after.is_none_or(|c| matches!(c, ' ' | '\t' | '\n')) {
                return Err(Unclear);
            }
        }
        self.skip(rest.find(is_end).unwrap_or(rest.len()));
        Ok(())
    }

    fn block_comment(&mut self, rest: &str) -> Result<(), Unclear> {
        if !self.is_postgres() {
            let end = rest.find("*/").ok_or(Unclear)?;
            let content = rest.get(2..end).ok_or(Unclear)?;
            let is_plain = !content.starts_with(['!', '+'])
                && !content.starts_with("M!")
                && !content.contains("/*");
            // Code for the server, or settings for one statement, in the form of a comment.
            if !is_plain {
                return Err(Unclear);
            }
            self.skip(end.saturating_add(2));
            return Ok(());
        }
        let bytes = rest.as_bytes();
        let (mut at, mut depth) = (0_usize, 0_usize);
        loop {
            match bytes.get(at..at.saturating_add(2)) {
                Some(b"/*") => {
                    depth = depth.saturating_add(1);
                    at = at.saturating_add(2);
                }
                Some(b"*/") => {
                    depth = depth.saturating_sub(1);
                    at = at.saturating_add(2);
                    if depth == 0 {
                        self.skip(at);
                        return Ok(());
                    }
                }
                Some(_) => at = at.saturating_add(1),
                None => return Err(Unclear),
            }
        }
    }

    const fn backslash(&self) -> Backslash {
        match self.dialect {
            Dialect::Postgres => Backslash::Unsure,
            Dialect::MySql { backslash, .. } => backslash,
        }
    }

    /// A text between single quotes, behind `before` bytes that only say how it is written.
    fn quoted_text(
        &mut self,
        rest: &'a str,
        before: usize,
        backslash: Backslash,
    ) -> Result<(), Unclear> {
        let (content, bytes) = quoted(rest.get(before..).ok_or(Unclear)?, '\'', backslash)?;
        self.push(Kind::Text, content, before.saturating_add(bytes));
        Ok(())
    }

    fn double_quoted(&mut self, rest: &'a str) -> Result<(), Unclear> {
        let quotes = match self.dialect {
            Dialect::Postgres => DoubleQuotes::Name,
            Dialect::MySql { quotes, .. } => quotes,
        };
        let backslash = match quotes {
            DoubleQuotes::Name => Backslash::Plain,
            DoubleQuotes::Text => self.backslash(),
            DoubleQuotes::Unsure => Backslash::Unsure,
        };
        let (content, bytes) = quoted(rest, '"', backslash)?;
        if quotes == DoubleQuotes::Text {
            self.push(Kind::Text, content, bytes);
            return Ok(());
        }
        // As a name it can do more than as a text.
        self.name(content.replace("\"\"", "\""), bytes)
    }

    fn name(&mut self, name: String, bytes: usize) -> Result<(), Unclear> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
            return Err(Unclear);
        }
        self.push(Kind::Name, name, bytes);
        Ok(())
    }

    /// `$1`, or a text between dollar signs. Within a word the sign is part of it, and not seen here.
    fn dollar(&mut self, rest: &'a str) -> Result<(), Unclear> {
        let after = rest.get(1..).ok_or(Unclear)?;
        let digits = leading(after, |c| c.is_ascii_digit());
        if digits > 0 {
            let bytes = digits.saturating_add(1);
            let is_ended = rest
                .get(bytes..)
                .is_some_and(|rest| !rest.starts_with(is_word_part));
            let parameter = rest.get(..bytes).filter(|_| is_ended).ok_or(Unclear)?;
            self.push(Kind::Parameter, parameter, bytes);
            return Ok(());
        }
        let tag = leading(after, |c| c != '$' && is_word_part(c));
        let end = tag.saturating_add(2);
        let quote = rest.get(..end).ok_or(Unclear)?;
        if !quote.ends_with('$') {
            return Err(Unclear);
        }
        let content = rest.get(end..).ok_or(Unclear)?;
        let length = content.find(quote).ok_or(Unclear)?;
        let bytes = length.saturating_add(end.saturating_mul(2));
        let content = content.get(..length).ok_or(Unclear)?;
        self.push(Kind::Text, content, bytes);
        Ok(())
    }

    fn number(&mut self, rest: &'a str) -> Result<(), Unclear> {
        let hex = rest
            .strip_prefix("0x")
            .map(|digits| leading(digits, |c| c.is_ascii_hexdigit()));
        let bytes = match hex {
            Some(digits) if digits > 0 => digits.saturating_add(2),
            _ => {
                let whole = leading(rest, |c| c.is_ascii_digit());
                let mut end = whole;
                if rest.get(end..).is_some_and(|rest| rest.starts_with('.')) {
                    let part = rest.get(end.saturating_add(1)..).unwrap_or_default();
                    end = end
                        .saturating_add(1)
                        .saturating_add(leading(part, |c| c.is_ascii_digit()));
                }
                let power = rest.get(end..).unwrap_or_default();
                if let Some(power) = power.strip_prefix(['e', 'E']) {
                    let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
                    let count = leading(digits, |c| c.is_ascii_digit());
                    let sign = power.len().saturating_sub(digits.len());
                    end = end
                        .saturating_add(1)
                        .saturating_add(sign)
                        .saturating_add(if count > 0 { count } else { usize::MAX });
                }
                end
            }
        };
        // Some servers read `1FROM` as a number and a word, others as neither.
        let after = rest.get(bytes..).ok_or(Unclear)?;
        if after.starts_with(is_word_part) || after.starts_with('.') {
            return Err(Unclear);
        }
        let number = rest.get(..bytes).ok_or(Unclear)?;
        self.push(Kind::Number, number, bytes);
        Ok(())
    }

    fn word(&mut self, rest: &'a str) -> Result<(), Unclear> {
        let bytes = leading(rest, is_word_part);
        let word = rest.get(..bytes).ok_or(Unclear)?;
        let after = rest.get(bytes..).ok_or(Unclear)?;
        // In latin1 this byte, a part of many letters in UTF-8, is a blank for a MySQL server.
        let may_be_two = !self.is_postgres() && word.bytes().any(|byte| byte == 0xa0);
        if word.len() > NAME_BYTES_MAX || may_be_two || !word.chars().all(is_certain) {
            return Err(Unclear);
        }
        if after.starts_with('\'') {
            let lower = word.to_ascii_lowercase();
            let prefix = match (self.dialect, lower.as_str()) {
                (Dialect::Postgres, "e") => Some(Backslash::Escapes),
                (_, "b" | "x" | "n") => Some(self.backslash()),
                (Dialect::MySql { .. }, name) if name.starts_with('_') => Some(self.backslash()),
                _ => None,
            };
            if let Some(backslash) = prefix {
                return self.quoted_text(rest, bytes, backslash);
            }
        }
        if self.is_postgres() && word.eq_ignore_ascii_case("u") {
            if after.starts_with("&'") {
                return self.quoted_text(rest, bytes.saturating_add(1), Backslash::Unsure);
            }
            if after.starts_with("&\"") {
                return Err(Unclear);
            }
        }
        self.push(Kind::Word, word, bytes);
        Ok(())
    }
}

fn is_word_start(c: char, dialect: Dialect) -> bool {
    c.is_ascii_alphabetic()
        || c == '_'
        || !c.is_ascii()
        || (c == '$' && matches!(dialect, Dialect::MySql { .. }))
}

fn is_word_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()
}

/// Whether every reader takes it for a part of a word: not so blanks that are none for a server.
fn is_certain(c: char) -> bool {
    c.is_ascii() || c.is_alphanumeric()
}

/// Bytes at the beginning of which all characters are so.
fn leading(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// What stands between quotes, doubled ones as written, and how many bytes it is with them.
fn quoted(rest: &str, quote: char, backslash: Backslash) -> Result<(&str, usize), Unclear> {
    let mut characters = rest.char_indices().skip(1).peekable();
    let mut backslashes = 0_usize;
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            backslashes = backslashes.saturating_add(1);
            if backslash == Backslash::Escapes {
                characters.next();
                backslashes = 0;
            }
            continue;
        }
        if c == quote {
            // By one reading it is escaped, by the other it ends the text.
            if backslash == Backslash::Unsure && backslashes % 2 == 1 {
                return Err(Unclear);
            }
            match characters.peek() {
                Some((_, next)) if *next == quote => {
                    characters.next();
                }
                _ => {
                    let content = rest.get(1..at).ok_or(Unclear)?;
                    return Ok((content, at.saturating_add(1)));
                }
            }
        }
        backslashes = 0;
    }
    Err(Unclear)
}
