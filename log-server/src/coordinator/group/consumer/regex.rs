//! Subscriptions by a pattern (KIP-848).

use super::TopicImage;
use crate::coordinator::pattern::compile;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The topics whose names match. A pattern that is none finds none: it comes from a log that another broker wrote.
pub(super) fn resolve(pattern: &str, topics: &TopicImage) -> BTreeSet<Arc<str>> {
    let Ok(regex) = compile(pattern) else { return BTreeSet::new() };
    let names = topics.by_name.keys().filter(|name| !topics.internal.contains(*name));
    names.filter(|name| regex.is_match(name)).cloned().collect()
}
