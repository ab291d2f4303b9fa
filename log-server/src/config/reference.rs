//! The settings as a file that can be edited: `highwater config` prints it.

use super::settings;

/// Columns that a comment is wrapped at.
const COLUMNS: usize = 100;

/// A file for `--config` with every setting at its default and commented out, so that it changes nothing as it is.
pub fn toml() -> String {
    let mut file = String::from(
        "# Settings of highwater serve --config FILE. Each line stands at its default and is commented out.\n\
         # Sizes are bytes, times milliseconds.\n",
    );
    let mut section = "";
    for setting in settings() {
        if setting.section != section {
            section = setting.section;
            file += &format!("\n### {section}\n");
        }
        file.push('\n');
        comment(&mut file, &format!("{}.", setting.doc));
        comment(&mut file, &format!("Values: {}.", setting.values));
        file += &format!("#{} = {}\n", setting.name, setting.toml);
    }
    file
}

/// Adds a comment, wrapped between words.
fn comment(file: &mut String, text: &str) {
    let mut columns = 0;
    for word in text.split(' ') {
        if columns == 0 || columns + 1 + word.len() > COLUMNS {
            file.push_str(if columns == 0 { "#" } else { "\n#" });
            columns = 1;
        }
        file.push(' ');
        file.push_str(word);
        columns += 1 + word.len();
    }
    file.push('\n');
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;
    use crate::config::{BrokerConfig, SETTING_NAMES};

    #[test]
    fn the_file_with_every_setting_taken_out_of_its_comment_is_the_default() {
        let file: String = toml()
            .lines()
            .filter(|line| !line.starts_with("# ") && !line.starts_with("###"))
            .map(|line| format!("{}\n", line.trim_start_matches('#')))
            .collect();
        assert_eq!(file.lines().filter(|line| line.contains(" = ")).count(), SETTING_NAMES.len(), "{file}");
        let read: BrokerConfig = Figment::from(Toml::string(&file)).extract().unwrap();
        assert_eq!(read, BrokerConfig::default());
    }
}
