//! The API's own description: `/openapi.json`, and `/docs`, a page made from it
//! without scripts and without anything from other servers.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Json, Router,
    http::{HeaderValue, header},
    response::Html,
    routing::get,
};
use serde_json::Value;
use utoipa::{
    OpenApi,
    openapi::{
        OpenApi as Document, Server,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{config::Config, http::Api, problem::Code};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "castlog Live API",
        description = "Commands are entries in the log and answer with their sequence; queries read the views that \
                       follow the log. Errors are RFC 9457 problem details with stable codes.",
        license(name = "Apache-2.0")
    ),
    tags(
        (name = "queries", description = "Reading"),
        (name = "commands", description = "Changing; with the admin token"),
        (name = "session", description = "Signing in to the web pages, whose cookie stands for the admin token"),
        (name = "log", description = "The log itself, for those who run castlog; with the admin token")
    )
)]
struct Base;

/// The document before the paths are added.
pub(crate) fn document(config: &Config) -> Document {
    let mut document = Base::openapi();
    document.servers = Some(vec![Server::new(&config.public_url)]);
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The admin token"))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    document
}

/// The page holds no script; its style is inline so that it is one file.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'");
const CACHE: HeaderValue = HeaderValue::from_static("no-cache");

pub(crate) fn router(document: &Document) -> Router<Arc<Api>> {
    let json = serde_json::to_value(document).unwrap_or_default();
    let page: Arc<str> = page(&json).into();
    Router::new()
        .route(
            "/openapi.json",
            get(async move || ([(header::CACHE_CONTROL, CACHE)], Json(json))),
        )
        .route(
            "/docs",
            get(async move || {
                let headers = [
                    (header::CONTENT_SECURITY_POLICY, POLICY),
                    (header::CACHE_CONTROL, CACHE),
                ];
                (headers, Html(page.to_string()))
            }),
        )
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>castlog Live API</title><style>\
    :root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1.5rem}\
    code,pre{font-family:ui-monospace,monospace;font-size:.9em}h2{margin-top:2.5rem;border-bottom:1px solid #8886}\
    section{margin:1.5rem 0}h3 code{font-size:1rem}table{border-collapse:collapse;width:100%}\
    td,th{border-top:1px solid #8884;padding:.35rem .75rem .35rem 0;text-align:left;vertical-align:top}\
    .m{display:inline-block;min-width:4.5em;font-weight:700}small{opacity:.75}</style></head><body>";

/// Renders the document. Every text in it is escaped.
fn page(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    let mut add = |html: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        page.write_fmt(html).ok();
    };
    let info = &document["info"];
    add(format_args!(
        "<h1>{}</h1><p>{}</p>",
        text(&info["title"]),
        text(&info["description"])
    ));
    add(format_args!(
        "<p><a href=\"/openapi.json\">openapi.json</a></p><h2>Paths</h2>"
    ));
    for (path, methods) in members(&document["paths"]) {
        for (method, operation) in members(methods) {
            add(format_args!(
                "<section><h3><code><span class=\"m\">{}</span> {}</code></h3><p>{}</p>",
                escape(&method.to_uppercase()),
                escape(path),
                text(&operation["summary"])
            ));
            if !operation["description"].is_null() {
                add(format_args!("<p>{}</p>", text(&operation["description"])));
            }
            for parameter in items(&operation["parameters"]) {
                add(format_args!(
                    "<p><code>{}</code> <small>{}</small> {}</p>",
                    text(&parameter["name"]),
                    text(&parameter["in"]),
                    text(&parameter["description"])
                ));
            }
            if let Some(schema) = content(&operation["requestBody"]) {
                add(format_args!("<p>Body: {}</p>", type_of(schema)));
            }
            add(format_args!("<table>"));
            for (status, response) in members(&operation["responses"]) {
                let schema = content(response).map(type_of).unwrap_or_default();
                let description = text(&response["description"]);
                add(format_args!(
                    "<tr><td>{}</td><td>{description}</td><td>{schema}</td></tr>",
                    escape(status)
                ));
            }
            add(format_args!("</table></section>"));
        }
    }
    add(format_args!("<h2>Types</h2>"));
    for (name, schema) in members(&document["components"]["schemas"]) {
        let name = escape(name);
        add(format_args!(
            "<section id=\"type-{name}\"><h3><code>{name}</code></h3><p>{}</p>",
            text(&schema["description"])
        ));
        if schema["properties"].is_null() {
            add(format_args!("<p>{}</p>", type_of(schema)));
        }
        add(format_args!("<table>"));
        for (field, schema) in members(&schema["properties"]) {
            add(format_args!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                escape(field),
                type_of(schema),
                text(&schema["description"])
            ));
        }
        add(format_args!("</table></section>"));
    }
    add(format_args!("<h2>Error codes</h2><table>"));
    for code in Code::ALL {
        let (name, status) = (code.as_str(), code.status().as_u16());
        add(format_args!(
            "<tr id=\"{name}\"><td>{name}</td><td>{status}</td><td>{}</td></tr>",
            escape(code.title())
        ));
    }
    add(format_args!("</table></body></html>"));
    page
}

/// The type that a schema describes, with a link when it has a name.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|reference| reference.rsplit('/').next())
    {
        let name = escape(name);
        return format!("<a href=\"#type-{name}\"><code>{name}</code></a>");
    }
    for alternatives in ["oneOf", "anyOf", "allOf"] {
        if schema[alternatives].is_array() {
            return items(&schema[alternatives])
                .iter()
                .map(type_of)
                .collect::<Vec<_>>()
                .join(" or ");
        }
    }
    if schema["items"].is_object() {
        return format!("list of {}", type_of(&schema["items"]));
    }
    let values = items(&schema["enum"]).iter().map(text).collect::<Vec<_>>().join(", ");
    if !values.is_empty() {
        return values;
    }
    match &schema["type"] {
        Value::Array(types) => types.iter().map(text).collect::<Vec<_>>().join(" or "),
        one => text(one),
    }
}

fn content(of: &Value) -> Option<&Value> {
    of["content"].as_object()?.values().next().map(|media| &media["schema"])
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_code_and_escapes_what_it_shows() {
        let document = serde_json::json!({
            "info": { "title": "<script>", "description": "a & b" },
            "paths": { "/v1/x": { "get": { "summary": "s", "responses": { "200": { "description": "\"ok\"" } } } } },
        });
        let page = page(&document);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
        for code in Code::ALL {
            assert!(page.contains(&format!("id=\"{}\"", code.as_str())));
        }
    }
}
