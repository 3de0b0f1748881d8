//! Which process runs on which core.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;

/// One core for the servers, another for whoever sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    load: usize,
}

impl Cores {
    /// The first two of those that this process may use.
    pub(crate) fn find() -> Outcome<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (cores.next(), cores.next()) {
            (Some(server), Some(load)) => Ok(Self { server, load }),
            _ => Err("the benchmark needs two cores: one for the server, one for the load".into()),
        }
    }

    pub(crate) fn all(self) -> [usize; 2] {
        [self.server, self.load]
    }

    /// Keeps this thread, which sends, apart from the servers.
    pub(crate) fn send(self) -> Outcome<()> {
        stay_on([self.load])
    }

    /// Lets this thread, and what it starts, use both.
    pub(crate) fn share(self) -> Outcome<()> {
        stay_on([self.server, self.load])
    }
}

/// Keeps this thread, and those that it starts from now on, on these cores.
pub(crate) fn stay_on(cores: impl IntoIterator<Item = usize>) -> Outcome<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Becomes another program, which stays on this core.
pub(crate) fn become_program(core: &str, program: &[&str]) -> Outcome<()> {
    let (name, arguments) = program.split_first().ok_or("no program was named")?;
    stay_on([core.parse()?])?;
    Err(Command::new(name).args(arguments).exec().into())
}
