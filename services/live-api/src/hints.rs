//! What a page asks for next, named in the header of the page itself (RFC 8288), so
//! that the browser asks for it while it still loads the page's first script. What
//! files a part of the pages consists of is in the manifest that Vite writes.

use std::collections::BTreeMap;

use castlog_log::BroadcastId;
use serde::Deserialize;

/// The page of all paths, by its name in the manifest.
const PAGE: &str = "index.html";
/// What the watch page loads beside it (`web/src/app.tsx`): its part of the pages and the player.
const OF_WATCH: [&str; 2] = ["src/pages/watch.tsx", "node_modules/hls.js/dist/hls.mjs"];

/// A script, and what it takes to run it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunk {
    file: String,
    css: Vec<String>,
    imports: Vec<String>,
}

/// The value of the `Link` header for the page of a path. `hls` is the origin of the
/// media, `manifest` Vite's; without one the scripts are not named.
///
/// An answer is named to the letter as the page asks for it (`web/src/api.ts`): the
/// browser takes no other for it.
pub(crate) fn link(path: &str, hls: &str, manifest: &[u8]) -> Option<String> {
    let answer = |what: &str| format!("<{what}>; rel=preload; as=fetch; crossorigin=anonymous");
    if path == "/" {
        return Some(answer("/v1/broadcasts?state=live&limit=100"));
    }
    let id: BroadcastId = path.strip_prefix("/watch/")?.parse().ok()?;
    let mut links = vec![
        answer(&format!("/v1/broadcasts/{id}")),
        format!("<{hls}>; rel=preconnect; crossorigin=anonymous"),
    ];
    let manifest: BTreeMap<String, Chunk> = serde_json::from_slice(manifest).unwrap_or_default();
    let mut seen = vec![PAGE];
    for name in OF_WATCH {
        name_files(&manifest, name, &mut seen, &mut links);
    }
    Some(links.join(", "))
}

/// Adds the files of a chunk and of those that it imports, each once. What the page
/// itself names is left out, with what comes of it.
fn name_files<'a>(
    manifest: &'a BTreeMap<String, Chunk>,
    name: &'a str,
    seen: &mut Vec<&'a str>,
    links: &mut Vec<String>,
) {
    let by_page = manifest
        .get(PAGE)
        .is_some_and(|page| page.imports.iter().any(|import| import == name));
    let Some(chunk) = manifest.get(name).filter(|_| !by_page && !seen.contains(&name)) else {
        return;
    };
    seen.push(name);
    links.push(format!("</{}>; rel=modulepreload", chunk.file));
    let styles = chunk.css.iter();
    links.extend(styles.map(|file| format!("</{file}>; rel=preload; as=style; crossorigin=anonymous")));
    for import in &chunk.imports {
        name_files(manifest, import, seen, links);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &[u8] = br#"{
        "index.html": { "file": "assets/index-1.js", "isEntry": true, "imports": ["_shared.js"], "css": ["assets/index-1.css"] },
        "_shared.js": { "file": "assets/shared-2.js" },
        "_badge.js": { "file": "assets/badge-3.js", "imports": ["_shared.js"] },
        "src/pages/watch.tsx": { "file": "assets/watch-4.js", "imports": ["_shared.js", "_badge.js", "index.html"], "css": ["assets/watch-4.css"] },
        "node_modules/hls.js/dist/hls.mjs": { "file": "assets/hls-5.js", "imports": ["_badge.js"] }
    }"#;

    #[test]
    fn a_page_names_what_it_asks_for_next() {
        let hls = "https://cdn.example";
        let live = link("/", hls, MANIFEST).unwrap();
        assert_eq!(
            live,
            "</v1/broadcasts?state=live&limit=100>; rel=preload; as=fetch; crossorigin=anonymous"
        );
        let id = BroadcastId::generate();
        let watch = link(&format!("/watch/{id}"), hls, MANIFEST).unwrap();
        let named: Vec<&str> = watch.split(", ").collect();
        assert_eq!(
            named,
            [
                &*format!("</v1/broadcasts/{id}>; rel=preload; as=fetch; crossorigin=anonymous"),
                "<https://cdn.example>; rel=preconnect; crossorigin=anonymous",
                "</assets/watch-4.js>; rel=modulepreload",
                "</assets/watch-4.css>; rel=preload; as=style; crossorigin=anonymous",
                "</assets/badge-3.js>; rel=modulepreload",
                "</assets/hls-5.js>; rel=modulepreload",
            ]
        );
        assert_eq!(link(&format!("/watch/{id}"), hls, b"").unwrap().split(", ").count(), 2);
        for other in ["/search", "/watch/x>", "/studio"] {
            assert_eq!(link(other, hls, MANIFEST), None, "{other}");
        }
    }
}
