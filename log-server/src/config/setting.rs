//! One setting as the reference shows it: its default, the values it takes, what it means.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::{CompressionType, ConfigError, Migration, TimestampType, WriteMode};

/// One setting of the broker. Sizes are bytes and times milliseconds, as the end of the name says.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The section of the reference that it stands in.
    pub section: &'static str,
    /// Its key in the file. The flag has dashes for underscores, the environment variable is in capitals.
    pub name: &'static str,
    /// What it means: sentences, without the last full stop.
    pub doc: String,
    /// The default as `--help` has it. Of a setting that is empty by default, what stands in for it.
    pub default: String,
    /// The default as the file has it.
    pub toml: String,
    /// The values that it takes.
    pub values: String,
}

impl Setting {
    /// A setting of type `T`. `doc` ends in `[default: …]`; `range` are the values it takes, where they are not all of
    /// its type.
    pub(super) fn new<T: SettingType>(
        section: &'static str,
        name: &'static str,
        doc: &str,
        default: &T,
        range: Option<String>,
    ) -> Setting {
        let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
        let (doc, help) = doc.rsplit_once(" [default: ").expect("a setting's sentence ends with its default");
        let toml = serde_json::to_string(default).expect("a setting is a scalar");
        let default = if toml == "\"\"" { help.trim_end_matches(']') } else { toml.trim_matches('"') };
        Setting {
            section,
            name,
            doc: doc.to_owned(),
            default: default.to_owned(),
            values: range.unwrap_or_else(T::values),
            toml,
        }
    }
}

/// The type of a setting. All of them are scalars that TOML and JSON write alike.
pub(super) trait SettingType: Serialize {
    /// The values of the type, in words.
    fn values() -> String;
}

impl SettingType for bool {
    fn values() -> String {
        "true, false".to_owned()
    }
}

impl SettingType for String {
    fn values() -> String {
        "text".to_owned()
    }
}

impl SettingType for PathBuf {
    fn values() -> String {
        "a path".to_owned()
    }
}

macro_rules! numbers {
    ($($type:ty),*) => { $(impl SettingType for $type {
        fn values() -> String {
            range_in_words(&(<$type>::MIN..))
        }
    })* };
}
numbers!(u32, u64, usize, i32, i64);

macro_rules! words {
    ($($type:ty),*) => { $(impl SettingType for $type {
        fn values() -> String {
            <$type>::value_variants().iter().map(word).collect::<Vec<_>>().join(", ")
        }
    })* };
}
words!(WriteMode, CompressionType, TimestampType, Migration);

/// The word for a value, as flags and file have it.
pub fn word<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}

/// What a declaration's range is in words, if it has one.
macro_rules! range {
    () => {
        None
    };
    ($range:expr) => {
        Some($crate::config::setting::range_in_words(&$range))
    };
}
pub(super) use range;

/// `1 and above`, or `1 to 10`.
pub(super) fn range_in_words<T: Display>(range: &impl RangeBounds<T>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(min), Bound::Included(max)) => format!("{min} to {max}"),
        (Bound::Included(min), Bound::Unbounded) => format!("{min} and above"),
        _ => unreachable!("a setting's range begins with its least value and includes its greatest"),
    }
}

/// Refuses a value outside of its range.
pub(super) fn check<T: Display + PartialOrd>(
    name: &'static str,
    value: &T,
    range: impl RangeBounds<T>,
    reason: &str,
) -> Result<(), ConfigError> {
    if range.contains(value) {
        return Ok(());
    }
    let reason = format!("{reason}; it takes {}", range_in_words(&range));
    Err(ConfigError::Value { name, value: value.to_string(), reason })
}
