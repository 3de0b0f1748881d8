//! A file of settings in TOML, read key by key, so that each wrong setting is one line that names file, line and key;
//! and flags that are read in the same way.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::escape::escape;
use crate::failure::{CliResult, Failure, usage};
use crate::input::{self, SecretSource};

/// A table of the file, or the flags, from which the keys that are read are taken.
pub(super) struct Table<'a> {
    source: Rc<Source>,
    /// Prefix of its keys in errors: `route.` within `[[route]]`, else empty.
    prefix: String,
    line: usize,
    entries: DeTable<'a>,
}

/// A value, and where it is.
pub(super) struct Value<'a> {
    location: Location,
    value: DeValue<'a>,
}

/// File, line and key of a value, or of where one is missing.
#[derive(Clone)]
pub(super) struct Location {
    source: Rc<Source>,
    key: String,
    line: usize,
}

enum Source {
    Flags,
    File { path: PathBuf, text: String },
}

impl Source {
    fn line(&self, offset: usize) -> usize {
        let Self::File { text, .. } = self else { return 0 };
        let before = text.as_bytes().get(..offset).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

/// Reads the file at `path`, and its settings by `read`.
pub(super) fn read<T>(path: &Path, read: impl FnOnce(Table<'_>) -> CliResult<T>) -> CliResult<T> {
    let bytes = input::file(&path.to_string_lossy(), "the settings")?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count();
        usage!("{}, line {line}: this is not UTF-8", path.display())
    })?;
    let source = Rc::new(Source::File { path: path.to_owned(), text: text.clone() });
    let table = DeTable::parse(&text).map_err(|error| {
        let line = source.line(error.span().map_or(0, |span| span.start));
        let what = error.message().lines().next().unwrap_or_default();
        // A second `[route]`, where `[[route]]` was meant, is an error of TOML.
        let hint = header_in(&text, line)
            .filter(|name| ["route", "secret"].contains(name))
            .map_or_else(String::new, |name| format!("; write [[{name}]] above the keys of each"));
        let location = Location { source: Rc::clone(&source), key: key_in(&text, line).to_owned(), line };
        location.error(&format!("this is not TOML: {what}{hint}"))
    })?;
    read(Table { source: Rc::clone(&source), prefix: String::new(), line: 1, entries: table.into_inner() })
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
    /// A switch that was set by a flag, or an empty table.
    pub(super) fn from_flags(switch: Option<&'a str>) -> Self {
        let entries = switch
            .map(|name| (Spanned::new(0..0, name.into()), Spanned::new(0..0, DeValue::Boolean(true))))
            .into_iter()
            .collect();
        Self { source: Rc::new(Source::Flags), prefix: String::new(), line: 0, entries }
    }

    /// Fails if there are other keys than these. To be called before values are read: a misspelt key is often why
    /// another one is missing.
    pub(super) fn reject_unknown_keys(&self, known: &[&str]) -> CliResult {
        let unknown = self.entries.keys().filter(|key| !known.contains(&&**key.get_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
        let what = format!("there is no such key; here are: {}", known.join(", "));
        Err(self.location(key.get_ref(), self.source.line(key.span().start)).error(&what))
    }

    pub(super) fn peek_text(&self, key: &str) -> Option<&str> {
        self.entries.get(key)?.get_ref().as_str()
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        let value = self.entries.remove(key)?;
        let location = self.location(key, self.source.line(value.span().start));
        Some(Value { location, value: value.into_inner() })
    }

    pub(super) fn required(&mut self, key: &'static str) -> CliResult<Value<'a>> {
        self.take(key).ok_or_else(|| self.error_at(key, "this key is missing"))
    }

    fn location(&self, key: &str, line: usize) -> Location {
        Location { source: Rc::clone(&self.source), key: format!("{}{key}", self.prefix), line }
    }

    /// The location of a key that is missing: that of the table. A flag that is missing has none.
    pub(super) fn location_of_missing(&self, key: &str) -> Location {
        match *self.source {
            Source::Flags => self.location("", 0),
            Source::File { .. } => self.location(key, self.line),
        }
    }

    pub(super) fn error_at(&self, key: &str, what: &str) -> Failure {
        self.location_of_missing(key).error(what)
    }

    /// How a user sets this switch: by a flag, or by a key of the file.
    pub(super) fn how_to_set(&self, switch: &str) -> String {
        match *self.source {
            Source::Flags => format!("--{}", switch.replace('_', "-")),
            Source::File { .. } => format!("{switch} = true"),
        }
    }

    /// Where a secret is: `{ env = "NAME" }` or `{ file = "PATH" }`, or these keys in the table itself.
    pub(super) fn secret_source(&mut self) -> CliResult<Option<SecretSource>> {
        match (self.take("env"), self.take("file")) {
            (Some(_), Some(file)) => Err(file.location.error("env is set too: leave one of them out")),
            (Some(name), None) => Ok(Some(SecretSource::Env(name.text()?.0))),
            (None, Some(path)) => Ok(Some(SecretSource::File(path.text()?.0.into()))),
            (None, None) => Ok(None),
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn text(self) -> CliResult<(String, Location)> {
        let Self { location, value } = self;
        match value {
            DeValue::String(text) if !text.is_empty() => Ok((text.into_owned(), location)),
            DeValue::String(_) => Err(location.error("this is empty")),
            _ => Err(location.error("this must be a string, in quotation marks")),
        }
    }

    pub(super) fn boolean(self) -> CliResult<bool> {
        match self.value {
            DeValue::Boolean(value) => Ok(value),
            _ => Err(self.location.error("this must be true or false, without quotation marks")),
        }
    }

    pub(super) fn number(self, range: RangeInclusive<u32>) -> CliResult<u32> {
        let number = match &self.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let what = format!("this must be a whole number from {} to {}", range.start(), range.end());
            self.location.error(&what)
        })
    }

    /// The strings of an array, of which there must be one.
    pub(super) fn texts(self) -> CliResult<Vec<(String, Location)>> {
        let Self { location, value } = self;
        let DeValue::Array(values) = value else {
            return Err(location.error("this must be an array of strings, such as [\"a\", \"b\"]"));
        };
        let texts = values.into_iter().map(|value| {
            let line = location.source.line(value.span().start);
            Value { location: Location { line, ..location.clone() }, value: value.into_inner() }.text()
        });
        let texts: Vec<_> = texts.collect::<CliResult<_>>()?;
        if texts.is_empty() {
            Err(location.error("this array is empty: leave the key out"))
        } else {
            Ok(texts)
        }
    }

    /// The tables of `[[name]]`.
    pub(super) fn tables(self) -> CliResult<Vec<Table<'a>>> {
        let Self { location, value } = self;
        let error = || location.error(&format!("write [[{}]] above the keys of each", location.key));
        let DeValue::Array(values) = value else { return Err(error()) };
        let table = |value: Spanned<DeValue<'a>>| {
            let line = location.source.line(value.span().start);
            let DeValue::Table(table) = value.into_inner() else { return Err(error()) };
            Ok(location.table(line, table))
        };
        values.into_iter().map(table).collect()
    }

    /// A text, or where it is, since it may hold a password.
    pub(super) fn text_or_secret(self) -> CliResult<(String, Location)> {
        if matches!(self.value, DeValue::Table(_)) { self.secret_text() } else { self.text() }
    }

    /// The text that `{ env = "NAME" }` or `{ file = "PATH" }` names.
    pub(super) fn secret_text(self) -> CliResult<(String, Location)> {
        let Self { location, value } = self;
        let how = "this must say where the value is: { env = \"NAME\" } or { file = \"PATH\" }";
        let DeValue::Table(table) = value else { return Err(location.error(how)) };
        let mut table = location.table(location.line, table);
        table.reject_unknown_keys(&["env", "file"])?;
        let source = table.secret_source()?.ok_or_else(|| location.error(how))?;
        let text = source.text().map_err(|what| location.error(&what))?;
        Ok((text, location))
    }
}

impl Location {
    pub(super) fn flag(name: &str) -> Self {
        Self { source: Rc::new(Source::Flags), key: format!("--{name}"), line: 0 }
    }

    /// The table that is the value there.
    fn table<'a>(&self, line: usize, entries: DeTable<'a>) -> Table<'a> {
        Table { source: Rc::clone(&self.source), prefix: format!("{}.", self.key), line, entries }
    }

    /// A failure at this location. It never quotes a value, which may be a secret in the wrong place.
    pub(super) fn error(&self, what: &str) -> Failure {
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", escape(&self.key)) };
        Failure::usage(match &*self.source {
            Source::Flags => format!("{key}{what}"),
            Source::File { path, .. } => format!("{}, line {}: {key}{what}", path.display(), self.line),
        })
    }
}
