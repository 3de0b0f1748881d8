//! The console in Chromium, driven by Node.

use std::fs;
use std::path::PathBuf;

use crate::runtimes::{self, Runtime};
use crate::{Result, cargo, tools};

/// What the tests need.
pub(crate) struct Browser {
    node: Runtime,
    chromium: PathBuf,
    nginx: PathBuf,
    sqlite: PathBuf,
}

pub(crate) fn run(name: Option<&str>) -> Result {
    let browser = provide()?;
    cargo::build_binaries(&["browser"])?;
    browser.test(name)
}

/// Everything that the tests need, or in one line what is missing.
pub(crate) fn provide() -> Result<Browser, String> {
    let node = runtimes::browser()?;
    let (chromium, nginx, sqlite) =
        (tools::CHROMIUM.provide()?, tools::NGINX.provide()?, tools::SQLITE.provide()?);
    Ok(Browser { node, chromium, nginx, sqlite })
}

impl Browser {
    /// Runs all test files, or the one of this name. Needs the program `browser` built.
    pub(crate) fn test(&self, name: Option<&str>) -> Result {
        println!("\nThe console in a browser:\n");
        let mut files = Vec::new();
        for entry in fs::read_dir(cargo::root().join("tests/browser"))? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            if file.strip_suffix(".test.js").is_some_and(|found| name.is_none_or(|name| name == found)) {
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(format!("tests/browser has no test file {:?}", name.unwrap_or("*.test.js")).into());
        }
        files.sort();
        let mut command = self.node.tests(&files);
        command
            .env("CONSOLE", cargo::binary("browser"))
            .env("CHROMIUM", &self.chromium)
            .env("NGINX_BIN", &self.nginx)
            .env("SQLITE3", &self.sqlite)
            .env(
                "OLDER_INBOX",
                cargo::root().join("crates/smartshape-webhook-inbox/tests/data/inbox-0.1.0.db"),
            )
            .env("PICTURES", cargo::root().join("docs/pictures"))
            .env("FIXTURES", cargo::root().join("crates/smartshape-fake/fixtures"));
        if command.status()?.success() { Ok(()) } else { Err("the tests in a browser failed".into()) }
    }
}
