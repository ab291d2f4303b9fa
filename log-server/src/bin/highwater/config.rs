//! `highwater config`: every setting, as a file to edit.

use std::process::ExitCode;

use clap::Args;

use crate::{Outcome, say};

/// Print every setting of the broker as a file for `highwater serve --config`, each with its meaning and its values, at
/// its default and commented out
#[derive(Args)]
pub struct Config {}

impl Config {
    /// Prints the file.
    pub fn run(self) -> Outcome {
        say!("{}", log_server::config::toml().trim_end());
        Ok(ExitCode::SUCCESS)
    }
}
