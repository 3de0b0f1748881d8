//! Reads what `strace -f -y -xx` writes.

use std::collections::HashMap;
use std::io::BufRead;

use crate::Error;

/// A system call. Lines of the trace are its clock: it began at one and was over at another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) process: u32,
    /// What its file descriptor stands for.
    pub(super) file: String,
    /// The text or data that it passes, its parts put together.
    pub(super) data: Vec<u8>,
    /// Arguments as they are written, without text and data.
    pub(super) arguments: String,
    pub(super) result: i64,
    pub(super) started: usize,
    pub(super) ended: usize,
}

/// The calls that succeeded, in the order of their end.
pub(super) fn read(trace: impl BufRead) -> Result<Vec<Call>, Error> {
    let (mut calls, mut unfinished) = (Vec::new(), HashMap::new());
    let mut lines = trace.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let line = line?;
        let Some((process, rest)) = line.split_once(' ') else { continue };
        let (process, rest) = (process.parse::<u32>()?, rest.trim_start());
        if rest.starts_with(['-', '+']) || rest.ends_with("<detached ...>") {
            // Signals, the ends of processes, and the end of tracing.
        } else if let Some(begin) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, (number, begin.to_owned()));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let (started, begin) =
                unfinished.remove(&process).ok_or("a call was resumed that never began")?;
            let end = resumed.split_once(" resumed>").ok_or("a line that cannot be read")?.1;
            calls.extend(call(&(begin + end), process, started, number)?);
        } else {
            match call(rest, process, number, number) {
                // The end of tracing can cut it off in the middle.
                Err(_) if lines.peek().is_none() => {}
                read => calls.extend(read?),
            }
        }
    }
    Ok(calls)
}

fn call(text: &str, process: u32, started: usize, ended: usize) -> Result<Option<Call>, Error> {
    let unread = || {
        let (begin, end) =
            (text.chars().take(60), text.chars().skip(text.chars().count().saturating_sub(60)));
        let (begin, end) = (begin.collect::<String>(), end.collect::<String>());
        format!("line {ended} of the trace cannot be read: {begin}…{end}")
    };
    let (inner, result) = text.rsplit_once(" = ").ok_or_else(unread)?;
    let (name, inner) = inner.trim_end().split_once('(').ok_or_else(unread)?;
    let inner = inner.strip_suffix(')').ok_or_else(unread)?;
    let number: String = result.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
    let Some(result) = number.parse().ok().filter(|result| *result >= 0) else { return Ok(None) };

    let (mut data, mut arguments, mut file) = (Vec::new(), String::new(), None);
    let mut rest = inner;
    while let Some(start) = rest.find(['"', '<']) {
        let (before, after) = rest.split_at(start);
        arguments.push_str(before);
        let (text, is_file) = (&after[1..], after.starts_with('<'));
        let end = text.find(if is_file { '>' } else { '"' }).ok_or_else(unread)?;
        if is_file {
            let shown = String::from_utf8_lossy(&bytes(&text[..end]).ok_or_else(unread)?).into_owned();
            file.get_or_insert(shown);
        } else {
            data.extend(bytes(&text[..end]).ok_or_else(unread)?);
        }
        rest = &text[end + 1..];
        if rest.starts_with("...") {
            return Err("strace has cut data off".into());
        }
    }
    arguments.push_str(rest);
    let (name, file) = (name.to_owned(), file.unwrap_or_default());
    Ok(Some(Call { name, process, file, data, arguments, result, started, ended }))
}

/// `\x61` and so on; what strace writes by itself, as `@` for an abstract socket, stays.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let (text, mut bytes) = (text.as_bytes(), Vec::with_capacity(text.len() / 4));
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(b"\\x") {
            bytes.push(digit(*text.get(at + 2)?)? << 4 | digit(*text.get(at + 3)?)?);
            at += 4;
        } else {
            bytes.push(text[at]);
            at += 1;
        }
    }
    Some(bytes)
}

impl Call {
    /// The last argument, where that is a number: an offset or a length.
    pub(super) fn last_number(&self) -> usize {
        self.arguments.rsplit(',').next().and_then(|last| last.trim().parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_calls_are_joined() {
        let trace = r#"7  openat(AT_FDCWD<\x2f>, "\x2f\x61", O_RDWR|O_CREAT, 0644) = 3<\x2f\x61>
7  pwrite64(3<\x2f\x61>, "\x68\x69", 2, 4096 <unfinished ...>
8  unlink("\x2f\x62")                      = -1 ENOENT (No such file or directory)
8  +++ exited with 0 +++
7  <... pwrite64 resumed>)                 = 2
"#;
        let calls = read(trace.as_bytes()).unwrap();
        assert_eq!(calls.len(), 2);
        assert_eq!((calls[0].data.as_slice(), calls[0].file.as_str()), (b"/a".as_slice(), "/"));
        let write = &calls[1];
        assert_eq!((write.data.as_slice(), write.file.as_str()), (b"hi".as_slice(), "/a"));
        assert_eq!((write.last_number(), write.started, write.ended, write.result), (4096, 1, 4, 2));
    }

    #[test]
    fn trace_may_be_cut_off_in_its_last_line_only() {
        let cut = r#"8  sendto(20<\x73>, "\x53", 5, "#;
        let whole = r#"7  fsync(3<\x2f\x61>) = 0"#;
        assert_eq!(read(format!("{whole}\n{cut}").as_bytes()).unwrap().len(), 1);
        assert!(read(format!("{cut}\n{whole}").as_bytes()).is_err());
    }
}
