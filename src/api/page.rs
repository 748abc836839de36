//! The page at `/` for people: one document, its style sheet, its script and its icon, all of this program.
//! What it shows it asks for by the routes that everybody has.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY, VARY};
use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use warp::reply::Response;

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");
const SVG: &str = include_str!("page/page.svg");

/// Nothing but our own files and answers; no text of an answer becomes markup or code.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'",
);
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Whether a browser asks, and not a program.
pub fn wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("text/html")))
}

/// The document. Whether turns can be served, and why not, stands in it, so that its first paint tells.
pub fn html(ready: &Result<(), String>) -> Response {
    let (kind, title, text) = match ready {
        Ok(()) => ("good", "Working", ""),
        Err(reason) => ("bad", "Not ready", reason.as_str()),
    };
    let html = HTML.replace("@kind@", kind).replace("@title@", title).replace("@text@", &escaped(text));
    let mut response = file(html, "text/html; charset=utf-8");
    // Programs get JSON at the same place.
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// `/page.css`.
pub fn css() -> Response {
    file(CSS.to_owned(), "text/css; charset=utf-8")
}

/// `/page.js`.
pub fn js() -> Response {
    file(JS.to_owned(), "text/javascript; charset=utf-8")
}

/// `/page.svg`.
pub fn svg() -> Response {
    file(SVG.to_owned(), "image/svg+xml")
}

fn file(text: String, kind: &'static str) -> Response {
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Its parts must be of one version, and this machine is near.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent in all, uncompressed.
    const MOST: usize = 60_000;

    #[test]
    fn it_is_light_and_all_of_it_our_own() {
        let weight = HTML.len() + CSS.len() + JS.len() + SVG.len();
        assert!(weight <= MOST, "{weight}");
        for (name, text) in [("html", HTML), ("css", CSS), ("js", JS)] {
            // The one name of a place is our own, with a browser's scheme in its stead.
            let others = text.replace("`http://${location.host}`", "");
            assert!(!others.contains("://"), "{name} names another place");
        }
        for word in [" style=", " onclick=", "<style", "javascript:"] {
            assert!(!HTML.contains(word), "{word}");
        }
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Storage"] {
            assert!(!JS.contains(word), "{word}");
        }
        assert!(!POLICY.to_str().unwrap().contains("unsafe"));
    }

    #[test]
    fn browsers_are_told_from_programs() {
        let wants = |accept: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            wanted(&headers)
        };
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        assert!(wants(&[browser]) && wants(&["Text/HTML;q=1"]) && wants(&["application/json", "text/html"]));
        assert!(!wants(&[]) && !wants(&["*/*"]) && !wants(&["application/json"]) && !wants(&["text/htmlx"]));
    }

    #[test]
    fn a_reason_is_text() {
        assert_eq!(escaped("a <b> & \"c\" 'd'"), "a &lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
        let marks = ["@kind@", "@title@", "@text@"];
        assert!(marks.iter().all(|mark| HTML.matches(mark).count() == 1));
    }
}
