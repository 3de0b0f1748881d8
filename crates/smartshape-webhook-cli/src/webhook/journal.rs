//! Write-ahead journal of a listener: its webhooks are recorded on disk before they are registered, so that
//! `webhook prune` finds them after a crash.
//!
//! One file per listener, locked while the listener runs. The first line is the intent; each further line is a webhook
//! that was created. Contains no secret.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smartshape_webhook::EventKind;

use crate::failure::{CliResult, failed};
use crate::files::{check_ours, make_folder, private_file};
use crate::settings::folder;

/// Version of a journal's form. Journals of other versions are left alone.
pub(super) const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(super) version: u32,
    /// Random last segment of the URL, so that every webhook with this URL belongs to this listener.
    pub(crate) id: String,
    pub(crate) api_url: String,
    pub(crate) account: Option<String>,
    pub(crate) url: String,
    pub(crate) events: Vec<EventKind>,
    /// What was registered before: none of it is this listener's.
    pub(crate) listed_before: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Created {
    #[serde(rename = "created")]
    pub(crate) id: String,
    pub(crate) event: EventKind,
}

pub(crate) struct Journal {
    pub(crate) path: PathBuf,
    file: File,
    pub(crate) intent: Intent,
    pub(crate) created: Vec<Created>,
    /// The response to a creation was lost: an unrecorded webhook may exist, or may still appear.
    pub(crate) ambiguous: bool,
}

impl Journal {
    /// Writes the intent, synced and locked, before anything is registered.
    pub(crate) fn begin(intent: Intent) -> CliResult<Self> {
        let folder = state_folder()?;
        let failed = |error: io::Error| {
            failed!(
                "cannot keep what is registered in {}: {error}: make it writable, or set XDG_STATE_HOME",
                folder.display()
            )
        };
        make_folder(&folder).map_err(failed)?;
        let path = folder.join(format!("{}.jsonl", intent.id));
        let new = folder.join(format!("{}.new", intent.id));
        let create = || {
            let file = private_file(&new)?;
            // The lock stays with the file when it gets its name: nobody sees it unlocked.
            file.try_lock().map_err(io::Error::from)?;
            append(&file, &intent)?;
            fs::rename(&new, &path)?;
            sync_folder(&folder)?;
            Ok(file)
        };
        let created = create();
        if created.is_err() {
            let _ = fs::remove_file(&new);
            let _ = fs::remove_file(&path);
        }
        Ok(Self { file: created.map_err(failed)?, path, intent, created: Vec::new(), ambiguous: false })
    }

    pub(crate) fn record(&mut self, created: Created) -> io::Result<()> {
        let written = append(&self.file, &created);
        // A webhook whose record is not on disk has to be removed too.
        self.created.push(created);
        written
    }

    /// Deletes the journal, once nothing of its listener is left at SmartShape.
    pub(crate) fn end(self) {
        // A journal that stays costs the next prune a look, and does no harm.
        let _ = fs::remove_file(&self.path);
    }

    /// Journals of listeners that have ended, each locked, and what is wrong with those that cannot be read.
    pub(crate) fn abandoned() -> CliResult<(Vec<Self>, Vec<String>)> {
        let folder = state_folder()?;
        let (mut journals, mut problems) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((journals, problems)),
            Err(error) => {
                return Err(failed!("cannot look into {}: {error}", folder.display()));
            }
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let is_new = path.extension().is_some_and(|extension| extension == "new");
            if !is_new && path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let file = OpenOptions::new().read(true).append(true).open(&path);
            // Another user could otherwise have webhooks deleted.
            let file = file.and_then(|file| check_ours(&path, &file).map(|()| file));
            let file = match file.map(|file| (file.try_lock(), file)) {
                Ok((Ok(()), file)) => file,
                // The journal's listener is running.
                Ok((Err(TryLockError::WouldBlock), _)) => continue,
                Ok((Err(TryLockError::Error(error)), _)) | Err(error) => {
                    problems.push(format!("{}: {error}", path.display()));
                    continue;
                }
            };
            // The journal's listener ended before it registered anything.
            if is_new {
                let _ = fs::remove_file(&path);
                continue;
            }
            match read(&file) {
                Ok((intent, created)) => {
                    journals.push(Self { path, file, intent, created, ambiguous: false });
                }
                Err(why) => problems.push(format!("{}: {why}", path.display())),
            }
        }
        Ok((journals, problems))
    }
}

/// A last line that was cut off by a crash counts as not there: its webhook is known by its URL.
fn read(mut file: &File) -> Result<(Intent, Vec<Created>), String> {
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let intent: Intent = serde_json::from_str(first)
        .map_err(|error| format!("not of this program ({error}): look at it, then delete it"))?;
    if intent.version != VERSION {
        return Err("written by another version of this program: prune with that one".to_owned());
    }
    Ok((intent, lines.filter_map(|line| serde_json::from_str(line).ok()).collect()))
}

fn append(mut file: &File, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows cannot sync a folder.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn state_folder() -> CliResult<PathBuf> {
    Ok(folder("XDG_STATE_HOME", ".local/state")?.join("listeners"))
}
