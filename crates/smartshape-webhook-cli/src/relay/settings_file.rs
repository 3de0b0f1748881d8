//! A file of settings in TOML, read key by key, so that each wrong setting is one line that names file, line and key.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use toml::de::{DeTable, DeValue};

use crate::escape::escape;
use crate::failure::{CliResult, Failure};
use crate::input::{self, SecretSource};

/// A table of the file, from which the keys that are read are taken.
pub(super) struct Table<'a> {
    file: Rc<File>,
    /// Of an array of tables: its name and a dot.
    prefix: String,
    line: usize,
    entries: Vec<(String, usize, DeValue<'a>, usize)>,
}

/// A value, and where it is.
pub(super) struct Value<'a> {
    file: Rc<File>,
    key: String,
    line: usize,
    value: DeValue<'a>,
}

/// Where a value is, when it has been read.
#[derive(Clone)]
pub(super) struct Place {
    file: Rc<File>,
    key: String,
    line: usize,
}

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Never quotes a value, which may be a secret in the wrong place.
    fn wrong(&self, line: usize, key: &str, what: &str) -> Failure {
        let key = if key.is_empty() { String::new() } else { format!("{}: ", escape(key)) };
        Failure::usage(format!("{}, line {line}: {key}{what}", self.path.display()))
    }
}

pub(super) fn read<T>(path: &Path, read: impl FnOnce(Table<'_>) -> CliResult<T>) -> CliResult<T> {
    let bytes = input::file(&path.to_string_lossy(), "the settings")?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count();
        Failure::usage(format!("{}, line {line}: this is not UTF-8", path.display()))
    })?;
    let file = Rc::new(File { path: path.to_owned(), text });
    let table = DeTable::parse(&file.text).map_err(|error| {
        let line = file.line(error.span().map_or(0, |span| span.start));
        let what = error.message().lines().next().unwrap_or_default();
        // The second [route] of a file looks so.
        let hint = header_in(&file.text, line)
            .filter(|name| ["route", "secret"].contains(name))
            .map_or_else(String::new, |name| format!("; write [[{name}]] above the keys of each"));
        file.wrong(line, key_in(&file.text, line), &format!("this is not TOML: {what}{hint}"))
    })?;
    read(Table::new(Rc::clone(&file), String::new(), 1, table.into_inner()))
}

/// What stands before the equals sign in a line.
fn key_in(text: &str, line: usize) -> &str {
    let line = text.lines().nth(line - 1).unwrap_or_default();
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    if is_key(key) { key } else { "" }
}

/// The name in a line that is a table's header.
fn header_in(text: &str, line: usize) -> Option<&str> {
    let line = text.lines().nth(line - 1).unwrap_or_default();
    let name = line.split('#').next()?.trim().strip_prefix('[')?.strip_suffix(']')?;
    Some(name).filter(|name| !name.is_empty() && is_key(name))
}

fn is_key(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_alphanumeric() || "_-.".contains(character))
}

impl<'a> Table<'a> {
    fn new(file: Rc<File>, prefix: String, line: usize, table: DeTable<'a>) -> Self {
        let entries = table.into_iter().map(|(key, value)| {
            let (key_line, line) = (file.line(key.span().start), file.line(value.span().start));
            (key.into_inner().into_owned(), key_line, value.into_inner(), line)
        });
        let entries = entries.collect();
        Self { file, prefix, line, entries }
    }

    /// Fails if there are other keys than these. To be called before values are read: a misspelt key is often why another one
    /// is missing.
    pub(super) fn only(&self, known: &[&str]) -> CliResult {
        let unknown = self.entries.iter().filter(|(name, ..)| !known.contains(&name.as_str()));
        let Some((name, line, ..)) = unknown.min_by_key(|(_, line, ..)| line) else { return Ok(()) };
        let what = format!("there is no such key; here are: {}", known.join(", "));
        Err(self.file.wrong(*line, &format!("{}{name}", self.prefix), &what))
    }

    pub(super) fn peek_text(&self, key: &str) -> Option<&str> {
        self.entries.iter().find_map(|(name, _, value, _)| value.as_str().filter(|_| name == key))
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        let at = self.entries.iter().position(|(name, ..)| name == key)?;
        let (name, _, value, line) = self.entries.swap_remove(at);
        Some(Value { file: Rc::clone(&self.file), key: format!("{}{name}", self.prefix), line, value })
    }

