//! What a topic may be called.
//!
//! Kafka's rule, which is also what keeps a name from being a path: letters, digits, '.', '_' and '-', at most
//! [`NAME_BYTES_MAX`] of them, and neither "." nor "..".

/// The longest name: it has to fit a directory's name together with a partition's number.
pub const NAME_BYTES_MAX: usize = 249;

/// The topic that holds committed offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// The topic that holds what is known of transactional ids.
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No characters at all.
    #[error("a topic's name cannot be empty")]
    Empty,
    /// "." or "..".
    #[error("a topic cannot be called \".\" or \"..\"")]
    Dots,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("a topic's name has at most {NAME_BYTES_MAX} characters")]
    TooLong,
    /// A character outside of the set.
    #[error("a topic's name consists of ASCII letters, digits, '.', '_' and '-'")]
    Character,
}

/// Checks a name against the rule.
///
/// # Errors
/// The first part of the rule that it breaks.
pub fn check(name: &str) -> Result<(), InvalidName> {
    match name {
        "" => Err(InvalidName::Empty),
        "." | ".." => Err(InvalidName::Dots),
        _ if name.len() > NAME_BYTES_MAX => Err(InvalidName::TooLong),
        _ if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => Ok(()),
        _ => Err(InvalidName::Character),
    }
}

/// Whether two names differ only in '.' and '_', which metrics cannot tell apart. Kafka refuses the second one.
pub fn collide(a: &str, b: &str) -> bool {
    let folded = |byte: u8| if byte == b'.' { b'_' } else { byte };
    a != b && a.len() == b.len() && a.bytes().map(folded).eq(b.bytes().map(folded))
}

/// Whether the topic is the broker's own: clients see it flagged and cannot write to it.
pub fn is_internal(name: &str) -> bool {
    name == CONSUMER_OFFSETS || name == TRANSACTION_STATE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_kafkas() {
        for name in ["a", "A-1_b.c", "...", &"x".repeat(249)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        assert_eq!(check(""), Err(InvalidName::Empty));
        assert_eq!(check(".."), Err(InvalidName::Dots));
        assert_eq!(check(&"x".repeat(250)), Err(InvalidName::TooLong));
        for name in ["a/b", "a b", "\u{e4}", "a\0", "a,b"] {
            assert_eq!(check(name), Err(InvalidName::Character), "{name:?}");
        }
    }

    #[test]
    fn names_that_differ_only_in_dots_collide() {
        assert!(collide("a.b", "a_b"));
        assert!(!collide("a.b", "a.b"));
        assert!(!collide("a.b", "a-b"));
        assert!(!collide("a.b", "a_bc"));
    }
}
