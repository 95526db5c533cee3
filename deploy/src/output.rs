//! Everything that the command says: results on standard output, complaints on standard error,
//! or one JSON value on standard output and nothing else.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::error::CommandError;

/// How to speak.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Speaks JSON to machines, or text to people.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Gives a command's result: the value to a machine, the text to a person.
    ///
    /// # Errors
    /// When standard output cannot be written. A reader that has left (`meridian … | head`) is
    /// no error: it has what it wanted.
    pub fn result(self, value: &Value, text: &str) -> Result<(), CommandError> {
        let mut line = if self.json {
            value.to_string()
        } else {
            text.to_owned()
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(line.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
                Err(CommandError::Output(failure))
            }
            _ => Ok(()),
        }
    }

    /// Says why a command failed.
    pub fn error(self, error: &CommandError) {
        if !matches!(error, CommandError::AlreadyTold) {
            self.complaint(&chain(error));
        }
    }

    /// Says what is wrong. There is nobody left to tell if this cannot be written.
    pub fn complaint(self, text: &str) {
        let _ = if self.json {
            writeln!(
                io::stdout().lock(),
                "{}",
                json!({ "error": text.trim_end() })
            )
        } else {
            writeln!(io::stderr().lock(), "meridian: {}", text.trim_end())
        };
    }
}

/// An error and its causes in one line. Errors of the HTTP client lose their URL on the way in
/// (`operator_api`), so no address of a person's data can appear here.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.contains(&reason) {
            let _ = write!(text, ": {reason}");
        }
        cause = error.source();
    }
    text
}

/// Rows as columns that stand under each other, headings first.
#[must_use]
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let all: Vec<Vec<&str>> = std::iter::once(headings.to_vec())
        .chain(
            rows.iter()
                .map(|row| row.iter().map(String::as_str).collect()),
        )
        .collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            let cells = all.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in all {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A member of a JSON object as text for a table: `-` when it is absent or null.
#[must_use]
pub fn cell(object: &Value, member: &str) -> String {
    match object.get(member) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = vec![
            vec!["us".to_owned(), "Acme".to_owned()],
            vec!["de".to_owned(), "Größe".to_owned()],
        ];
        assert_eq!(
            table(&["REGION", "NAME"], &rows),
            "REGION  NAME\nus      Acme\nde      Größe\n"
        );
    }

    #[test]
    fn absent_and_null_members_are_dashes() {
        let object = json!({ "a": null, "b": "x", "c": 3 });
        let shown: Vec<String> = ["a", "b", "c", "d"]
            .iter()
            .map(|m| cell(&object, m))
            .collect();
        assert_eq!(shown, ["-", "x", "3", "-"]);
    }
}
