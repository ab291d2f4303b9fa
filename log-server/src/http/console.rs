//! The console: a page for people, served from the binary.
//!
//! The page is plain HTML, CSS and ES modules in `log-server/console/`, compiled in as they are, and it reads the JSON
//! API that everybody else reads. It may load nothing from anywhere but here, run no script that is not a file of its
//! own, and put nothing that it has read into the page but text: the browser enforces all three by [`POLICY`].
//!
//! Every file is asked for again with each visit, which costs an answer without a body while it is the same: a broker
//! that was replaced shows its own console, not one from a cache.

use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::write::GzEncoder;
use flate2::{Compression, Crc};

/// What the browser lets the page do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the console.
struct Asset {
    path: &'static str,
    body: &'static [u8],
    content_type: &'static str,
    etag: String,
    gzip: Vec<u8>,
}

/// Path within the console and content of every file.
macro_rules! files {
    ($($path:literal)*) => { [$(($path, include_bytes!(concat!("../../console/", $path)).as_slice())),*] };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let files = files! {
        "index.html" "icon.svg" "tokens.css" "layout.css" "parts.css" "records.css"
        "api.js" "app.js" "boot.js" "config_table.js" "dom.js" "follow.js" "format.js" "graph.js" "notices.js" "parts.js"
        "poll.js" "record_browser.js" "record_detail.js" "record_form.js" "record_list.js" "ring.js" "router.js"
        "scale.js" "shortcuts.js" "sparkline.js" "status.js" "table.js" "theme.js" "ticker.js" "value.js"
        "views/broker.js" "views/clients.js" "views/group.js" "views/groups.js" "views/objectives.js"
        "views/overview.js" "views/topic.js" "views/topics.js"
    };
    files.map(|(path, body)| Asset::new(path, body)).into()
});

impl Asset {
    fn new(path: &'static str, body: &'static [u8]) -> Asset {
        let content_type = match path.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => panic!("no content type for {path}"),
        };
        let mut sum = Crc::new();
        sum.update(body);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(body).expect("a vector takes whatever is written to it");
        let gzip = gzip.finish().expect("a vector takes whatever is written to it");
        Asset { path, body, content_type, etag: format!("\"{:08x}-{:x}\"", sum.sum(), body.len()), gzip }
    }

    /// Answers a request for this file that has `headers`.
    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let fixed: [(HeaderName, &str); 7] = [
            (CONTENT_TYPE, self.content_type),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-cache"),
            (ETAG, &self.etag),
            (VARY, "accept-encoding"),
        ];
        if lists(headers, IF_NONE_MATCH, |tag| tag == "*" || tag.trim_start_matches("W/") == self.etag) {
            return (StatusCode::NOT_MODIFIED, fixed).into_response();
        }
        if lists(headers, ACCEPT_ENCODING, |coding| coding == "gzip") {
            return (fixed, [(CONTENT_ENCODING, "gzip")], self.gzip.as_slice()).into_response();
        }
        (fixed, self.body).into_response()
    }
}

/// Whether a header is a list in which something is `wanted`.
fn lists(headers: &HeaderMap, name: HeaderName, wanted: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(name);
    values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|item| {
        // A weight of 0 would be a refusal. No browser sends one for gzip; one that does gets what it can read.
        wanted(item.trim())
    })
}

/// The page at `/`, and its files beneath `/console/`. HEAD is answered like GET, without the body.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let path =
            if asset.path == "index.html" { "/".to_owned() } else { format!("/console/{}", asset.path) };
        router.route(&path, get(move |headers: HeaderMap| async move { asset.answer(&headers) }))
    })
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
