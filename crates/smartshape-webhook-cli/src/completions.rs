//! `smartshape completions`: what a shell needs to complete its arguments.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::CliResult;
use crate::output;

#[derive(Args)]
#[command(after_help = "\
Where shells look for it:
  smartshape completions bash > ~/.local/share/bash-completion/completions/smartshape
  smartshape completions zsh > ~/.zfunc/_smartshape      # with fpath+=~/.zfunc before compinit in ~/.zshrc
  smartshape completions fish > ~/.config/fish/completions/smartshape.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run<Program: CommandFactory>(self) -> CliResult {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Program::command(), "smartshape", &mut script);
        output::line(String::from_utf8_lossy(&script).trim_end())
    }
}
