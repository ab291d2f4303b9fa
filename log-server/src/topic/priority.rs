//! The class that a topic is in: which producers go on when the broker is short of something.

use super::catalog::Topic;

/// A topic's configuration that says its class.
pub const PRIORITY_CONFIG: &str = "highwater.priority";

/// A class of topics. A higher one goes on while a lower one is shed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Work that can wait.
    Low,
    /// Everything that nobody has said anything about.
    #[default]
    Normal,
    /// Work that goes on as long as anything does.
    High,
}

impl Priority {
    /// All of them, the lowest first.
    pub const ALL: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

    /// The words that [`PRIORITY_CONFIG`] takes, in the order of [`Priority::ALL`].
    pub const NAMES: &'static [&'static str] = &["low", "normal", "high"];

    /// The word for it.
    pub fn name(self) -> &'static str {
        Priority::NAMES[self as usize]
    }

    /// The class that a topic's configuration puts it in.
    pub fn of(topic: &Topic) -> Priority {
        let word = topic.config.get(PRIORITY_CONFIG).map(|value| value.trim());
        Priority::ALL.into_iter().find(|priority| Some(priority.name()) == word).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::topic::config::check;

    #[test]
    fn a_topic_is_in_the_class_that_it_says_and_else_in_the_normal_one() {
        let topic = |value: Option<&str>| {
            let config = value.map(|value| (PRIORITY_CONFIG.to_owned(), value.to_owned()));
            Priority::of(&Topic::new("t", 1, BTreeMap::from_iter(config)))
        };
        assert_eq!(topic(None), Priority::Normal);
        for priority in Priority::ALL {
            assert_eq!(check(PRIORITY_CONFIG, Some(priority.name())), Ok(()));
            assert_eq!(topic(Some(priority.name())), priority);
        }
        assert_eq!(topic(Some(" low ")), Priority::Low, "as the rule lets it through");
        assert!(check(PRIORITY_CONFIG, Some("urgent")).is_err());
        assert!(Priority::ALL.is_sorted());
    }
}
