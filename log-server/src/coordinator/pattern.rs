//! Patterns of names that clients ask with, in the syntax of RE2 (KIP-848, KIP-1152), which the crate `regex` has as well:
//! no look-around, no back references, and so never more than linear time. The whole of a name has to match.

use regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes. Kafka's own bound is that of a string of the protocol.
const PATTERN_BYTES_MAX: usize = 4 << 10;

/// What a compiled pattern may take, in bytes: repetitions of repetitions grow fast.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A pattern that is none, or takes too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern does not compile")]
pub struct InvalidPattern;

/// Compiles a pattern for whole names.
///
/// # Errors
/// It is none, or takes too much memory.
pub fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(InvalidPattern);
    }
    let build = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build()
    };
    // By itself first: `a)(b` would pass between the parentheses below.
    build(pattern).and_then(|_| build(&format!("^(?:{pattern})$"))).map_err(|_| InvalidPattern)
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
