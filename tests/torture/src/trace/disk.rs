//! A disk that lies: what was not synced may be lost, wholly or in part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::strace::Call;
use crate::Error;
use crate::random::Random;

const SECTOR: usize = 512;

/// The files of one folder, with what is on the disk for certain and what is not.
pub(super) struct Disk {
    folder: PathBuf,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    names_synced: BTreeMap<String, usize>,
    /// Names that appeared, or went; a folder keeps their order.
    names_unsynced: Vec<(String, Option<usize>, usize)>,
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

struct Change {
    operation: Operation,
    /// When the call that made it was over.
    ended: usize,
}

enum Operation {
    Write(usize, Vec<u8>),
    SetLength(usize),
}

/// What a loss of power does to what was not synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsynced {
    Lost,
    PartlyLost,
    Kept,
}

impl Disk {
    /// An empty folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            names: BTreeMap::new(),
            names_synced: BTreeMap::new(),
            names_unsynced: Vec::new(),
        }
    }

    /// Applies what the call may have done as soon as it has begun.
    pub(super) fn begin(&mut self, call: &Call) {
        match call.name.as_str() {
            "openat" | "open" | "creat" => self.open(call),
            "pwrite64" => {
                let data = call.data[..usize::try_from(call.result).unwrap_or(0)].to_vec();
                self.change(&call.file, Operation::Write(call.last_number(), data), call.ended);
            }
            "ftruncate" => self.change(&call.file, Operation::SetLength(call.last_number()), call.ended),
            "unlink" | "unlinkat" => {
                if let Some(name) = self.name(&String::from_utf8_lossy(&call.data)) {
                    self.names.remove(&name);
                    self.names_unsynced.push((name, None, call.ended));
                }
            }
            _ => {}
        }
    }

    /// Records what is certainly on disk once the call is over.
    pub(super) fn end(&mut self, call: &Call) {
        if !matches!(call.name.as_str(), "fsync" | "fdatasync") {
            return;
        }
        if Path::new(&call.file) == self.folder {
            let covered =
                self.names_unsynced.iter().take_while(|(_, _, ended)| *ended < call.started).count();
            for (name, file, _) in self.names_unsynced.drain(..covered) {
                rename(&mut self.names_synced, name, file);
            }
        } else if let Some(file) = self.file(&call.file) {
            let file = &mut self.files[file];
            let (covered, rest) = std::mem::take(&mut file.unsynced)
                .into_iter()
                .partition(|change| change.ended < call.started);
            file.unsynced = rest;
            let covered: Vec<Change> = covered;
            for change in &covered {
                change.operation.apply(&mut file.synced, usize::MAX);
            }
        }
    }

    /// Names whose file is there, but would not be found again.
    pub(super) fn unsynced_names(&self) -> Vec<&str> {
        let lost = self.names.iter().filter(|(name, file)| self.names_synced.get(*name) != Some(file));
        lost.map(|(name, _)| name.as_str()).collect()
    }

    /// Writes the files, as a loss of power would leave them, to another folder.
    pub(super) fn rebuild(
        &self,
        folder: &Path,
        unsynced: Unsynced,
        random: &mut Random,
    ) -> Result<(), Error> {
        let mut names = self.names_synced.clone();
        let kept = match unsynced {
            Unsynced::Lost => 0,
            Unsynced::PartlyLost => random.below(self.names_unsynced.len() + 1),
            Unsynced::Kept => self.names_unsynced.len(),
        };
        for (name, file, _) in &self.names_unsynced[..kept] {
            rename(&mut names, name.clone(), *file);
        }
        std::fs::create_dir_all(folder)?;
        for (name, file) in names {
            // SQLite builds this one anew, and the others hold nothing.
            if !name.ends_with("-shm") && !name.contains("-ballast") && !name.ends_with("-worker") {
                std::fs::write(folder.join(name), self.files[file].after_loss(unsynced, random))?;
            }
        }
        Ok(())
    }

    fn open(&mut self, call: &Call) {
        let Some(name) = self.name(&String::from_utf8_lossy(&call.data)) else { return };
        if let Some(file) = self.names.get(&name) {
            if call.arguments.contains("O_TRUNC") || call.name == "creat" {
                let change = Change { operation: Operation::SetLength(0), ended: call.ended };
                self.files[*file].unsynced.push(change);
            }
            return;
        }
        if call.arguments.contains("O_CREAT") || call.name == "creat" {
            self.names.insert(name.clone(), self.files.len());
            self.names_unsynced.push((name, Some(self.files.len()), call.ended));
            self.files.push(File::default());
        }
    }

    fn change(&mut self, path: &str, operation: Operation, ended: usize) {
        if let Some(file) = self.file(path) {
            self.files[file].unsynced.push(Change { operation, ended });
        }
    }

    fn file(&self, path: &str) -> Option<usize> {
        self.names.get(&self.name(path)?).copied()
    }

    fn name(&self, path: &str) -> Option<String> {
        let name = Path::new(path).strip_prefix(&self.folder).ok()?.to_str()?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}

