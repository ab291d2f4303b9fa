//! Every file of the console is served, and the page refers to nothing that is not.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use axum::body::to_bytes;
use axum::http::HeaderValue;
use flate2::read::GzDecoder;
use regex::Regex;

use super::*;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/console");

fn asset(path: &str) -> &'static Asset {
    ASSETS.iter().find(|asset| asset.path == path).unwrap_or_else(|| panic!("{path} is not served"))
}

fn with(name: HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
}

async fn body_of(response: Response) -> Vec<u8> {
    to_bytes(response.into_body(), 1 << 20).await.unwrap().into()
}

/// Paths of all files beneath a directory, from there.
fn files_in(directory: &Path, prefix: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| {
            let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => files_in(&entry.path(), &format!("{name}/")),
                false => BTreeSet::from([name]),
            }
        })
        .collect()
}

#[test]
fn the_files_of_the_console_are_those_that_are_served() {
    let served: BTreeSet<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
    assert_eq!(served, files_in(Path::new(DIRECTORY), ""));
}

/// What a file refers to, as paths within the console.
fn references(asset: &Asset) -> Vec<String> {
    let text = std::str::from_utf8(asset.body).unwrap();
    let (pattern, directory) = match asset.content_type {
        content_type if content_type.starts_with("text/html") => (r#"(?:href|src)="console/([^"]+)""#, ""),
        content_type if content_type.starts_with("text/javascript") => (
            r#"(?:from|import\()\s*"(\.[^"]+)""#,
            asset.path.rsplit_once('/').map_or("", |(directory, _)| directory),
        ),
        _ => (r#"url\(([^)]+)\)"#, ""),
    };
    let found = Regex::new(pattern).unwrap();
    let resolve = |reference: &str| match (reference.strip_prefix("../"), reference.strip_prefix("./")) {
        (Some(above), _) => above.to_owned(),
        (_, Some(beside)) if !directory.is_empty() => format!("{directory}/{beside}"),
        (_, Some(beside)) => beside.to_owned(),
        _ => reference.to_owned(),
    };
    found.captures_iter(text).map(|captures| resolve(&captures[1])).collect()
}

#[test]
fn whatever_the_page_refers_to_is_served_and_whatever_is_served_is_referred_to() {
    let mut referred = BTreeSet::from(["index.html".to_owned()]);
    for from in ASSETS.iter() {
        for reference in references(from) {
            asset(&reference);
            referred.insert(reference);
        }
    }
    let served: BTreeSet<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
    assert_eq!(referred, served);
}

#[test]
fn the_page_has_no_script_or_style_of_its_own_and_nothing_from_elsewhere() {
    let page = std::str::from_utf8(asset("index.html").body).unwrap();
    for forbidden in [r"<script(?:\s[^>]*)?>[^<]", r"<style", r"\sstyle=", r"\son[a-z]+=", r"javascript:"] {
        assert!(!Regex::new(forbidden).unwrap().is_match(page), "the page has {forbidden}");
    }
    let elsewhere = Regex::new(r#"["'(](?:https?:)?//[^"')]"#).unwrap();
    for asset in ASSETS.iter() {
        let text = std::str::from_utf8(asset.body).unwrap().replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.is_match(&text), "{} refers to another host", asset.path);
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(sink), "{} uses {sink}", asset.path);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_known_is_not_sent_again() {
    let page = asset("index.html");
    let first = page.answer(&HeaderMap::new());
    assert_eq!(first.status(), StatusCode::OK);
    let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
    assert_eq!(body_of(first).await, page.body);
    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let again = page.answer(&with(IF_NONE_MATCH, &known));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(again.headers()[ETAG], etag);
        assert!(body_of(again).await.is_empty());
    }
    assert_eq!(page.answer(&with(IF_NONE_MATCH, "\"other\"")).status(), StatusCode::OK);
}

#[tokio::test]
async fn a_file_is_compressed_for_who_can_read_it() {
    for asset in ASSETS.iter() {
        let answer = asset.answer(&with(ACCEPT_ENCODING, "br, gzip"));
        assert_eq!(answer.headers()[CONTENT_ENCODING], "gzip");
        let mut unpacked = Vec::new();
        GzDecoder::new(body_of(answer).await.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, asset.body, "{}", asset.path);
        let plain = asset.answer(&with(ACCEPT_ENCODING, "br"));
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
    }
}

#[test]
fn the_browser_is_told_to_be_strict() {
    for asset in ASSETS.iter() {
        let answer = asset.answer(&HeaderMap::new());
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}
