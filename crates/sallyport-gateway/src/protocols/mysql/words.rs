//! The words of a statement, as far as the gateway itself has to know them: whether it stops a connection,
//! or has the client send a file.
//!
//! INVARIANT: what stands in quotes or in a comment is no word; what stands in a comment that servers execute
//! (`/*! … */`) is one.
//!
//! Not here: what a statement does to tables (`crate::statement`).

use super::upstream::Kill;

/// A piece of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name, a keyword or a number.
    Word(&'a [u8]),
    /// Something in quotes.
    Quoted,
    /// Anything else.
    Mark(u8),
}

/// Splits a statement at its front.
struct Tokens<'a> {
    rest: &'a [u8],
    /// Whether a backslash in quotes takes the next character along.
    has_escapes: bool,
}

impl<'a> Tokens<'a> {
    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    /// Skips what is before the next piece; the beginning and the end of an executed comment, too.
    fn skip_space(&mut self) {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => self.skip(1),
                [b'#', ..] => self.skip_line(),
                [b'-', b'-', after, ..]
                    if after.is_ascii_whitespace() || after.is_ascii_control() =>
                {
                    self.skip_line();
                }
                [b'-', b'-'] => self.skip(2),
                [b'/', b'*', b'!', ..] => self.skip_version(3),
                [b'/', b'*', b'M', b'!', ..] => self.skip_version(4),
                [b'/', b'*', ..] => {
                    let end = self.rest.windows(2).skip(2).position(|pair| pair == b"*/");
                    self.skip(end.map_or(self.rest.len(), |end| end.saturating_add(4)));
                }
                [b'*', b'/', ..] => self.skip(2),
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        self.skip(end.unwrap_or(self.rest.len()));
    }

    fn skip_version(&mut self, mark: usize) {
        self.skip(mark);
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit());
        self.skip(digits.count());
    }

    fn skip_quoted(&mut self, quote: u8) {
        self.skip(1);
        loop {
            match self.rest {
                [b'\\', _, ..] if self.has_escapes && quote != b'`' => self.skip(2),
                [first, second, ..] if *first == quote && *second == quote => self.skip(2),
                [first, ..] if *first == quote => return self.skip(1),
                [_, ..] => self.skip(1),
                [] => return,
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_space();
        match *self.rest.first()? {
            quote @ (b'\'' | b'"' | b'`') => {
                self.skip_quoted(quote);
                Some(Token::Quoted)
            }
            first if is_of_word(first) => {
                let rest = self.rest;
                let count = rest.iter().take_while(|byte| is_of_word(**byte)).count();
                self.skip(count);
                Some(Token::Word(rest.get(..count).unwrap_or_default()))
            }
            mark => {
                self.skip(1);
                Some(Token::Mark(mark))
            }
        }
    }
}

/// What names are made of, with what belongs to the name before or after: `@a`, `t.a`.
const fn is_of_word(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | b'@' | b'.' | 0x80..)
}

/// What a statement asks of the gateway itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// It stops a connection.
    pub(super) kills: Option<Killing>,
    /// It has the client send a file.
    pub(super) sends_file: bool,
}

/// What connection a statement stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Killing {
    /// This one, and the statement does nothing else.
    One(Kill, u64),
    /// It cannot be told, or it does something else as well.
    Unclear,
}

/// Reads what a statement asks of the gateway.
pub(super) fn asked(sql: &[u8], has_escapes: bool) -> Asked {
    let tokens = || Tokens {
        rest: sql,
        has_escapes,
    };
    // It is a reserved word: where it stands alone and unquoted, it is the statement.
    let is_kill = |token: Token<'_>| is_word(token, b"KILL");
    let kills = tokens().any(is_kill).then(|| killing(tokens()));
    let mut wanted: &[&[u8]] = &[b"LOAD", b"LOCAL", b"INFILE"];
    for token in tokens() {
        if let Some((next, rest)) = wanted.split_first()
            && is_word(token, next)
        {
            wanted = rest;
        }
    }
    Asked {
        kills,
        sends_file: wanted.is_empty(),
    }
}

