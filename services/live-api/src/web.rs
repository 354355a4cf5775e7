//! The web UI: built files inside the binary, and its one page for every path
//! that the UI's own router knows.

use std::borrow::Cow;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Dist;

/// A built file.
struct File {
    data: Cow<'static, [u8]>,
    media_type: String,
    hash: [u8; 32],
}

impl File {
    fn embedded(name: &str) -> Option<Self> {
        let file = Dist::get(name)?;
        let (media_type, hash) = (file.metadata.mimetype().to_owned(), file.metadata.sha256_hash());
        Some(Self {
            data: file.data,
            media_type,
            hash,
        })
    }
}

const INDEX: &str = "index.html";
/// Vite writes files here under names that contain a hash of their content.
const HASHED: &str = "assets/";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>castlog</title>\
    <h1>The web UI is not built</h1>\
    <p>Run <code>npm ci &amp;&amp; npm run build</code> in the folder <code>web</code>, then build castlog again.</p>\
    <p>The API is there: see its <a href=\"/docs\">documentation</a>.</p></html>";

/// The file at `path`, or the UI's page.
pub(crate) fn serve(path: &str, headers: &HeaderMap) -> Response {
    answer(path, headers, File::embedded)
}

fn answer(path: &str, headers: &HeaderMap, get: impl Fn(&str) -> Option<File>) -> Response {
    let name = path.trim_start_matches('/');
    if !name.is_empty() && name != INDEX {
        if let Some(file) = get(name) {
            let lifetime = if name.starts_with(HASHED) {
                "public, max-age=31536000, immutable"
            } else {
                "no-cache"
            };
            return respond(file, headers, lifetime);
        }
        // A missing script must not be answered with a page, or an outdated tab
        // would run HTML as JavaScript.
        if name.starts_with(HASHED) || name.rsplit('/').next().is_some_and(|last| last.contains('.')) {
            let text = "there is no such file\n";
            return (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")], text).into_response();
        }
    }
    match get(INDEX) {
        Some(page) => respond(page, headers, "no-cache"),
        None => (
            StatusCode::NOT_FOUND,
            [(header::CACHE_CONTROL, "no-store")],
            Html(NOT_BUILT),
        )
            .into_response(),
    }
}

fn respond(file: File, headers: &HeaderMap, lifetime: &'static str) -> Response {
    let etag = format!("\"{}\"", hex::encode(&file.hash[..12]));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    // The compression in front weakens the tag of what it compresses.
    if known.is_some_and(|known| known.trim_start_matches("W/") == etag) {
        return (
            StatusCode::NOT_MODIFIED,
            [(header::ETAG, etag), (header::CACHE_CONTROL, lifetime.to_owned())],
        )
            .into_response();
    }
    let mut media_type = file.media_type;
    if media_type.starts_with("text/") && !media_type.contains("charset") {
        media_type.push_str("; charset=utf-8");
    }
    let about = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, lifetime.to_owned()),
        (header::ETAG, etag),
    ];
    (about, file.data).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dist(name: &str) -> Option<File> {
        let media_type = match name {
            INDEX => "text/html",
            "assets/app-1234.js" => "text/javascript",
            _ => return None,
        };
        Some(File {
            data: name.as_bytes().to_vec().into(),
            media_type: media_type.to_owned(),
            hash: [7; 32],
        })
    }

    fn header_of(response: &Response, name: header::HeaderName) -> &str {
        response.headers().get(name).unwrap().to_str().unwrap()
    }

    #[test]
    fn the_page_is_asked_for_again_and_hashed_files_are_not() {
        for path in ["/", "/index.html", "/watch/01k", "/studio"] {
            let page = answer(path, &HeaderMap::new(), dist);
            assert_eq!(page.status(), StatusCode::OK, "{path}");
            assert_eq!(header_of(&page, header::CACHE_CONTROL), "no-cache");
            assert_eq!(header_of(&page, header::CONTENT_TYPE), "text/html; charset=utf-8");
        }
        let script = answer("/assets/app-1234.js", &HeaderMap::new(), dist);
        assert_eq!(
            header_of(&script, header::CACHE_CONTROL),
            "public, max-age=31536000, immutable"
        );
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, script.headers()[header::ETAG].clone())]);
        assert_eq!(
            answer("/assets/app-1234.js", &known, dist).status(),
            StatusCode::NOT_MODIFIED
        );
    }

    #[test]
    fn missing_files_are_missing() {
        for path in ["/assets/old-99.js", "/robots.txt", "/../Cargo.toml"] {
            assert_eq!(
                answer(path, &HeaderMap::new(), dist).status(),
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }

    #[test]
    fn without_a_build_a_page_says_how_to_make_one() {
        let page = answer("/", &HeaderMap::new(), |_| None);
        assert_eq!(page.status(), StatusCode::NOT_FOUND);
        assert!(NOT_BUILT.contains("npm run build"));
    }
}
