//! The program `smartshape-fake`.

#[cfg(unix)]
use std::process::Command;

#[cfg(unix)]
#[test]
fn argument_that_is_not_utf8_is_a_usage_error() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let mut program = Command::new(env!("CARGO_BIN_EXE_smartshape-fake"));
    let ended = program.arg("--listen").arg(OsStr::from_bytes(b"127.0.0.1:\xff")).output().unwrap();
    let error = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{error}");
    assert!(error.contains("is not UTF-8; --help lists the options"), "{error}");
}
