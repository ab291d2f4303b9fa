//! `highwater completions`: what a shell needs to complete subcommands, flags and their values.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::Outcome;

/// Print completions for a shell.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater completions bash > ~/.local/share/bash-completion/completions/highwater
  highwater completions zsh > ~/.zfunc/_highwater
  highwater completions fish > ~/.config/fish/completions/highwater.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script. `command` is the whole command line.
    pub fn run(self, mut command: Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "highwater", &mut script);
        crate::say!("{}", String::from_utf8_lossy(&script).trim_end());
        Ok(ExitCode::SUCCESS)
    }
}
