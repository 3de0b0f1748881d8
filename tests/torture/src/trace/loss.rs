//! Rebuilds the disk as a loss of power would leave it, at many moments, and opens what is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use smartshape_fake::EventPayload;

use super::disk::{Disk, Unsynced};
use super::is_network;
use super::order::Response;
use super::strace::Call;
use crate::Error;
use crate::ledger::COMPLETED;
use crate::random::Random;
use crate::store::{Event, Store};

/// A trace, to lose power in the middle of.
pub(super) struct Loss<'a> {
    pub(super) calls: &'a [Call],
    pub(super) responses: &'a [Response],
    pub(super) expected: HashMap<&'a str, &'a EventPayload>,
    pub(super) scratch: PathBuf,
}

impl Loss<'_> {
    /// Goes through the trace and loses power just before each response, and at other moments.
    pub(super) async fn check(
        &self,
        inbox: &Path,
        losses: usize,
        random: &mut Random,
        faults: &mut Vec<String>,
    ) -> Result<usize, Error> {
        let mut disk = Disk::new(inbox);
        let (mut steps, mut disks) = (Vec::with_capacity(self.calls.len() * 2), 0);
        for call in self.calls {
            steps.extend([(call.started, false, call), (call.ended, true, call)]);
        }
        steps.sort_by_key(|(line, is_end, _)| (*line, *is_end));
        let of_files = steps.iter().filter(|(.., call)| !is_network(call)).count();
        let every = (of_files / losses.max(1)).max(1);
        let mut passed = 0;
        for (line, is_end, call) in steps {
            let responding = !is_end
                && self.responses.get(passed).is_some_and(|response| response.started == call.started);
            if responding {
                passed += 1;
                let unsynced = disk.unsynced_names().into_iter();
                let needed = unsynced.filter(|name| matches!(*name, "inbox.db" | "inbox.db-wal"));
                faults.extend(needed.map(|name| format!("line {line}: the folder of {name} was not synced")));
            }
            let at_random = !is_network(call) && random.one_in(every);
            for (unsynced, wanted) in [(Unsynced::Lost, responding), (Unsynced::PartlyLost, at_random)] {
                if wanted {
                    disk.rebuild(&self.scratch, unsynced, random)?;
                    self.check_disk(passed, line, faults).await?;
                    disks += 1;
                }
            }
            if is_end { disk.end(call) } else { disk.begin(call) }
        }
        if passed < self.responses.len() {
            return Err(format!("only {passed} of {} responses were traced", self.responses.len()).into());
        }
        // The whole trace must give a whole inbox; otherwise a call that the trace misses would look like a loss of
        // power.
        disk.rebuild(&self.scratch, Unsynced::Kept, random)?;
        self.check_disk(passed, usize::MAX, faults).await?;
        Ok(disks + 1)
    }

    /// The events of the first `passed` responses must be stored, and the file must not be damaged.
    async fn check_disk(&self, passed: usize, line: usize, faults: &mut Vec<String>) -> Result<(), Error> {
        let found = self.read().await;
        std::fs::remove_dir_all(&self.scratch)?;
        let events = match found {
            Ok(events) => events,
            Err(error) => {
                faults.push(format!("power lost at line {line}: {error}"));
                return Ok(());
            }
        };
        for Response { uuid, .. } in &self.responses[..passed] {
            let fault = match (events.get(uuid), self.expected.get(uuid.as_str())) {
                // Handled already; its body was deleted in the same transaction.
                (Some(Event { state: COMPLETED, .. }), _) => continue,
                (Some(Event { body: Some(body), .. }), Some(sent)) if *body == sent.to_body() => continue,
                (Some(_), _) => "has another body",
                (None, _) => "is gone",
            };
            faults.push(format!("power lost at line {line}: {uuid} was acknowledged and {fault}"));
        }
        Ok(())
    }

    /// The stored events, by their uuids.
    async fn read(&self) -> Result<HashMap<String, Event>, Error> {
        let file = self.scratch.join("inbox.db");
        if !file.exists() {
            return Ok(HashMap::new());
        }
        let store = Store::File(file);
        if let Some(damage) = store.damage().await? {
            return Err(damage.into());
        }
        let events = if store.has_tables().await? { store.events().await? } else { Vec::new() };
        Ok(events.into_iter().map(|event| (event.uuid.clone(), event)).collect())
    }
}
