//! Who may ask: not a web page of somebody else's.
//!
//! The API asks nobody who he is, as the Kafka port does not. But a browser on the same machine runs pages of other
//! origins, and lets them send requests to loopback. So
//!
//! - a request has to name this broker in a way that only its user can: by an address, as `localhost`, or by a name out
//!   of the setting `http_hosts`. A page that has its own name resolved to 127.0.0.1 (DNS rebinding) does not. A
//!   listener beyond loopback takes any name unless that setting has some, since it cannot know its own;
//! - a request that a browser says another origin has caused (`Sec-Fetch-Site`, or `Origin` where there is none) is
//!   refused whatever its method. Following a link here is not such a request;
//! - no answer has a header that lets other origins read it, and every answer has those that keep it from being framed,
//!   embedded or taken for something else.
//!
//! What no browser sends (curl, a library, a scraper) has none of these headers, and passes.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, HOST, HeaderName, HeaderValue, ORIGIN, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiError;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Bytes of a body that a connection is kept over, though the request was refused.
const LEFT_UNREAD_MAX: u64 = 16 << 10;

/// The names by which this broker may be asked.
#[derive(Clone, Debug)]
pub struct Guard {
    names: Arc<[String]>,
    /// Whether other names are refused.
    strict: bool,
}

impl Guard {
    /// For a listener that is bound to `address`, with names as the setting `http_hosts` lists them.
    pub fn new(address: IpAddr, http_hosts: &str) -> Guard {
        let names: Arc<[String]> = http_hosts
            .split(',')
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        Guard { strict: address.is_loopback() || !names.is_empty(), names }
    }

    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
        if let Some(host) = host
            && self.strict
            && !self.knows(name_of(host))
        {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                format!(
                    "the Host header says {host:?}, which is not a name of this broker's; ask for it by its address \
                     or as localhost, or list the name in the setting http_hosts"
                ),
            ));
        }
        match is_foreign(method, headers, host) {
            false => Ok(()),
            true => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "the request comes from a page of another origin, which this API does not serve",
            )),
        }
    }

    fn knows(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.names.contains(&name)
    }
}

/// The host without its port, and without the brackets around an IPv6 address.
fn name_of(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Whether a browser says that a page of another origin has caused the request.
fn is_foreign(method: &Method, headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text(&FETCH_SITE) {
        let link = method.is_safe() && text(&FETCH_MODE) == Some("navigate");
        return !matches!(site, "same-origin" | "none") && !link;
    }
    // Browsers send Sec-Fetch-Site to loopback and over TLS only; elsewhere there is the origin to be compared.
    let Some(origin) = text(&ORIGIN) else { return false };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    !authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
}

/// Refuses what the guard does not let pass, and puts the headers on that keep browsers from misusing an answer.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let long = request.body().size_hint().upper().is_none_or(|bytes| bytes > LEFT_UNREAD_MAX);
    let mut response = match guard.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let refused = !response.status().is_success();
    let headers = response.headers_mut();
    if refused && long {
        // The rest of the body may be unread, and nobody is going to read it to get at the next request.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    fn passes(guard: &Guard, method: Method, headers: &[(&'static str, &str)]) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        guard.check(&method, &headers.collect()).is_ok()
    }

    #[test]
    fn on_loopback_only_addresses_localhost_and_listed_names_are_known() {
        let guard = Guard::new(LOOPBACK, "Broker.example, other");
        for host in ["localhost", "localhost:9080", "127.0.0.1:9080", "[::1]:9080", "a.localhost", "10.0.0.7"]
        {
            assert!(passes(&guard, Method::GET, &[("host", host)]), "{host}");
        }
        for host in ["broker.example", "BROKER.example:80", "broker.example.", "other"] {
            assert!(passes(&guard, Method::GET, &[("host", host)]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:9080", "127.0.0.1.evil.example", "", "[::1"] {
            assert_eq!(passes(&guard, Method::GET, &[("host", host)]), host == "[::1", "{host}");
        }
        assert!(passes(&guard, Method::GET, &[]), "no browser leaves it out");
    }

    #[test]
    fn beyond_loopback_any_name_will_do_until_some_are_listed() {
        assert!(passes(&Guard::new(ANY, ""), Method::GET, &[("host", "broker.internal")]));
        assert!(!passes(&Guard::new(ANY, "broker"), Method::GET, &[("host", "broker.internal")]));
        assert!(passes(&Guard::new(ANY, "broker"), Method::GET, &[("host", "10.0.0.7")]));
    }

    #[test]
    fn pages_of_other_origins_are_refused_and_links_are_followed() {
        let guard = Guard::new(LOOPBACK, "");
        let host = ("host", "localhost:9080");
        for (site, passed) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)]
        {
            assert_eq!(passes(&guard, Method::POST, &[host, ("sec-fetch-site", site)]), passed, "{site}");
            assert_eq!(passes(&guard, Method::GET, &[host, ("sec-fetch-site", site)]), passed, "{site}");
        }
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert!(passes(&guard, Method::GET, &link));
        assert!(!passes(&guard, Method::POST, &link), "a form of another page's");
    }

    #[test]
    fn browsers_that_only_say_the_origin_are_believed() {
        let guard = Guard::new(LOOPBACK, "");
        let host = ("host", "localhost:9080");
        assert!(passes(&guard, Method::POST, &[host, ("origin", "http://localhost:9080")]));
        for origin in ["http://localhost:3000", "https://evil.example", "null", "http://localhost"] {
            assert!(!passes(&guard, Method::POST, &[host, ("origin", origin)]), "{origin}");
        }
        assert!(
            !passes(&guard, Method::POST, &[("origin", "http://localhost:9080")]),
            "nothing to compare with"
        );
    }
}