fn is_word(token: Token<'_>, word: &[u8]) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word))
}

/// `KILL [HARD | SOFT] [CONNECTION | QUERY] NUMBER`, and nothing else.
fn killing(tokens: Tokens<'_>) -> Killing {
    let mut words = Vec::new();
    let mut is_over = false;
    for token in tokens {
        match token {
            Token::Word(word) if !is_over && words.len() < 4 => words.push(word),
            Token::Mark(b';') => is_over = true,
            _ => return Killing::Unclear,
        }
    }
    let mut words = words.into_iter().peekable();
    let mut takes = |known: &[&[u8]]| {
        words.next_if(|word| known.iter().any(|known| word.eq_ignore_ascii_case(known)))
    };
    if takes(&[b"KILL"]).is_none() {
        return Killing::Unclear;
    }
    takes(&[b"HARD", b"SOFT"]);
    let what = takes(&[b"CONNECTION", b"QUERY"]);
    let number = words
        .next()
        .and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
    match (what, number, words.next()) {
        (Some(what), Some(number), None) if what.eq_ignore_ascii_case(b"QUERY") => {
            Killing::One(Kill::Query, number)
        }
        (_, Some(number), None) => Killing::One(Kill::Connection, number),
        _ => Killing::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kills(sql: &str) -> Option<Killing> {
        asked(sql.as_bytes(), true).kills
    }

    /// G7: who stops a connection is told apart from who only says so, however it is written.
    #[test]
    fn given_a_kill_in_every_spelling_then_its_number_is_read_or_it_is_unclear() {
        let query = Some(Killing::One(Kill::Query, 7));
        let connection = Some(Killing::One(Kill::Connection, 7));
        for (sql, expected) in [
            ("KILL QUERY 7", query),
            ("kill /* now */ query 7;", query),
            ("/*!50000 KILL QUERY 7 */", query),
            ("/*M!100000 KILL */ QUERY 7", query),
            ("KILL 7", connection),
            ("KILL HARD CONNECTION 7 ;", connection),
            ("-- so\nKILL 7 # there", connection),
            ("KILL USER app", Some(Killing::Unclear)),
            ("KILL QUERY ID 7", Some(Killing::Unclear)),
            ("KILL 7; DROP TABLE item", Some(Killing::Unclear)),
            ("SELECT 1; KILL 7", Some(Killing::Unclear)),
            ("BEGIN NOT ATOMIC KILL 7; END", Some(Killing::Unclear)),
            ("KILL CONNECTION_ID()", Some(Killing::Unclear)),
            ("SELECT 'it''s' /*!*/; KILL 7", Some(Killing::Unclear)),
            ("SELECT 'KILL 7'", None),
            ("SELECT \"\\\" KILL 7\"", None),
            ("SELECT `kill`, t.kill, @kill FROM t", None),
            ("SELECT 1 /* KILL 7 */ -- KILL 8", None),
            ("SELECT killed FROM skill", None),
        ] {
            assert_eq!(kills(sql), expected, "{sql}");
        }
        // Where a backslash is a character like any other, the string ends before it.
        assert_eq!(asked(b"SELECT '\\'; KILL 7; -- '", true).kills, None);
        assert!(asked(b"SELECT '\\'; KILL 7; -- '", false).kills.is_some());
    }

    /// G8
    #[test]
    fn given_a_statement_that_sends_a_file_then_it_says_so_and_others_do_not() {
        for (sql, expected) in [
            ("LOAD DATA LOCAL INFILE '/tmp/a' INTO TABLE t", true),
            ("load xml concurrent local infile 'a' into table t", true),
            ("LOAD DATA /*!LOCAL*/ INFILE 'a' INTO TABLE t", true),
            ("LOAD DATA INFILE '/tmp/a' INTO TABLE t", false),
            ("SELECT 'LOAD DATA LOCAL INFILE'", false),
            ("SELECT 1", false),
        ] {
            assert_eq!(asked(sql.as_bytes(), true).sends_file, expected, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), escapes: bool) {
            let _ = asked(&bytes, escapes);
        }
    }
}
