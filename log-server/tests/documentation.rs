//! docs/configuration.md names every setting and every topic configuration, with the default and the sentence that
//! the code has for it. A failure prints the line that belongs there.

use clap::Args;
use log_server::config::{BrokerConfig, ConfigFlags, SETTING_NAMES};
use log_server::topic::config::{Effect, definitions};

const PAGE: &str = include_str!("../../docs/configuration.md");

/// The part of the page from one heading to the next of its level.
fn section(heading: &str) -> &'static str {
    let (_, after) = PAGE.split_once(heading).unwrap_or_else(|| panic!("no heading {heading:?}"));
    after.split("\n## ").next().unwrap_or_default()
}

/// The rows of a section's tables, without the lines that make a table of them.
fn rows(section: &str) -> impl Iterator<Item = &str> {
    section.lines().filter(|line| line.starts_with("| `"))
}

#[test]
fn every_setting_is_documented() {
    let section = section("\n## Settings of the broker\n");
    let command = ConfigFlags::augment_args(clap::Command::new("settings"));
    let defaults = serde_json::to_value(BrokerConfig::default()).unwrap();
    let mut documented = 0;
    for argument in command.get_arguments() {
        let name = argument.get_id().as_str();
        let help = argument.get_help().expect("a setting has a sentence").to_string();
        let (meaning, default) = help.rsplit_once(" [default: ").expect("which ends with its default");
        let default = default.trim_end_matches(']');
        if name != "advertise" {
            let real = &defaults[name];
            let real = real.as_str().map_or_else(|| real.to_string(), str::to_owned);
            assert_eq!(default, real, "the default that the help of {name} speaks of");
        }
        let flag = argument.get_long().expect("a setting is a flag");
        let variable = name.to_uppercase();
        let row = format!("| `--{flag}`<br>`HIGHWATER_{variable}`<br>`{name}` | {default} | {meaning} |");
        assert!(rows(section).any(|line| line == row), "docs/configuration.md lacks the line\n{row}");
        documented += 1;
    }
    assert_eq!(documented, SETTING_NAMES.len());
    assert_eq!(rows(section).count(), documented, "docs/configuration.md has a setting that does not exist");
}

#[test]
fn every_topic_configuration_is_documented() {
    for (heading, effect) in [
        ("\n## Topic configurations that act\n", Effect::Acts),
        ("\n## Topic configurations that are accepted and ignored\n", Effect::Ignored),
    ] {
        let section = section(heading);
        let mut documented = 0;
        for definition in definitions().iter().filter(|definition| definition.effect == effect) {
            let start = format!("| `{}` | {} |", definition.name, definition.default_value());
            let end = format!("| {} |", definition.doc);
            assert!(
                rows(section).any(|line| line.starts_with(&start) && line.ends_with(&end)),
                "docs/configuration.md lacks, under{heading}the line\n{start} … {end}"
            );
            documented += 1;
        }
        assert_eq!(rows(section).count(), documented, "a line too many under{heading}");
    }
}
