//! `highwater man`: a manual page for each subcommand, from the same words as `--help`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};

use crate::Outcome;

/// Write manual pages into a directory: highwater(1) and one for each subcommand.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater man ~/.local/share/man/man1
  man highwater-group-reset")]
pub struct Man {
    /// Where to; created if it does not exist
    dir: PathBuf,
}

impl Man {
    /// Writes the pages. `command` is the whole command line.
    pub fn run(self, command: Command) -> Outcome {
        let mut command = command.disable_help_subcommand(true);
        // Gives subcommands the names and the usage that they have on the command line.
        command.build();
        let written = fs::create_dir_all(&self.dir).and_then(|()| write_pages(&command, &self.dir));
        let count = written
            .map_err(|error| format!("cannot write manual pages to {}: {error}", self.dir.display()))?;
        eprintln!("Wrote {count} manual pages to {}.", self.dir.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// The page of a command and those of its subcommands; how many that were.
fn write_pages(command: &Command, dir: &Path) -> io::Result<usize> {
    let mut bytes = Vec::new();
    write_page(command, &mut bytes)?;
    let name = command.get_display_name().unwrap_or(command.get_name());
    fs::write(dir.join(format!("{name}.1")), bytes)?;
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    subcommands.map(|subcommand| write_pages(subcommand, dir)).try_fold(1, |sum, count| Ok(sum + count?))
}

fn write_page(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(page)?;
    // To the left: usage has words that are longer than half a line, and stretched blanks are not what one types.
    page.write_all(b".ad l\n")?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    if let Some(examples) = examples.strip_prefix("Examples:\n") {
        // Line by line, as it stands.
        page.write_all(b".SH EXAMPLES\n.nf\n")?;
        for line in examples.lines() {
            writeln!(page, "{}", escape(line.trim_start()))?;
        }
        page.write_all(b".fi\n")?;
    }
    man.render_version_section(page)
}

/// A line of text that roff takes for nothing else.
fn escape(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_request_of_roff() {
        assert_eq!(escape(".fi --to \\n"), "\\&.fi \\-\\-to \\en");
    }
}
