//! Which subscriptions a client falls under, and what they come to together (KIP-714).

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;

use super::Subscription;

/// What a client tells of itself, by the names that subscriptions match: `client_id` and the others of
/// [`MATCH_KEYS`](crate::resource_config::MATCH_KEYS).
pub type ClientFacts = BTreeMap<&'static str, String>;

/// How often clients push for a subscription that does not say.
const INTERVAL_MS_DEFAULT: u64 = 300_000;

impl Subscription {
    /// What a client is asked for: by `self`, which is for all of them, and by every one of `named` that it matches. The
    /// metrics of all of these, in the shortest interval. One without metrics asks for nothing.
    #[must_use]
    pub fn joined(
        &self,
        named: &BTreeMap<String, BTreeMap<String, String>>,
        client: &ClientFacts,
    ) -> Subscription {
        let mut metrics: Vec<&str> = self.metrics.iter().map(String::as_str).collect();
        let mut interval = if metrics.is_empty() { Duration::MAX } else { self.interval };
        for config in named.values() {
            let wanted = config.get("metrics").map(String::as_str).unwrap_or_default();
            let wanted: Vec<&str> = words(wanted).map(|word| if word == "*" { "" } else { word }).collect();
            if wanted.is_empty() || !matches(config.get("match").map(String::as_str), client) {
                continue;
            }
            for word in wanted {
                if !metrics.contains(&word) {
                    metrics.push(word);
                }
            }
            let own = config.get("interval.ms").and_then(|value| value.trim().parse().ok());
            interval = interval.min(Duration::from_millis(own.unwrap_or(INTERVAL_MS_DEFAULT)));
        }
        if interval == Duration::MAX {
            interval = self.interval;
        }
        match metrics.contains(&"") {
            true => Subscription::new("*", interval),
            false => Subscription::new(&metrics.join(","), interval),
        }
    }
}

/// Whether all patterns match, each the whole of what the client tells.
fn matches(patterns: Option<&str>, client: &ClientFacts) -> bool {
    words(patterns.unwrap_or_default()).all(|word| {
        let Some((name, pattern)) = word.split_once('=') else { return false };
        let whole = Regex::new(&format!("^(?:{})$", pattern.trim()));
        let fact = client.get(name.trim());
        whole.is_ok_and(|whole| fact.is_some_and(|fact| whole.is_match(fact)))
    })
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(all: &[(&str, &[(&str, &str)])]) -> BTreeMap<String, BTreeMap<String, String>> {
        let config = |entries: &[(&str, &str)]| {
            entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        all.iter().map(|(name, entries)| ((*name).to_owned(), config(entries))).collect()
    }

    #[test]
    fn a_client_is_asked_for_what_all_its_subscriptions_want() {
        let nothing = Subscription::new("", Duration::from_secs(60));
        let client = ClientFacts::from([
            ("client_id", "loader-1".to_owned()),
            ("client_software_name", "librdkafka".to_owned()),
        ]);
        let all = named(&[
            ("a", &[("metrics", "org.a"), ("interval.ms", "9000"), ("match", "client_id=loader-.*")]),
            (
                "b",
                &[
                    ("metrics", "org.b,org.c"),
                    ("interval.ms", "5000"),
                    ("match", "client_software_name=librdkafka"),
                ],
            ),
            ("other", &[("metrics", "*"), ("interval.ms", "100"), ("match", "client_id=loader")]),
            ("both", &[("metrics", "org.d"), ("match", "client_id=loader-1,client_software_name=java")]),
            ("empty", &[("interval.ms", "100")]),
        ]);
        let joined = nothing.joined(&all, &client);
        assert_eq!(joined.metrics, ["org.a", "org.b", "org.c"]);
        assert_eq!(joined.interval, Duration::from_secs(5));
        assert_eq!(
            nothing.joined(&all, &ClientFacts::new()),
            nothing,
            "nothing matches one that tells nothing"
        );

        let everything = Subscription::new("*", Duration::from_secs(60));
        let joined = everything.joined(&all, &client);
        assert_eq!(joined.metrics, [""], "whatever the others want is in it");
        assert_eq!(joined.interval, Duration::from_secs(5));
        assert_ne!(joined.id, everything.id, "so that clients ask again");
        let default = named(&[("s", &[("metrics", "org.a")])]);
        assert_eq!(nothing.joined(&default, &client).interval, Duration::from_secs(300));
    }
}