fn rename(names: &mut BTreeMap<String, usize>, name: String, file: Option<usize>) {
    match file {
        Some(file) => names.insert(name, file),
        None => names.remove(&name),
    };
}

impl File {
    fn after_loss(&self, unsynced: Unsynced, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        // Mostly lost, or mostly kept, or half of it.
        let share = 1 + random.below(9);
        for change in &self.unsynced {
            match unsynced {
                Unsynced::Lost => {}
                Unsynced::Kept => change.operation.apply(&mut bytes, usize::MAX),
                Unsynced::PartlyLost if random.below(10) >= share => {}
                Unsynced::PartlyLost => {
                    let torn = random.one_in(4);
                    let sectors = if torn { random.below(8) } else { usize::MAX / SECTOR };
                    change.operation.apply(&mut bytes, sectors * SECTOR);
                }
            }
        }
        bytes
    }
}

impl Operation {
    /// A write's first `limit` bytes.
    fn apply(&self, bytes: &mut Vec<u8>, limit: usize) {
        match self {
            Self::Write(offset, data) => {
                let data = &data[..data.len().min(limit)];
                if data.is_empty() {
                    return;
                }
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::SetLength(length) => bytes.resize(*length, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, file: &str, data: &[u8], arguments: &str, time: usize) -> Call {
        Call {
            name: name.into(),
            file: file.into(),
            data: data.to_vec(),
            arguments: arguments.into(),
            result: data.len() as i64,
            started: time,
            ended: time,
            ..Call::default()
        }
    }

    fn left(calls: &[Call], unsynced: Unsynced) -> BTreeMap<String, Vec<u8>> {
        let mut disk = Disk::new(Path::new("/inbox"));
        for call in calls {
            disk.begin(call);
            disk.end(call);
        }
        let folder = tempfile::tempdir().unwrap();
        disk.rebuild(folder.path(), unsynced, &mut Random::new(1)).unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        files
            .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
            .collect()
    }

    #[test]
    fn only_synced_writes_are_left() {
        let mut calls = vec![
            call("openat", "", b"/inbox/a", "O_RDWR|O_CREAT", 1),
            call("pwrite64", "/inbox/a", b"one", ", 3, 0", 2),
            call("fdatasync", "/inbox/a", b"", "", 3),
            call("pwrite64", "/inbox/a", b"two", ", 3, 3", 4),
        ];
        // The file, but not its name.
        assert!(left(&calls, Unsynced::Lost).is_empty());
        assert_eq!(left(&calls, Unsynced::Kept)["a"], b"onetwo");
        calls.push(call("fsync", "/inbox", b"", "", 5));
        assert_eq!(left(&calls, Unsynced::Lost)["a"], b"one");
        // A sync that began before the write was over does not cover it.
        calls.push(Call { started: 4, ..call("fsync", "/inbox/a", b"", "", 6) });
        assert_eq!(left(&calls, Unsynced::Lost)["a"], b"one");
        calls.push(call("fsync", "/inbox/a", b"", "", 7));
        calls.push(call("unlink", "", b"/inbox/a", "", 8));
        assert_eq!(left(&calls, Unsynced::Lost)["a"], b"onetwo");
        assert!(left(&calls, Unsynced::Kept).is_empty());
    }
}
