//! Builds the fuzz targets with instrumentation and runs them. Stable Rust is enough: libFuzzer comes as C++
//! source with `libfuzzer-sys`, and without unsafe code there is nothing for an address sanitizer to find.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::{Result, cargo, tools};

const TARGETS: [&str; 6] = ["token", "lanes", "head", "envelope", "event", "receive"];

/// Enough to notice what is broken altogether.
pub(crate) const SECONDS: &str = "10";

/// What libFuzzer needs to see where an input leads.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// `words` are a target, and seconds or the input of an earlier crash, each or none of them.
pub(crate) fn run(words: &[&str]) -> Result {
    let (mut targets, mut seconds, mut input) = (TARGETS.to_vec(), SECONDS, None);
    for word in words {
        match *word {
            target if TARGETS.contains(&target) => targets = vec![target],
            number if number.parse::<u32>().is_ok() => seconds = number,
            file if Path::new(file).is_file() => input = Some(file),
            _ => {
                let known = TARGETS.join(", ");
                return Err(format!("{word:?} is no target ({known}), number of seconds or file").into());
            }
        }
    }
    tools::cpp_compiler()?;
    match (input, targets.as_slice()) {
        (Some(input), [target]) => repeat(&build()?.join(target), input),
        (Some(_), _) => Err("an input needs its target beside it".into()),
        (None, targets) => run_targets(targets, seconds),
    }
}

/// All targets, as many at a time as there are cores.
pub(crate) fn run_all(seconds: &str) -> Result {
    run_targets(&TARGETS, seconds)
}

fn run_targets(targets: &[&str], seconds: &str) -> Result {
    let binaries = build()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for targets in targets.chunks(cores) {
        let running: Result<Vec<_>, _> =
            targets.iter().map(|target| Run::start(target, &binaries.join(target), seconds)).collect();
        // All are waited for, so that none outlives this.
        let outcomes: Vec<_> = running?.into_iter().map(Run::end).collect();
        outcomes.into_iter().collect::<Result>()?;
    }
    Ok(())
}

fn repeat(binary: &Path, input: &str) -> Result {
    let status = Command::new(binary).arg(input).status()?;
    if status.success() { Ok(()) } else { Err("the input still fails; see above".into()) }
}

/// Where the targets are, built.
fn build() -> Result<PathBuf> {
    let folder = cargo::target().join("fuzz");
    let host = cargo::host()?;
    let manifest = cargo::root().join("tests/fuzz/Cargo.toml");
    let (manifest, shown) = (manifest.to_string_lossy(), folder.to_string_lossy());
    // With a named target the flags are not for build scripts, which have no libFuzzer to call.
    let arguments = ["--manifest-path", &manifest, "--target-dir", &shown, "--target", &host, "--release"];
    cargo::run(
        &[&["build", "--locked", "--quiet"], arguments.as_slice()].concat(),
        &[("CARGO_ENCODED_RUSTFLAGS", &FLAGS.join("\u{1f}"))],
    )?;
    Ok(folder.join(host).join("release"))
}

/// One running target.
struct Run {
    target: String,
    seconds: String,
    child: Child,
    log: PathBuf,
    crashes: PathBuf,
}

impl Run {
    fn start(target: &str, binary: &Path, seconds: &str) -> Result<Self> {
        let folder = cargo::target().join("fuzz");
        let (found, crashes) = (folder.join("corpus").join(target), folder.join("crashes").join(target));
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&crashes)?;
        let log = folder.join(format!("{target}.log"));
        let output = File::create(&log)?;
        let child = Command::new(binary)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .args(["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
            // libFuzzer writes new inputs to the first folder.
            .arg(&found)
            .arg(cargo::root().join("tests/fuzz/corpus").join(target))
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self { target: target.to_owned(), seconds: seconds.to_owned(), child, log, crashes })
    }

    fn end(mut self) -> Result {
        let status = self.child.wait()?;
        let log = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        let target = &self.target;
        if status.success() {
            println!("fuzz {target}: {} inputs in {} s, none of them a fault", inputs(&log), self.seconds);
            return Ok(());
        }
        eprintln!("{}", last_lines(&log, 40));
        let repeat = match crash(&log) {
            Some(file) => format!("repeat it with `cargo xtask fuzz {target} {file}`"),
            None => format!("no input was written to {}", self.crashes.display()),
        };
        Err(format!("the fuzz target {target} found a fault, shown above; {repeat}").into())
    }
}

fn inputs(log: &str) -> &str {
    let counted = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    counted.map_or("an unknown number of", str::trim)
}

/// The file that libFuzzer wrote the input to.
fn crash(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, file)| file.trim())
}

fn last_lines(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, crash, inputs, last_lines, run};
    use crate::cargo;

    #[test]
    fn every_target_is_run_and_has_seeds() {
        let folder = cargo::root().join("tests/fuzz");
        let mut files: Vec<_> = std::fs::read_dir(folder.join("targets"))
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut targets = TARGETS.to_vec();
        targets.sort_unstable();
        assert_eq!(files, targets);
        for target in TARGETS {
            assert!(folder.join("corpus").join(target).read_dir().unwrap().count() > 0, "{target}");
        }
    }

    #[test]
    fn libfuzzer_output_is_parsed() {
        let log = "thread panicked\nartifact_prefix='t/'; Test unit written to t/crash-0f\n\
                   stat::number_of_executed_units: 17\n";
        assert_eq!(crash(log), Some("t/crash-0f"));
        assert_eq!(inputs(log), "17");
        assert_eq!(last_lines(log, 1), "stat::number_of_executed_units: 17");
        assert_eq!((crash(""), inputs("")), (None, "an unknown number of"));
    }

    #[test]
    fn unknown_target_is_rejected_with_the_list() {
        let error = run(&["tokens"]).unwrap_err().to_string();
        assert!(error.contains("token, lanes, head, envelope, event, receive"), "{error}");
    }
}
