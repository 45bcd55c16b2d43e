//! Reading asciicast version 3, as the server streams it: lines out of pieces, events out of lines.
//!
//! INVARIANT: memory is bounded by one line, whatever the server sends; a line that makes no sense ends
//! the reading.
//!
//! Not here: writing casts (`sallyport-evidence`), showing them (`player`).

use std::time::Duration;

use serde::Deserialize;

use crate::failure::Failure;

/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Lines out of pieces that end anywhere.
#[derive(Debug, Default)]
pub struct LineSplitter {
    rest: Vec<u8>,
}

impl LineSplitter {
    /// Takes a piece; returns the lines that it completes, without their ends.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.rest.len().saturating_add(part.len()) > LINE_BYTES_MAX {
                return Err(no_cast("a line is longer than 8 MiB"));
            }
            self.rest.extend_from_slice(part);
            if self.rest.ends_with(b"\n") {
                self.rest.pop();
                let line = String::from_utf8(std::mem::take(&mut self.rest))
                    .map_err(|_| no_cast("a line is not UTF-8"))?;
                lines.push(line);
            }
        }
        Ok(lines)
    }
}

/// One step of a cast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Time since the step before.
    pub after: Duration,
    /// What happened.
    pub what: What,
}

/// What happened in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A terminal of this size was opened, or became this large.
    Sized {
        /// Columns.
        columns: usize,
        /// Rows.
        rows: usize,
    },
    /// It was sent this.
    Shown(String),
    /// Something that is not shown in the terminal.
    Other,
}

/// Steps out of lines.
#[derive(Debug, Default)]
pub struct CastReader {
    lines: LineSplitter,
    has_header: bool,
}

#[derive(Deserialize)]
struct Header {
    version: u8,
    term: Term,
}

#[derive(Deserialize)]
struct Term {
    cols: usize,
    rows: usize,
}

impl CastReader {
    /// Takes a piece; returns the steps that it completes.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Step>, Failure> {
        let mut steps = Vec::new();
        for line in self.lines.push(piece)? {
            // Version 3 allows comments.
            if !line.is_empty() && !line.starts_with('#') {
                steps.push(self.line(&line)?);
            }
        }
        Ok(steps)
    }

    fn line(&mut self, line: &str) -> Result<Step, Failure> {
        if !self.has_header {
            let header: Header =
                serde_json::from_str(line).map_err(|error| no_cast(&error.to_string()))?;
            if header.version != 3 {
                return Err(no_cast("it is not asciicast version 3"));
            }
            self.has_header = true;
            return Ok(Step {
                after: Duration::ZERO,
                what: What::Sized {
                    columns: header.term.cols,
                    rows: header.term.rows,
                },
            });
        }
        let (after_s, code, text): (f64, String, String) =
            serde_json::from_str(line).map_err(|error| no_cast(&error.to_string()))?;
        let after =
            Duration::try_from_secs_f64(after_s).map_err(|_| no_cast("a time makes no sense"))?;
        let what = match code.as_str() {
            "o" => What::Shown(text),
            "r" => {
                let (columns, rows) = text
                    .split_once('x')
                    .and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)))
                    .ok_or_else(|| no_cast("a size makes no sense"))?;
                What::Sized { columns, rows }
            }
            _ => What::Other,
        };
        Ok(Step { after, what })
    }
}

fn no_cast(why: &str) -> Failure {
    Failure::failed(
        format!("read the recording that the server sent: {why}"),
        "check the recording: `sallyport recording verify`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAST: &str = "{\"version\": 3, \"term\": {\"cols\": 80, \"rows\": 24}, \"title\": \"x\"}\n\
        # a comment\n[0.5, \"o\", \"ä\\r\\n\"]\n[1.25, \"r\", \"100x50\"]\n[0, \"x\", \"0\"]\n";

    /// RE-1
    #[test]
    fn given_pieces_of_any_length_then_the_same_steps_are_read() {
        let whole = CastReader::default().push(CAST.as_bytes()).unwrap();
        assert_eq!(
            whole[0].what,
            What::Sized {
                columns: 80,
                rows: 24
            }
        );
        assert_eq!(
            whole[1],
            Step {
                after: Duration::from_millis(500),
                what: What::Shown("ä\r\n".to_owned())
            }
        );
        assert_eq!(
            whole[2].what,
            What::Sized {
                columns: 100,
                rows: 50
            }
        );
        assert_eq!(whole[3].what, What::Other);
        for length in 1..7 {
            let mut reader = CastReader::default();
            let steps: Vec<Step> = CAST
                .as_bytes()
                .chunks(length)
                .flat_map(|piece| reader.push(piece).unwrap())
                .collect();
            assert_eq!(steps, whole);
        }
    }

    #[test]
    fn given_anything_else_then_reading_ends() {
        for text in [
            "no json\n",
            "{\"version\": 2, \"width\": 80, \"height\": 24}\n",
            "{\"version\": 3, \"term\": {\"cols\": 80, \"rows\": 24}}\n[-1, \"o\", \"x\"]\n",
            "{\"version\": 3, \"term\": {\"cols\": 80, \"rows\": 24}}\n[1, \"r\", \"x\"]\n",
            "\u{0}\n",
        ] {
            assert!(
                CastReader::default().push(text.as_bytes()).is_err(),
                "{text}"
            );
        }
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(CastReader::default().push(&endless).is_err());
    }
}
