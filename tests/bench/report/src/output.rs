//! The page for people and the file for programs. Each part is replaced by itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::chart::Chart;
use crate::table::{Table, wrapped};

const INTRODUCTION: &str = include_str!("introduction.md");
/// The parts in the order of the page.
const ORDER: [&str; 10] =
    ["known", "sizes", "fresh", "peers", "flood", "busy", "memory", "growth", "adopt", "inbox"];
const BEGIN: &str = "<!-- part ";
const END: &str = " -->";

/// What belongs to one question.
#[derive(Clone, Debug)]
pub struct Part {
    /// The word by which the command knows it.
    pub name: &'static str,
    /// The heading.
    pub title: &'static str,
    /// What is compared, how, and what the aim is.
    pub meaning: String,
    /// Where and with what it was measured.
    pub facts: Vec<(&'static str, String)>,
    /// The figures.
    pub tables: Vec<Table>,
    /// Some of them, drawn.
    pub charts: Vec<Chart>,
}

/// Where the figures go beside the terminal.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// A file of JSON.
    pub json: Option<PathBuf>,
    /// A page of Markdown, with its charts in a folder of the same name beside it.
    pub markdown: Option<PathBuf>,
}

impl Output {
    /// Shows a part, and puts it in its place in the files.
    ///
    /// # Errors
    ///
    /// A file that can be neither read nor written.
    pub fn add(&self, part: &Part) -> Outcome<()> {
        part.show();
        if let Some(path) = &self.json {
            let mut parts: Map<String, Value> = match fs::read(path) {
                Ok(text) => serde_json::from_slice(&text)
                    .map_err(|error| format!("{} is not our file: {error}", path.display()))?,
                Err(_) => Map::new(),
            };
            parts.insert(part.name.to_owned(), part.json());
            fs::write(path, serde_json::to_string_pretty(&parts)? + "\n")?;
        }
        if let Some(path) = &self.markdown {
            let folder = path.with_extension("");
            if !part.charts.is_empty() {
                fs::create_dir_all(&folder)?;
            }
            for chart in &part.charts {
                fs::write(folder.join(format!("{}.svg", chart.file)), chart.svg())?;
            }
            let page = fs::read_to_string(path).unwrap_or_default();
            fs::write(path, put(&page, part.name, &part.markdown(&folder)))?;
        }
        Ok(())
    }
}

/// The page with this part in it, or in place of what it said before.
fn put(page: &str, name: &str, text: &str) -> String {
    let mut parts: BTreeMap<&str, &str> = page
        .split(BEGIN)
        .skip(1)
        .filter_map(|part| part.split_once(END))
        .map(|(name, text)| (name, text.trim()))
        .collect();
    parts.insert(name, text.trim());
    let known = ORDER.iter().filter_map(|name| Some((name, parts.get(name)?)));
    known
        .fold(INTRODUCTION.to_owned(), |page, (name, text)| format!("{page}\n{BEGIN}{name}{END}\n\n{text}\n"))
}

impl Part {
    #[allow(clippy::print_stdout, reason = "a command line talks to people")]
    fn show(&self) {
        println!("\n{}", self.title);
        for table in &self.tables {
            if !table.title.is_empty() {
                println!("\n{}", table.title);
            }
            println!("{}", table.aligned());
        }
    }

    fn json(&self) -> Value {
        let facts: Map<String, Value> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let name = |table: &Table| if table.title.is_empty() { self.title } else { table.title }.to_owned();
        let tables: Map<String, Value> =
            self.tables.iter().map(|table| (name(table), table.json())).collect();
        json!({"run": facts, "figures": tables})
    }

    fn markdown(&self, folder: &Path) -> String {
        let mut text = format!("## {}\n\n{}\n", self.title, wrapped(&self.meaning));
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        for chart in &self.charts {
            let _ = write!(text, "\n![{}]({folder}/{}.svg)\n", chart.title, chart.file);
        }
        for table in &self.tables {
            if !table.title.is_empty() {
                let _ = write!(text, "\n### {}\n", table.title);
            }
            if !table.meaning.is_empty() {
                let _ = write!(text, "\n{}\n", wrapped(&table.meaning));
            }
            let _ = write!(text, "\n{}", table.markdown());
        }
        let facts: Vec<_> = self.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let _ = write!(text, "\n{}\n", wrapped(&format!("Measured – {}.", facts.join("; "))));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_put_in_its_place_and_replaced_there() {
        let page = put("", "inbox", "## Inbox\nold");
        let page = put(&page, "known", "## Known");
        let page = put(&page, "inbox", "## Inbox\nnew");
        let (introduction, parts) = page.split_once(BEGIN).unwrap();
        assert_eq!(introduction.trim(), INTRODUCTION.trim());
        assert_eq!(parts, "known -->\n\n## Known\n\n<!-- part inbox -->\n\n## Inbox\nnew\n");
    }
}