    pub(super) fn required(&mut self, key: &'static str) -> CliResult<Value<'a>> {
        self.take(key).ok_or_else(|| self.wrong(key, "this key is missing"))
    }

    /// The place of a key that is missing: that of the table.
    pub(super) fn place(&self, key: &str) -> Place {
        Place { file: Rc::clone(&self.file), key: format!("{}{key}", self.prefix), line: self.line }
    }

    pub(super) fn wrong(&self, key: &str, what: &str) -> Failure {
        self.place(key).wrong(what)
    }

    /// Where a secret is: `{ env = "NAME" }` or `{ file = "PATH" }`, or these keys in the table itself.
    pub(super) fn secret_source(&mut self) -> CliResult<Option<SecretSource>> {
        match (self.take("env"), self.take("file")) {
            (Some(_), Some(file)) => Err(file.wrong("env is set too: leave one of them out")),
            (Some(name), None) => Ok(Some(SecretSource::Env(name.text()?.0))),
            (None, Some(path)) => Ok(Some(SecretSource::File(path.text()?.0.into()))),
            (None, None) => Ok(None),
        }
    }
}

impl<'a> Value<'a> {
    fn wrong(&self, what: &str) -> Failure {
        self.file.wrong(self.line, &self.key, what)
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    fn place(&self) -> Place {
        Place { file: Rc::clone(&self.file), key: self.key.clone(), line: self.line }
    }

    pub(super) fn text(self) -> CliResult<(String, Place)> {
        let place = self.place();
        match self.value {
            DeValue::String(text) if !text.is_empty() => Ok((text.into_owned(), place)),
            DeValue::String(_) => Err(place.wrong("this is empty")),
            _ => Err(place.wrong("this must be a string, in quotation marks")),
        }
    }

    pub(super) fn boolean(self) -> CliResult<bool> {
        match self.value {
            DeValue::Boolean(value) => Ok(value),
            _ => Err(self.wrong("this must be true or false, without quotation marks")),
        }
    }

    pub(super) fn number(self, range: RangeInclusive<u32>) -> CliResult<u32> {
        let number = match &self.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            self.wrong(&format!("this must be a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// The strings of an array, of which there must be one.
    pub(super) fn texts(self) -> CliResult<Vec<(String, Place)>> {
        let place = self.place();
        let DeValue::Array(values) = self.value else {
            return Err(place.wrong("this must be an array of strings, such as [\"a\", \"b\"]"));
        };
        let texts = values.into_iter().map(|value| {
            let (file, line) = (Rc::clone(&place.file), place.file.line(value.span().start));
            Value { file, key: place.key.clone(), line, value: value.into_inner() }.text()
        });
        let texts: Vec<_> = texts.collect::<CliResult<_>>()?;
        if texts.is_empty() { Err(place.wrong("this array is empty: leave the key out")) } else { Ok(texts) }
    }

    /// The tables of `[[name]]`.
    pub(super) fn tables(self) -> CliResult<Vec<Table<'a>>> {
        let place = self.place();
        let wrong = || place.wrong(&format!("write [[{}]] above the keys of each", place.key));
        let DeValue::Array(values) = self.value else { return Err(wrong()) };
        let table = |value: toml::Spanned<DeValue<'a>>| {
            let line = place.file.line(value.span().start);
            let DeValue::Table(table) = value.into_inner() else { return Err(wrong()) };
            Ok(Table::new(Rc::clone(&place.file), format!("{}.", place.key), line, table))
        };
        values.into_iter().map(table).collect()
    }

    /// `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub(super) fn secret_source(self) -> CliResult<(SecretSource, Place)> {
        let place = self.place();
        let how = "this must say where the value is: { env = \"NAME\" } or { file = \"PATH\" }";
        let DeValue::Table(table) = self.value else { return Err(place.wrong(how)) };
        let mut table = Table::new(Rc::clone(&place.file), format!("{}.", place.key), place.line, table);
        table.only(&["env", "file"])?;
        let source = table.secret_source()?;
        Ok((source.ok_or_else(|| place.wrong(how))?, place))
    }
}

impl Place {
    pub(super) fn wrong(&self, what: &str) -> Failure {
        self.file.wrong(self.line, &self.key, what)
    }
}
