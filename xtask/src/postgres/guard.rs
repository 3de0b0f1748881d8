//! Ends the server and removes its folder, whatever becomes of xtask.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reads process ids line by line; when its standard input closes, it ends the last one and removes the folder. The
/// input closes when xtask ends, however that happens.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
server=0
while read -r line; do server=$line; done
if [ "$server" != 0 ] && kill -INT "$server"; then
    left=200
    while kill -0 "$server" && [ "$left" -gt 0 ]; do
        left=$((left - 1))
        sleep 0.1
    done
    [ "$left" -gt 0 ] || kill -KILL "$server"
fi
for attempt in 1 2 3; do
    rm -rf "$1" && break
    sleep 1
done
"#;

pub(super) struct Guard {
    shell: Child,
    input: Option<ChildStdin>,
}

impl Guard {
    /// Watches over a folder.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(folder)
            .current_dir("/")
            // Neither the terminal nor who kills xtask's process group ends the guard with xtask.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let input = shell.stdin.take();
        Ok(Self { shell, input })
    }

    /// Watches over this server from now on; 0 for none.
    pub(super) fn watch(&mut self, server: u32) -> io::Result<()> {
        self.input.as_mut().map_or(Ok(()), |input| writeln!(input, "{server}"))
    }

    /// Ends the server (fast shutdown), then removes the folder.
    pub(super) fn end(&mut self) {
        self.input = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
        let _ = self.shell.wait();
    }
}
