//! Output that differs on a terminal: colors, a line for each delivery, and progress.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use smartshape_webhook::EventKind;
use tokio::sync::{Semaphore, mpsc};

use crate::event::{receiver, serve};
use crate::listener::builder;
use crate::support::{Home, SECRET, within};

/// A terminal, and what is shown on it.
struct Terminal {
    file: File,
    shown: mpsc::UnboundedReceiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let file = File::options().read(true).write(true).open(name).unwrap();
        let (sender, shown) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let (mut master, mut buffer) = (File::from(master), [0; 4096]);
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                let _ = sender.send(buffer[..length].to_vec());
            }
        });
        Self { file, shown, text: String::new() }
    }

    fn output(&self) -> Stdio {
        self.file.try_clone().unwrap().into()
    }

    /// Reads what is shown until it contains `text`.
    async fn read_until(&mut self, text: &str) {
        while !self.text.contains(text) {
            let more = within(self.shown.recv()).await.unwrap();
            self.text += &String::from_utf8_lossy(&more);
        }
    }
}

#[tokio::test]
async fn colors_are_used_on_a_terminal_only() {
    let (home, (url, _)) = (Home::new(), receiver().await);
    let check =
        ["check", &url, "--secret", SECRET, "--cost", "4", "--timeout", "60", "--only", "without a token"];
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut terminal = Terminal::new();
        let mut program = home.program(&check);
        program.env("TERM", "xterm").env("NO_COLOR", no_color).stdout(terminal.output());
        assert!(within(program.status()).await.unwrap().success());
        terminal.read_until("1 passed").await;
        assert_eq!(terminal.text.contains("\u{1b}[32mpass\u{1b}[0m"), coloured, "{:?}", terminal.text);
        assert_eq!(terminal.text.contains('\u{1b}'), coloured, "{:?}", terminal.text);
    }
    let mut program = home.program(&check);
    let piped = within(program.env("TERM", "xterm").output()).await.unwrap();
    assert!(!piped.stdout.contains(&b'\x1b'), "{piped:?}");
}

#[tokio::test]
async fn listen_prints_each_delivery_on_a_terminal() {
    let (home, fake) = (Home::new(), builder().start().await.unwrap());
    let mut terminal = Terminal::new();
    let mut program = home.logged_in(&fake, &["webhook", "listen", "--event", "file_uploaded"]);
    let mut child = program.stdout(Stdio::piped()).stderr(terminal.output()).spawn().unwrap();
    terminal.read_until("registered ").await;
    let outcomes = fake.trigger(EventKind::FileUploaded).await;
    assert!(outcomes[0].accepted());
    terminal.read_until("file_uploaded of ").await;
    terminal.read_until(&format!("({}): ", outcomes[0].uuid)).await;
    terminal.read_until("200").await;
    child.start_kill().unwrap();
    let printed = within(child.wait_with_output()).await.unwrap().stdout;
    let lines: Vec<_> = printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1);
    assert!(serde_json::from_slice::<serde_json::Value>(lines[0]).is_ok());
}

#[tokio::test]
async fn progress_is_shown_on_a_terminal() {
    let home = Home::new();
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let list = async move || {
        drop(opened.acquire().await);
        ([("content-type", "application/json")], r#"{"data": []}"#)
    };
    let url = serve(Router::new().fallback(list)).await;
    let mut terminal = Terminal::new();
    let mut program = home.program(&["webhook", "list", "--api-url", &url, "--token", "the.auth.token"]);
    let child = program.stdout(Stdio::piped()).stderr(terminal.output()).spawn().unwrap();
    terminal.read_until(&format!("waiting for {url} (")).await;
    gate.add_permits(1);
    let ran = within(child.wait_with_output()).await.unwrap();
    assert!(ran.status.success() && ran.stdout.starts_with(b"ID"), "{ran:?}");
    // It is wiped away.
    terminal.read_until("\u{1b}[2Ksmartshape: there are no webhooks").await;
}
