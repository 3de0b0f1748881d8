//! The README's test command.

use std::ffi::OsStr;

use crate::endpoints::{self, runtimes};
use crate::{Outcome, cargo, conformance, fuzz, postgres, tools, torture};

/// Set to 1, a test that would be skipped is a failure.
const REQUIRE_ALL: &str = "SMARTSHAPE_REQUIRE_ALL";

/// Enough to notice what is broken altogether; `cargo xtask torture` looks longer.
const TORTURE_ROUNDS: &str = "10";

pub(crate) fn run() -> Outcome {
    let (mut postgres, strace) = (postgres::provide(), tools::strace());
    let (jq, sqlite, cpp) = (tools::jq(), tools::sqlite(), tools::cpp_compiler());
    let (pgbouncer, nginx) = (tools::pgbouncer(), tools::nginx());
    let mut skipped = Vec::new();
    skipped.extend(postgres.as_ref().err().map(|reason| skip("the PostgreSQL tests", reason)));
    skipped.extend(strace.as_ref().err().map(|reason| skip("the tests that trace system calls", reason)));
    skipped.extend(jq.as_ref().err().map(|reason| skip("the pipeline of SmartShape's manual", reason)));
    skipped.extend(sqlite.as_ref().err().map(|reason| skip("the tests of a file that others read", reason)));
    skipped.extend(pgbouncer.as_ref().err().map(|reason| skip("the tests behind a pooler", reason)));
    skipped.extend(nginx.as_ref().err().map(|reason| skip("the tests behind nginx", reason)));
    skipped.extend(cpp.as_ref().err().map(|reason| skip("the fuzz targets", reason)));
    let (node, python) = (runtimes::node(), runtimes::python());
    skipped.extend(node.as_ref().err().map(|reason| skip("the endpoints in Node", reason)));
    skipped.extend(python.as_ref().err().map(|reason| skip("the endpoints in Python", reason)));
    if std::env::var_os(REQUIRE_ALL).as_deref() == Some(OsStr::new("1")) && !skipped.is_empty() {
        return Err(format!("{REQUIRE_ALL} forbids to skip {}", skipped.join("; ")).into());
    }

    let tools = [
        ("STRACE", &strace),
        ("JQ", &jq),
        ("SQLITE3", &sqlite),
        ("PGBOUNCER", &pgbouncer),
        ("NGINX_BIN", &nginx),
    ];
    let tools =
        tools.map(|(name, tool)| (name, tool.as_ref().map(|path| path.to_string_lossy().into_owned())));
    let mut environment = Vec::new();
    environment.extend(postgres.as_ref().ok().map(|server| ("DATABASE_URL", server.url().to_owned())));
    environment.extend(node.as_ref().ok().map(|node| ("VERIFY_IN_NODE", node.words("verify.js"))));
    environment.extend(python.as_ref().ok().map(|python| ("VERIFY_IN_PYTHON", python.words("verify.py"))));
    let mut environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    environment.extend(tools.iter().filter_map(|(name, tool)| Some((*name, tool.as_deref().ok()?))));
    cargo::run(&["test", "--locked", "--workspace"], &environment)?;
    cargo::run(&["test", "--locked", "--package", "smartshape-webhook", "--no-default-features"], &[])?;
    // Somebody else's choice, which changes how serde_json shows numbers and objects to the core.
    let others = "serde_json/arbitrary_precision,serde_json/preserve_order";
    cargo::run(
        &["test", "--locked", "--package", "smartshape-webhook", "--tests", "--features", others],
        &[],
    )?;
    conformance::examples()?;
    endpoints::check(node.ok().as_ref(), python.ok().as_ref())?;
    println!();
    torture::call(TORTURE_ROUNDS, &[], postgres.as_mut().ok(), strace.as_deref().ok())?;
    if cpp.is_ok() {
        fuzz::call_all(fuzz::SECONDS)?;
    }
    println!("\n{}", closing(&skipped));
    Ok(())
}

fn skip(what: &str, reason: &str) -> String {
    format!("{what}, because {reason}")
}

fn closing(skipped: &[String]) -> String {
    if skipped.is_empty() {
        return "All of it passed. Nothing was skipped.".into();
    }
    let lines = skipped.iter().map(|what| format!("\nskipped: {what}"));
    lines.fold("All that was run passed.".into(), |text, line| text + &line)
}

#[cfg(test)]
mod tests {
    use super::{closing, skip};

    #[test]
    fn what_was_skipped_is_said_at_the_end() {
        assert_eq!(closing(&[]), "All of it passed. Nothing was skipped.");
        let skipped = [skip("the PostgreSQL tests", "there is none")];
        let expected = "All that was run passed.\nskipped: the PostgreSQL tests, because there is none";
        assert_eq!(closing(&skipped), expected);
    }
}
