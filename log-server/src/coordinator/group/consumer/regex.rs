//! Subscriptions by a pattern, in the syntax of RE2 (KIP-848), which the crate `regex` has as well: no look-around, no
//! back references, and so never more than linear time. A topic is found if the whole of its name matches.

use super::TopicImage;
use ::regex::{Regex, RegexBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The longest pattern, in bytes. Kafka's own bound is that of a string of the protocol.
const PATTERN_BYTES_MAX: usize = 4 << 10;

/// What a compiled pattern may take, in bytes: repetitions of repetitions grow fast.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A pattern that is none, or takes too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidPattern;

/// Compiles a pattern for whole names.
pub(super) fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(InvalidPattern);
    }
    let build = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build()
    };
    // By itself first: `a)(b` would pass between the parentheses below.
    build(pattern).and_then(|_| build(&format!("^(?:{pattern})$"))).map_err(|_| InvalidPattern)
}

/// The topics whose names match. A pattern that is none finds none: it comes from a log that another broker wrote.
pub(super) fn resolve(pattern: &str, topics: &TopicImage) -> BTreeSet<Arc<str>> {
    let Ok(regex) = compile(pattern) else { return BTreeSet::new() };
    let names = topics.by_name.keys().filter(|name| !topics.internal.contains(*name));
    names.filter(|name| regex.is_match(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        let regex = compile("flights-(eu|us)|orders.*").unwrap();
        for (name, matches) in
            [("flights-eu", true), ("flights-eu2", false), ("orders", true), ("my-orders", false)]
        {
            assert_eq!(regex.is_match(name), matches, "{name}");
        }
        assert!(compile("^a+$").unwrap().is_match("aaa"));
        assert!(!compile("").unwrap().is_match("a"));
    }

    #[test]
    fn what_is_no_pattern_or_grows_without_bounds_is_refused() {
        for pattern in ["[", "a)(b", "(?=a)", r"(a)\1", "*", "((a{1000}){1000}){1000}", &"a".repeat(5_000)] {
            assert_eq!(compile(pattern).err(), Some(InvalidPattern), "{pattern}");
        }
    }
}
