//! Runs cargo in the project's root.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// The crates that are published. The workspace's other packages name theirs by path only, and cannot be packaged.
pub(crate) const PUBLISHED: [&str; 11] = [
    "bcrypt-lanes",
    "smartshape-webhook",
    "smartshape-webhook-tower",
    "smartshape-webhook-actix",
    "smartshape-webhook-warp",
    "smartshape-webhook-inbox",
    "smartshape-webhook-ui",
    "smartshape-webhook-outlet",
    "smartshape-api",
    "smartshape-fake",
    COMMAND_LINE,
];

/// The one published package that is no library.
pub(crate) const COMMAND_LINE: &str = "smartshape-webhook-cli";

/// The project's root, wherever the command was called from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Runs `cargo` with these arguments and environment; shows the command first.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result {
    let shown = arguments.join(" ");
    println!("\n$ cargo {shown}");
    succeed(Command::new(program()).args(arguments).envs(environment.iter().copied()), &shown)
}

/// Tests a package with these arguments and environment.
pub(crate) fn test(package: &str, arguments: &[&str], environment: &[(&str, String)]) -> Result {
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run(&[&["test", "--locked", "--package", package], arguments].concat(), &environment)
}

/// Whether cargo has this command.
pub(crate) fn has(command: &str) -> bool {
    let asked = Command::new(program()).args([command, "--version"]).output();
    asked.is_ok_and(|output| output.status.success())
}

/// Builds the example server of a framework, with no more than the demo needs, and returns its path.
pub(crate) fn build_example(framework: &str, features: &[&str]) -> Result<PathBuf> {
    let package = format!("example-{framework}");
    let features = features.join(",");
    build(&["--package", &package, "--bins", "--no-default-features", "--features", &features])?;
    Ok(binary(&package))
}

/// Builds the binaries of these packages and what they need.
pub(crate) fn build_binaries(packages: &[&str]) -> Result {
    let mut arguments = vec!["--bins"];
    arguments.extend(packages.iter().flat_map(|package| ["--package", package]));
    build(&arguments)
}

/// Builds a package for measuring, optimized across crates, and returns the path of its program.
pub(crate) fn build_fast(package: &str, program: &str) -> Result<PathBuf> {
    build(&["--profile", "fast", "--package", package])?;
    Ok(binary_of("fast", program))
}

/// Where cargo puts the binary of a package.
pub(crate) fn binary(package: &str) -> PathBuf {
    binary_of("debug", package)
}

fn binary_of(profile: &str, package: &str) -> PathBuf {
    target().join(profile).join(format!("{package}{}", std::env::consts::EXE_SUFFIX))
}

/// Where cargo puts everything.
pub(crate) fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}

/// What the compiler calls this machine.
pub(crate) fn host() -> Result<String> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&compiler).arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or_else(|| format!("{} -vV names no host", compiler.display()))?.to_owned())
}

fn build(arguments: &[&str]) -> Result {
    let shown = format!("build {}", arguments.join(" "));
    succeed(Command::new(program()).args(["build", "--locked"]).args(arguments), &shown)
}

fn succeed(command: &mut Command, shown: &str) -> Result {
    let status = command.current_dir(root()).status()?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {shown}` failed").into()) }
}

fn program() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}
