//! The web UI: built files inside the binary, and its one page for every path
//! that the UI's own router knows. Files were compressed when they were built
//! (`web/precompress.mjs`) and are sent as they are.

use std::borrow::Cow;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use rust_embed::RustEmbed;

use crate::hints;

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
/// Vite says in it what the parts of the pages consist of.
const MANIFEST: &str = "manifest.json";
/// Vite writes files here under names that contain a hash of their content.
const HASHED: &str = "assets/";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>castlog</title>\
    <h1>The web UI is not built</h1>\
    <p>Run <code>npm ci &amp;&amp; npm run build</code> in the folder <code>web</code>, then build castlog again.</p>\
    <p>The API is there: see its <a href=\"/docs\">documentation</a>.</p></html>";

/// Encodings by name and by the ending of the file that is in it, the smallest first.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// The file at `path`, or the UI's page. `hls` is the origin of the media.
pub(crate) fn serve(path: &str, headers: &HeaderMap, hls: &str) -> Response {
    let mut response = answer(path, headers, File::embedded);
    let is_page = response.headers().get(header::CONTENT_TYPE).is_some_and(is_html);
    let manifest = Dist::get(MANIFEST).map(|file| file.data).unwrap_or_default();
    if is_page && let Some(Ok(link)) = hints::link(path, hls, &manifest).map(|link| HeaderValue::from_str(&link)) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

fn is_html(media_type: &HeaderValue) -> bool {
    media_type.as_bytes().starts_with(b"text/html")
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
            return respond(name, file, headers, lifetime, get);
        }
        // A missing script must not be answered with a page, or an outdated tab
        // would run HTML as JavaScript.
        if name.starts_with(HASHED) || name.rsplit('/').next().is_some_and(|last| last.contains('.')) {
            let text = "there is no such file\n";
            return (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")], text).into_response();
        }
    }
    match get(INDEX) {
        Some(page) => respond(INDEX, page, headers, "no-cache", get),
        None => (
            StatusCode::NOT_FOUND,
            [(header::CACHE_CONTROL, "no-store")],
            Html(NOT_BUILT),
        )
            .into_response(),
    }
}

fn respond(
    name: &str,
    file: File,
    headers: &HeaderMap,
    lifetime: &'static str,
    get: impl Fn(&str) -> Option<File>,
) -> Response {
    let mut media_type = file.media_type.clone();
    if media_type.starts_with("text/") && !media_type.contains("charset") {
        media_type.push_str("; charset=utf-8");
    }
    let compressed = ENCODINGS
        .into_iter()
        .filter(|(encoding, _)| accepts(headers, encoding))
        .find_map(|(encoding, ending)| Some((get(&format!("{name}{ending}"))?, encoding)));
    let (file, encoding) = compressed.map_or((file, None), |(file, encoding)| (file, Some(encoding)));
    let etag = format!("\"{}\"", hex::encode(&file.hash[..12]));
    let about = [
        (header::CACHE_CONTROL, lifetime.to_owned()),
        (header::ETAG, etag.clone()),
        (header::VARY, header::ACCEPT_ENCODING.to_string()),
    ];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    // What is compressed in front of us for want of a compressed file has a weakened tag.
    if known.is_some_and(|known| known.trim_start_matches("W/") == etag) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    let encoding = encoding.map(|encoding| [(header::CONTENT_ENCODING, encoding)]);
    (about, [(header::CONTENT_TYPE, media_type)], encoding, file.data).into_response()
}

/// Whether the caller takes an encoding that it names; quality counts only as none (RFC 9110, 12.5.3).
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut named = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    named.any(|one| {
        let (name, quality) = one.split_once(';').unwrap_or((one, ""));
        let quality = quality
            .trim()
            .strip_prefix("q=")
            .and_then(|q| q.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case(encoding) && quality != Some(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dist(name: &str) -> Option<File> {
        let media_type = match name {
            INDEX => "text/html",
            "assets/app-1234.js" => "text/javascript",
            "assets/app-1234.js.br" | "assets/app-1234.js.gz" => "application/octet-stream",
            _ => return None,
        };
        Some(File {
            data: name.as_bytes().to_vec().into(),
            media_type: media_type.to_owned(),
            hash: [u8::try_from(name.len()).unwrap(); 32],
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

    #[tokio::test]
    async fn files_are_sent_as_they_were_compressed() {
        for (accepted, name) in [
            ("gzip, deflate, br, zstd", ".br"),
            ("br;q=0, GZIP;q=0.5", ".gz"),
            ("identity", ""),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, accepted.parse().unwrap())]);
            let script = answer("/assets/app-1234.js", &headers, dist);
            assert_eq!(
                header_of(&script, header::CONTENT_TYPE),
                "text/javascript; charset=utf-8"
            );
            let encoding = ENCODINGS
                .into_iter()
                .find(|(_, ending)| *ending == name)
                .map(|(encoding, _)| encoding);
            let said = script
                .headers()
                .get(header::CONTENT_ENCODING)
                .map(|value| value.to_str().unwrap());
            assert_eq!(said, encoding);
            let known = HeaderMap::from_iter([
                (header::ACCEPT_ENCODING, accepted.parse().unwrap()),
                (header::IF_NONE_MATCH, script.headers()[header::ETAG].clone()),
            ]);
            let body = axum::body::to_bytes(script.into_body(), 100).await.unwrap();
            assert_eq!(body, format!("assets/app-1234.js{name}"));
            let again = answer("/assets/app-1234.js", &known, dist);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        }
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
