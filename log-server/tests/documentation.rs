//! The tables of docs/configuration.md, and packaging/highwater.toml, are what the code says.
//!
//! On the page a table stands between `<!-- NAME -->` and `<!-- end -->`. With `HIGHWATER_WRITE_DOCS=1` the tests
//! write what differs instead of failing.

use std::fmt::Display;
use std::path::PathBuf;

use clap::Args;
use log_server::config::{self, BrokerConfig, ConfigFlags, SETTING_NAMES};
use log_server::dynamic::CHANGEABLE;
use log_server::resource_config::{self, Kind};
use log_server::topic::config::{Effect, definitions};

/// Fails unless the file beneath the repository has that text, or writes it there if that is asked for.
fn hold(path: &str, expected: &str) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path);
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    if there == expected {
        return;
    }
    if std::env::var_os("HIGHWATER_WRITE_DOCS").is_some() {
        return std::fs::write(&path, expected).unwrap();
    }
    let differs = there.lines().zip(expected.lines()).find(|(there, expected)| there != expected);
    panic!(
        "{} is not what the code says, first in {differs:?}\n\
         HIGHWATER_WRITE_DOCS=1 cargo test -p log-server --test documentation writes it",
        path.display()
    );
}

/// A table in Markdown.
fn table<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> String {
    let rule = "---|".repeat(COLUMNS);
    let rows: String =
        rows.map(|row| format!("| {} |\n", row.map(|cell| cell.replace('|', "\\|")).join(" | "))).collect();
    format!("| {} |\n|{rule}\n{rows}", head.join(" | "))
}

fn code(name: impl Display) -> String {
    format!("`{name}`")
}

/// What stands in a column of defaults for one that follows a setting of the broker.
fn default_or_setting(default: String, setting: Option<&str>) -> String {
    setting.map_or(default, |setting| format!("from the setting `{setting}`"))
}

fn settings_table(section: &str) -> String {
    let settings = config::settings().into_iter().filter(|setting| setting.section == section);
    table(
        ["flag, environment, file", "default", "values", "meaning"],
        settings.map(|setting| {
            let name = setting.name;
            let (flag, variable) = (name.replace('_', "-"), name.to_uppercase());
            let names = format!("`--{flag}`<br>`HIGHWATER_{variable}`<br>`{name}`");
            [names, setting.default, setting.values, setting.doc]
        }),
    )
}

fn topic_table(effect: Effect) -> String {
    let definitions = definitions().iter().filter(|definition| definition.effect == effect);
    table(
        ["name", "default", "values", "meaning"],
        definitions.map(|definition| {
            let default = default_or_setting(definition.default_value(), definition.setting());
            [code(definition.name), default, definition.values(), definition.doc.to_owned()]
        }),
    )
}

fn changeable_table() -> String {
    let rows = CHANGEABLE.iter().map(|row| [code(row.name), code(row.setting), row.values.to_string()]);
    table(["name", "setting", "values"], rows)
}

fn resource_table() -> String {
    let kinds = [("group", Kind::Group), ("subscription", Kind::ClientMetrics)];
    let definitions = kinds.into_iter().flat_map(|(of, kind)| {
        resource_config::definitions(kind).map(move |definition| {
            let default = definition.broker_value(&BrokerConfig::default());
            let default = default_or_setting(default, definition.setting());
            [of.to_owned(), code(definition.name), default, definition.values(), definition.doc.to_owned()]
        })
    });
    table(["of", "name", "default", "values", "meaning"], definitions)
}

/// The table of that name on the page.
fn generated(name: &str) -> String {
    match name {
        "topic configurations that act" => topic_table(Effect::Acts),
        "topic configurations that are ignored" => topic_table(Effect::Ignored),
        "changed while the broker runs" => changeable_table(),
        "groups and subscriptions" => resource_table(),
        _ => {
            let section = name.strip_prefix("settings: ").unwrap_or_else(|| panic!("what is {name:?}?"));
            settings_table(section)
        }
    }
}

#[test]
fn the_tables_of_the_configuration_are_what_the_code_says() {
    let path = "docs/configuration.md";
    let page = std::fs::read_to_string(format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../{}"), path)).unwrap();
    let mut expected = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        expected += &format!("{line}\n");
        if let Some(name) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            assert!(lines.any(|line| line == "<!-- end -->"), "{path}: no <!-- end --> behind {line}");
            expected += &format!("{}<!-- end -->\n", generated(name));
        }
    }
    for setting in config::settings() {
        let row = format!("<br>`{}` |", setting.name);
        assert!(expected.contains(&row), "{path} has no section <!-- settings: {} -->", setting.section);
    }
    hold(path, &expected);
}

#[test]
fn the_example_file_has_every_setting() {
    hold("packaging/highwater.toml", &config::toml());
}

#[test]
fn the_help_of_every_setting_speaks_of_its_default() {
    let command = ConfigFlags::augment_args(clap::Command::new("settings"));
    let mut flags = 0;
    for (argument, setting) in command.get_arguments().zip(config::settings()) {
        let help = argument.get_help().expect("a setting has a sentence").to_string();
        assert_eq!(help, format!("{} [default: {}]", setting.doc, setting.default));
        assert_eq!(argument.get_id().as_str(), setting.name);
        flags += 1;
    }
    assert_eq!(flags, SETTING_NAMES.len());
}
