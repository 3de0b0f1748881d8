//! Whether the write-ahead log was synced before each response.

use std::collections::HashMap;

use super::strace::Call;

const FILE_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// A success response, with the uuid of the event that it is for.
pub(super) struct Response {
    pub(super) uuid: String,
    pub(super) started: usize,
}

/// For each response: of the transaction that first wrote its event, the last write must have been over
/// when a sync of the log began that ended before the response.
pub(super) fn check(calls: &[Call], responses: &[Response]) -> Vec<String> {
    let log = |call: &&Call| call.file.ends_with("/inbox.db-wal");
    let writes: Vec<&Call> = calls.iter().filter(log).filter(|call| call.name == "pwrite64").collect();
    let syncs: Vec<&Call> =
        calls.iter().filter(log).filter(|call| matches!(call.name.as_str(), "fsync" | "fdatasync")).collect();
    let mut first = HashMap::new();
    for (number, write) in writes.iter().enumerate() {
        for uuid in uuids(&write.data) {
            first.entry(uuid).or_insert(number);
        }
    }
    let check = |response: &Response| {
        let Response { uuid, started } = response;
        let Some(first) = first.get(uuid.as_bytes()) else {
            return Some(format!("{uuid} was acknowledged, and never written to the log"));
        };
        // The frame's header stands before the page.
        let Some(commit) = commit(&writes[first.saturating_sub(1)..]) else {
            return Some(format!("{uuid} was acknowledged, and never committed"));
        };
        let synced = syncs.iter().any(|sync| sync.started > commit.ended && sync.ended < *started);
        (!synced).then(|| format!("{uuid} was acknowledged before the log was synced"))
    };
    responses.iter().filter_map(check).collect()
}

/// The last write of the first transaction there: a page, whose header names the new size of the file.
fn commit<'a>(writes: &[&'a Call]) -> Option<&'a Call> {
    let page = |header: &Call| writes.iter().find(|write| is_page_of(write, header)).copied();
    writes.iter().filter(|write| is_header(write) && write.data[4..8] != [0; 4]).find_map(|one| page(one))
}

fn is_header(write: &Call) -> bool {
    write.data.len() == FRAME_HEADER && write.last_number() >= FILE_HEADER
}

fn is_page_of(write: &Call, header: &Call) -> bool {
    write.last_number() == header.last_number() + FRAME_HEADER && write.started >= header.ended
}

/// What looks like one.
fn uuids(page: &[u8]) -> impl Iterator<Item = &[u8]> {
    page.windows(36).filter(|text| {
        [8, 13, 18, 23].iter().all(|dash| text[*dash] == b'-') && text[..8].iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, data: Vec<u8>, offset: usize, time: usize) -> Call {
        Call {
            name: name.into(),
            file: "/inbox/inbox.db-wal".into(),
            data,
            arguments: format!(", {offset}"),
            started: time,
            ended: time,
            ..Call::default()
        }
    }

    #[test]
    fn sync_counts_between_commit_and_response() {
        let uuid = "a36b623a-1234-4123-8123-123456789012";
        let (mut header, mut page) = (vec![0; FRAME_HEADER], vec![0; 4096]);
        page[100..136].copy_from_slice(uuid.as_bytes());
        let event = [call("pwrite64", header.clone(), 32, 1), call("pwrite64", page, 56, 2)];
        header[7] = 9;
        let commit = [call("pwrite64", header, 4152, 4), call("pwrite64", vec![0; 4096], 4176, 5)];
        let faults = |sync: usize, started: usize| {
            let sync = call("fdatasync", Vec::new(), 0, sync);
            let calls: Vec<Call> = event.iter().chain(&commit).cloned().chain([sync]).collect();
            check(&calls, &[Response { uuid: uuid.into(), started }]).len()
        };
        assert_eq!(faults(6, 7), 0);
        // After the event's page, but before the commit; after the response.
        assert_eq!(faults(3, 7), 1);
        assert_eq!(faults(8, 7), 1);
        assert_eq!(check(&event, &[Response { uuid: uuid.into(), started: 7 }]).len(), 1);
        // A log without the event.
        assert_eq!(check(&commit, &[Response { uuid: uuid.into(), started: 7 }]).len(), 1);
    }
}
