//! Just enough of Rust's grammar to tell code from comments and literals.
//!
//! The checks look for words; a word in a comment or a string is not a use of it.

/// `text` with every comment and the content of every literal replaced by spaces. Lines stay where
/// they are, and so do columns of ASCII lines.
pub fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_word = false;
    while let Some(first) = rest.chars().next() {
        let taken = if in_word { None } else { raw_string(rest) };
        let taken = taken.or_else(|| comment(rest)).or_else(|| literal(rest));
        let length = taken.unwrap_or(first.len_utf8());
        let Some((token, after)) = rest.split_at_checked(length) else {
            break;
        };
        if taken.is_some() {
            out.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            out.push(first);
        }
        in_word = taken.is_none() && (first.is_alphanumeric() || first == '_');
        rest = after;
    }
    out
}

/// The length of the comment that `text` starts with. Block comments nest.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut length = 0;
    while let Some(rest) = text.get(length..) {
        if rest.starts_with("/*") {
            depth += 1;
            length += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            length += 2;
            if depth == 0 {
                return Some(length);
            }
        } else if let Some(next) = rest.chars().next() {
            length += next.len_utf8();
        } else {
            break;
        }
    }
    Some(text.len())
}

/// The length of the raw string (`r"…"`, `br#"…"#`, …) that `text` starts with.
fn raw_string(text: &str) -> Option<usize> {
    let start = text
        .strip_prefix(['b', 'c'])
        .unwrap_or(text)
        .strip_prefix('r')?;
    let content = start.trim_start_matches('#');
    let hashes = "#".repeat(start.len() - content.len());
    let content = content.strip_prefix('"')?;
    let end = format!("\"{hashes}");
    let length = content
        .find(&end)
        .map_or(content.len(), |at| at + end.len());
    Some(text.len() - content.len() + length)
}

/// The length of the string or character that `text` starts with; a lifetime is neither.
fn literal(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    if quote == '\'' {
        let mut after = text.chars().skip(1);
        let first = after.next()?;
        if first != '\\' && after.next() != Some('\'') {
            return None;
        }
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
    }
    Some(text.len())
}

/// Whether `word` stands in `code` as a word of its own.
pub fn has_word(code: &str, word: &str) -> bool {
    words(code).any(|found| found == word)
}

/// The identifiers and numbers of `code`, in order.
pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        let cases = [
            ("a // sqlx\nb", "a        \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("sqlx \" x") + 1"#, "f(           ) + 1"),
            (r##"f(r#"a " b"#) + 1"##, "f(          ) + 1"),
            ("br\"x\\\" + 1", "       + 1"),
            (r"f('\'', 'x', '{')", "f(    ,    ,    )"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("let r#type = bar;", "let r#type = bar;"),
        ];
        for (text, expected) in cases {
            assert_eq!(blank(text), expected, "{text}");
        }
    }

    #[test]
    fn what_never_ends_is_blanked_to_the_end() {
        assert_eq!(blank("a \"b\nc"), "a   \n ");
        assert_eq!(blank("a /* b\nc"), "a     \n ");
    }

    #[test]
    fn a_word_is_whole() {
        assert!(has_word("use sqlx::Pool;", "sqlx"));
        assert!(!has_word("use my_sqlx::Pool;", "sqlx"));
    }
}
