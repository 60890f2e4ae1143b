//! The lines of `.env` and `.env.local`.
//!
//! dotenvy reads more than the scripts and the Vagrantfile can: it fills in variables, takes values of several lines
//! and lets spaces stand around the `=`. So every line is first checked against the grammar that all three share;
//! dotenvy then reads the lines that pass. The top of `.env` states that grammar, and `tests/cases/settings.tsv` tests
//! it with each reader.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;

const BLANK: [char; 2] = [' ', '\t'];
const HOW_TO_WRITE: &str = r"write NAME=value, or NAME='value' with '\'' for each ' in it";

/// Finds `.env` in the working directory or the nearest parent that has one.
pub(crate) fn find() -> Result<Option<PathBuf>, Error> {
    let start = std::env::current_dir()
        .map_err(|source| Error::Io { action: "find the working directory".to_owned(), source })?;
    for folder in start.ancestors() {
        let path = folder.join(".env");
        match path.metadata() {
            Ok(found) if found.is_file() => return Ok(Some(path)),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { action: format!("read {}", path.display()), source }),
        }
    }
    Ok(None)
}

/// Reads all settings of one file. The error has the number of the line and the name of its variable, never its value.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let content = std::fs::read(path)
        .map_err(|source| Error::Io { action: format!("read {}", path.display()), source })?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    parse(&content, &file)
}

fn parse(content: &[u8], file: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut settings = BTreeMap::new();
    let mut lines = BTreeMap::new();
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    for (line, number) in content.split(|byte| *byte == b'\n').zip(1_usize..) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let refused = |name: &str, problem: &str| Error::SettingsLine {
            place: format!("{file}, line {number}"),
            problem: format!("{name} {problem}"),
        };
        let cannot_be_read =
            || refused(&name_in(line).unwrap_or("it".into()), &format!("cannot be read; {HOW_TO_WRITE}"));
        let text =
            str::from_utf8(line).ok().filter(|text| !text.contains('\0')).ok_or_else(cannot_be_read)?;
        let text = text.trim_matches(BLANK);
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = assignment(text).ok_or_else(cannot_be_read)?;
        if let Some(first) = lines.insert(name.clone(), number) {
            return Err(refused(&name, &format!("is set already, on line {first}")));
        }
        settings.insert(name, value);
    }
    Ok(settings)
}

/// The name and the value that a line sets; `None` if it breaks the grammar.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, rest) = without_export(line).split_once('=')?;
    let capital = |c: char| c.is_ascii_uppercase();
    if !name.starts_with(capital) || !name.chars().all(|c| capital(c) || c.is_ascii_digit() || c == '_') {
        return None;
    }
    let value = written_value(rest)?;
    let behind = rest.strip_prefix(value)?;
    let comment = behind.trim_start_matches(BLANK);
    let is_complete = behind.is_empty() || (comment.starts_with('#') && comment.len() < behind.len());
    if !is_complete {
        return None;
    }
    let line = format!("{name}={}", without_quoted_backslashes(value));
    dotenv::from_read_iter(line.as_bytes()).next()?.ok()
}

/// The value as it is written at the start of `text`, with its quotes.
fn written_value(text: &str) -> Option<&str> {
    if text.starts_with('\'') {
        let mut end = 1;
        loop {
            end += text.get(end..)?.find('\'')?;
            if !text.get(end..)?.starts_with(r"'\''") {
                return text.get(..=end);
            }
            end += r"'\''".len();
        }
    }
    if let Some(inner) = text.strip_prefix('"') {
        let end = inner.find(['"', '$', '`', '\\'])?;
        return inner.get(end..)?.starts_with('"').then(|| text.get(..end + 2))?;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:,@%+=-".contains(c);
    text.get(..text.find(|c| !plain(c)).unwrap_or(text.len()))
}

/// Within single quotes a backslash stands for itself, but dotenvy takes a backslash before the closing quote for an
/// escape. So each backslash is moved out of the quotes and escaped there.
fn without_quoted_backslashes(value: &str) -> String {
    if !value.starts_with('\'') {
        return value.to_owned();
    }
    let parts: Vec<String> = value.split(r"'\''").map(|part| part.replace('\\', r"'\\'")).collect();
    parts.join(r"'\''")
}

fn without_export(line: &str) -> &str {
    match line.strip_prefix("export") {
        Some(rest) if rest.starts_with(BLANK) => rest.trim_start_matches(BLANK),
        _ => line,
    }
}

/// The name to show in an error about a line. Everything after the first `=` may be a password, and so may a line
/// without `=`.
fn name_in(line: &[u8]) -> Option<String> {
    let end = line.iter().position(|byte| *byte == b'=')?;
    let name = without_export(str::from_utf8(line.get(..end)?).ok()?.trim_matches(BLANK));
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    (name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit()))
        .then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &str = include_str!("../../../tests/cases/settings.tsv");

    /// The signs that stand for what cannot be seen, and what they stand for.
    fn real(text: &str) -> Vec<u8> {
        let text = text.replace('␊', "\n").replace('␍', "\r").replace('␉', "\t").replace('␀', "\0");
        let text = text.replace('␛', "\u{1b}").replace('␜', "\u{feff}");
        text.split('␦').map(str::as_bytes).collect::<Vec<_>>().join(&0xff)
    }

    #[test]
    fn every_case_of_the_table_is_read_as_it_says() {
        let mut count = 0;
        for case in CASES.lines() {
            let [what, content, expected] = case.split('\t').collect::<Vec<_>>()[..] else { continue };
            count += 1;
            let found = parse(&real(content), ".env");
            if let Some(place) = expected.strip_prefix("refused ") {
                let (number, name) = place.split_once(' ').unwrap_or((place, "it"));
                let message = found.expect_err(what).to_string();
                assert!(message.starts_with(&format!(".env, line {number}: {name} ")), "{what}: {message}");
                assert!(!message.contains("s3cr"), "{what}: {message}");
            } else {
                let found = found.unwrap_or_else(|e| panic!("{what}: {e}"));
                let lines: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let expected = if expected == "nothing" { Vec::new() } else { real(expected) };
                assert_eq!(lines.join("\n"), String::from_utf8(expected).unwrap(), "{what}");
            }
        }
        assert!(count > 100, "{count}");
    }

    #[test]
    fn any_character_can_stand_anywhere_in_single_quotes() {
        let characters = (1..=0x2ff).filter_map(char::from_u32).chain("€🎬\u{feff}\u{2028}".chars());
        for c in characters.filter(|c| *c != '\n') {
            for value in
                [format!("{c}"), format!("{c}{c}"), format!("{c}a"), format!("a{c}"), format!(r"\{c}'{c}\")]
            {
                let line = format!("A='{}'", value.replace('\'', r"'\''"));
                let found = parse(line.as_bytes(), ".env").unwrap();
                assert_eq!(found["A"], value, "{line}");
            }
        }
    }
}
