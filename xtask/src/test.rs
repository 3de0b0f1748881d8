//! The README's test command, and the part of it that is called conformance.

use std::ffi::OsStr;

use crate::postgres::Provided;
use crate::{Result, browser, cargo, endpoints, fuzz, postgres, runtimes, tools, torture};

/// A variable; when it is 1, a test that would be skipped is a failure.
const REQUIRE_ALL: &str = "SMARTSHAPE_REQUIRE_ALL";

/// Enough to notice what is broken altogether; `cargo xtask torture` looks longer.
const TORTURE_ROUNDS: &str = "10";

pub(crate) fn run() -> Result {
    let mut postgres = postgres::provide();
    let tools = [
        ("STRACE", tools::STRACE.provide(), "the tests that trace system calls"),
        ("JQ", tools::JQ.provide(), "the pipeline of SmartShape's manual"),
        ("SQLITE3", tools::SQLITE.provide(), "the tests of a file that others read"),
        ("PGBOUNCER", tools::PGBOUNCER.provide(), "the tests behind a pooler"),
        ("NGINX_BIN", tools::NGINX.provide(), "the tests behind nginx"),
    ];
    let (cpp, node, python) = (tools::cpp_compiler(), runtimes::node(), runtimes::python());
    let browser = browser::provide();
    let mut skipped = Vec::new();
    let mut note = |what, reason: Option<&String>| skipped.extend(reason.map(|reason| skip(what, reason)));
    note("the PostgreSQL tests", postgres.as_ref().err());
    let foreign = String::from("DATABASE_URL names a server, so none of our own is there");
    note("the tests of a failover", postgres.as_ref().is_ok_and(Provided::is_external).then_some(&foreign));
    for (_, tool, tests) in &tools {
        note(tests, tool.as_ref().err());
    }
    note("the fuzz targets", cpp.as_ref().err());
    note("the endpoints in Node", node.as_ref().err());
    note("the endpoints in Python and the tests with NATS servers", python.as_ref().err());
    note("the tests in a browser", browser.as_ref().err());
    if std::env::var_os(REQUIRE_ALL).as_deref() == Some(OsStr::new("1")) && !skipped.is_empty() {
        return Err(format!("{REQUIRE_ALL} forbids skipping {}", skipped.join("; ")).into());
    }

    let mut environment = Vec::new();
    environment.extend(postgres.as_ref().ok().into_iter().flat_map(Provided::environment));
    environment.extend(node.as_ref().ok().map(|node| ("VERIFY_IN_NODE", node.words("verify.js"))));
    if let Ok(python) = &python {
        environment.push(("VERIFY_IN_PYTHON", python.words("verify.py")));
        environment.extend(python.nats());
    }
    for (name, tool, _) in &tools {
        environment.extend(tool.as_ref().ok().map(|path| (*name, path.to_string_lossy().into_owned())));
    }
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    cargo::run(&["test", "--locked", "--workspace"], &environment)?;
    cargo::run(&["test", "--locked", "--package", "smartshape-webhook", "--no-default-features"], &[])?;
    // Another crate of a program may switch these features on, which changes how serde_json shows numbers and objects
    // to the core.
    let others = "serde_json/arbitrary_precision,serde_json/preserve_order";
    cargo::run(
        &["test", "--locked", "--package", "smartshape-webhook", "--tests", "--features", others],
        &[],
    )?;
    // The other programs were built for the tests. Another choice of packages would build the frameworks anew, since it
    // gives them other features.
    let programs = ["--tests", "--bin", "browser", "--bin", "torture"];
    cargo::run(&[&["build", "--locked", "--workspace"][..], &programs].concat(), &[])?;
    endpoints::check(node.ok().as_ref(), python.ok().as_ref())?;
    if let Ok(browser) = browser {
        browser.test(None)?;
    }
    println!();
    torture::call(TORTURE_ROUNDS, &[], postgres.as_mut().ok(), tools[0].1.as_deref().ok())?;
    if cpp.is_ok() {
        fuzz::run_all(fuzz::SECONDS)?;
    }
    println!("\n{}", closing(&skipped));
    Ok(())
}

/// What every framework must keep: in the table of cases, in the example servers, and as `smartshape check` sees them.
pub(crate) fn conformance() -> Result {
    let examples = ["--package", "example-axum", "--package", "example-actix", "--package", "example-warp"];
    cargo::run(&[&["test", "--locked", "--package", "conformance"][..], &examples].concat(), &[])?;
    endpoints::run()
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
    fn summary_lists_what_was_skipped() {
        assert_eq!(closing(&[]), "All of it passed. Nothing was skipped.");
        let skipped = [skip("the PostgreSQL tests", "there is none")];
        let expected = "All that was run passed.\nskipped: the PostgreSQL tests, because there is none";
        assert_eq!(closing(&skipped), expected);
    }
}
