//! A group's lag objective, as it stands in the group's configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::Uri;

/// How far behind the group may be, in milliseconds; 0 sets no objective.
pub const LAG: &str = "highwater.lag.objective.ms";
/// The part of the window in which that is to hold.
pub const TARGET: &str = "highwater.lag.objective.target";
/// Where changes of state are posted.
pub const WEBHOOK: &str = "highwater.lag.objective.webhook";
/// The window, in milliseconds.
pub const WINDOW: &str = "highwater.lag.objective.window.ms";

/// What [`TARGET`] is where it is not set.
pub const TARGET_DEFAULT: &str = "0.99";
/// What [`WINDOW`] is where it is not set: an hour.
pub const WINDOW_DEFAULT: &str = "3600000";

/// Bytes that a webhook's URL may have.
const WEBHOOK_BYTES_MAX: usize = 2048;

/// How far behind a group may be, and for which part of the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The age that the first unconsumed record may have.
    pub lag: Duration,
    /// The part of the window in which that holds: from 0 to below 1.
    pub target: f64,
    /// The time over which the budget is counted.
    pub window: Duration,
    /// Where changes of state are posted, unless it is where the broker's setting says.
    pub webhook: Option<String>,
}

impl Objective {
    /// The part of the window in which the objective may be missed.
    pub fn budget(&self) -> f64 {
        1.0 - self.target
    }

    /// The objective that a group's configuration sets, if it does.
    pub fn read(config: &BTreeMap<String, String>) -> Option<Objective> {
        let value = |name, default| config.get(name).map_or(default, |value| value.trim());
        let millis = |value: &str| value.parse().ok().map(Duration::from_millis);
        let lag = millis(value(LAG, "0")).filter(|lag| !lag.is_zero())?;
        let target = value(TARGET, TARGET_DEFAULT).parse().ok()?;
        let window = millis(value(WINDOW, WINDOW_DEFAULT))?;
        let webhook = Some(value(WEBHOOK, "")).filter(|url| !url.is_empty()).map(str::to_owned);
        Some(Objective { lag, target, window, webhook })
    }
}

/// Why a webhook's URL is not accepted; `None` for one that is, and for none.
pub fn webhook_reason(url: &str) -> Option<String> {
    if url.is_empty() {
        return None;
    }
    if url.len() > WEBHOOK_BYTES_MAX {
        return Some(format!("a URL has at most {WEBHOOK_BYTES_MAX} bytes"));
    }
    let uri: Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => return Some(format!("no URL: {error}")),
    };
    if uri.scheme_str() != Some("http") {
        return Some("a webhook is http://HOST:PORT/PATH; for https put a proxy in between".to_owned());
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Some("a webhook's URL carries no user and no password".to_owned())
        }
        Some(authority) if !authority.host().is_empty() => None,
        _ => Some("a webhook's URL names a host".to_owned()),
    }
}

/// A webhook's URL as it is shown: who can read what is shown may not be who may post there.
pub fn webhook_shown(url: &str) -> String {
    let authority = url.parse().ok().and_then(|uri: Uri| uri.into_parts().authority);
    authority.map_or_else(|| "…".to_owned(), |authority| format!("http://{authority}/…"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_config::{Kind, collect, definition};

    fn read(set: &[(&str, &str)]) -> Option<Objective> {
        let entries = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Objective::read(&entries.collect())
    }

    #[test]
    fn an_objective_is_what_the_entries_say() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[(LAG, "0"), (TARGET, "0.5")]), None, "0 sets none");
        let plain = read(&[(LAG, " 30000 ")]).unwrap();
        let expected = Objective {
            lag: Duration::from_secs(30),
            target: 0.99,
            window: Duration::from_secs(3600),
            webhook: None,
        };
        assert_eq!(plain, expected);
        let full = [(LAG, "30000"), (TARGET, "0.9"), (WEBHOOK, " http://h:1/x "), (WINDOW, "60000")];
        let expected = Objective {
            target: 0.9,
            window: Duration::from_secs(60),
            webhook: Some("http://h:1/x".to_owned()),
            ..plain
        };
        assert_eq!(read(&full), Some(expected));
        let entries = full.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        assert!(collect(Kind::Group, entries).is_ok());
    }

    #[test]
    fn only_what_can_be_posted_to_is_a_webhook() {
        for url in ["", "http://localhost", "http://127.0.0.1:8080/hooks?room=1", "http://[::1]:80/"] {
            assert_eq!(webhook_reason(url), None, "{url}");
        }
        assert_eq!(
            webhook_shown("http://hooks.internal:8080/services/T0/secret?x=1"),
            "http://hooks.internal:8080/…"
        );
        let long = format!("http://h/{}", "x".repeat(WEBHOOK_BYTES_MAX));
        for url in
            ["https://h/", "h:80", "/path", "http://", "http:///x", "http://a:b@h/", "ht tp://h", &long]
        {
            assert!(webhook_reason(url).is_some(), "{url}");
            assert!(definition(Kind::Group, WEBHOOK).unwrap().check(url).is_err(), "{url}");
        }
        for (name, value) in [(LAG, "-1"), (TARGET, "1"), (TARGET, "NaN"), (WINDOW, "59999")] {
            assert!(definition(Kind::Group, name).unwrap().check(value).is_err(), "{name}={value}");
        }
    }
}
