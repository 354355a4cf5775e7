//! Search over the `broadcasts` index in Meilisearch, with a key that can do
//! nothing else.
//!
//! Values of one facet are alternatives, facets narrow each other. The counts of
//! a facet that is itself selected are computed without its own selection (a
//! second query in the same request), so that they say what choosing another
//! value would give.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use castlog_meili::{Error, Meili};
use chrono::DateTime;
use meilisearch_sdk::{
    errors::{Error as Sdk, ErrorCode},
    search::{SearchQuery, SearchResult, Selectors},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{number, unknown_parameter},
    input::{MARKS, MAX_TAG, MAX_TITLE},
    model,
    problem::{Code, Problem},
    statistics::LiveStatistics,
};

/// How long Meilisearch may take: a search takes milliseconds, so it is stuck or overloaded.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most selected values of a facet: bounds the filter expression.
const MAX_SELECTED: usize = 32;
/// Longest search text in characters; Meilisearch looks at the first ten words.
const MAX_TEXT: usize = 2 * MAX_TITLE;
const MAX_PAGE_SIZE: usize = 100;
/// Meilisearch finds 1000 documents at most by default, so later pages are empty anyway.
const MAX_PAGE: usize = 1000;

/// The facets, by the names of the query parameters and of the index's attributes.
const FACETS: [&str; 4] = ["tags", "resolutions", "category", "language"];
/// Attributes to sort by.
const SORTS: [&str; 2] = ["started_at", "viewers"];

/// What to search for.
#[derive(Debug, Clone, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Words to find in title, tags and owner; empty = everything.
    #[param(required = false)]
    q: String,
    /// Has one of these tags.
    #[param(required = false)]
    tags: Vec<String>,
    /// Can be watched in one of these heights.
    #[param(required = false)]
    resolutions: Vec<u32>,
    /// Is in one of these categories.
    #[param(required = false)]
    category: Vec<String>,
    /// Is in one of these languages.
    #[param(required = false)]
    language: Vec<String>,
    /// `started_at:desc`, `started_at:asc`, `viewers:desc` or `viewers:asc`. The default is the
    /// best match first, or, without words, the newest first.
    #[param(required = false)]
    sort: Option<String>,
    /// From 1.
    #[param(required = false, minimum = 1, maximum = 1000, default = 1)]
    page: usize,
    /// Hits on a page.
    #[param(required = false, minimum = 1, maximum = 100, default = 20)]
    page_size: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            q: String::new(),
            tags: Vec::new(),
            resolutions: Vec::new(),
            category: Vec::new(),
            language: Vec::new(),
            sort: None,
            page: 1,
            page_size: 20,
        }
    }
}

impl Query {
    /// Reads the parameters of a URL.
    pub(crate) fn read(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut query = Self::default();
        for (name, value) in pairs {
            // A form sends its empty fields too.
            if value.is_empty() {
                continue;
            }
            match &*name {
                "q" => query.q = short("q", value, MAX_TEXT)?,
                "tags" => select(&mut query.tags, "tags", short("tags", value, MAX_TAG)?)?,
                "resolutions" => {
                    let height = number("resolutions", &value, 1, 65_535)?;
                    select(&mut query.resolutions, "resolutions", height)?;
                }
                "category" => select(&mut query.category, "category", short("category", value, 64)?)?,
                "language" => select(&mut query.language, "language", short("language", value, 35)?)?,
                "sort" => query.sort = Some(sort(value)?),
                "page" => query.page = number("page", &value, 1, MAX_PAGE)?,
                "page_size" => query.page_size = number("page_size", &value, 1, MAX_PAGE_SIZE)?,
                _ => return Err(unknown_parameter(&name)),
            }
        }
        if query.sort.is_none() && query.q.trim().is_empty() {
            query.sort = Some("started_at:desc".to_owned());
        }
        Ok(query)
    }

    /// The filter of one facet; `None` when nothing of it is selected.
    fn clause(&self, facet: &str) -> Option<String> {
        let values: Vec<String> = match facet {
            "tags" => self.tags.iter().map(|v| quoted(v)).collect(),
            "category" => self.category.iter().map(|v| quoted(v)).collect(),
            "language" => self.language.iter().map(|v| quoted(v)).collect(),
            _ => self.resolutions.iter().map(u32::to_string).collect(),
        };
        (!values.is_empty()).then(|| format!("{facet} IN [{}]", values.join(", ")))
    }

    /// The filter of every selected facet but `except`.
    fn filter(&self, except: &str) -> String {
        let mut filter = String::new();
        for clause in FACETS.iter().filter(|f| **f != except).filter_map(|f| self.clause(f)) {
            let and = if filter.is_empty() { "" } else { " AND " };
            // Writing to a string does not fail.
            write!(filter, "{and}{clause}").ok();
        }
        filter
    }
}

fn short(name: &str, value: String, longest: usize) -> Result<String, Problem> {
    let length = value.chars().count();
    if length > longest {
        let detail = format!("{name}: {length} characters are over the limit of {longest}");
        return Err(Problem::new(Code::Malformed, detail));
    }
    Ok(value)
}

fn select<T: PartialEq>(selected: &mut Vec<T>, name: &str, value: T) -> Result<(), Problem> {
    if !selected.contains(&value) {
        selected.push(value);
    }
    if selected.len() > MAX_SELECTED {
        return Err(Problem::new(
            Code::Malformed,
            format!("{name}: more than {MAX_SELECTED} values are selected"),
        ));
    }
    Ok(())
}

fn sort(value: String) -> Result<String, Problem> {
    let known = value
        .split_once(':')
        .is_some_and(|(attribute, order)| SORTS.contains(&attribute) && matches!(order, "asc" | "desc"));
    if known {
        Ok(value)
    } else {
        Err(Problem::new(
            Code::Malformed,
            "sort: see the API document for its values",
        ))
    }
}

/// A value in the syntax of Meilisearch's filters: in double quotes, inside of
/// which a backslash takes the meaning from a quote or another backslash.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A document of the index, as the indexer writes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Document {
    id: String,
    title: String,
    tags: Vec<String>,
    owner: String,
    category: Option<String>,
    language: Option<String>,
    resolutions: Vec<u32>,
    frame_rate: f64,
    started_at: Option<Time>,
    viewers: u64,
}

/// A time in the index: text, or the milliseconds that it is sorted by.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Time {
    Text(String),
    Milliseconds(i64),
}

/// A live broadcast that was found.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Hit {
    id: String,
    title: String,
    tags: Vec<String>,
    owner: String,
    category: String,
    language: String,
    /// Available heights in pixels, highest first.
    resolutions: Vec<u32>,
    /// Frames per second of the source.
    frame_rate: f64,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<String>,
    /// How many watch, over all edges.
    viewers: u64,
    /// Whether its encoder is gone for the moment.
    interrupted: bool,
    /// The newest thumbnail, which is replaced every few seconds; null while there is no picture.
    thumbnail_url: Option<String>,
    highlighted: Highlighted,
}

/// Attributes with the matches enclosed in U+E000 and U+E001.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Highlighted {
    title: String,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Answer {
    hits: Vec<Hit>,
    /// Hits on all pages.
    total: usize,
    page: usize,
    page_size: usize,
    /// Per facet, how many hits each value has.
    facets: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// Milliseconds that the index took.
    took_ms: usize,
}

/// The search index.
pub(crate) struct Search {
    meili: Meili,
    index: String,
}

impl Search {
    pub(crate) fn new(config: &castlog_meili::Config, index: &str) -> Result<Self, Error> {
        Ok(Self {
            meili: Meili::new(config)?.with_request_limit(TIMEOUT),
            index: index.to_owned(),
        })
    }

    pub(crate) async fn search(&self, query: &Query) -> Result<Answer, Problem> {
        let error = match self.meili.call(&self.index, self.ask(query)).await {
            Ok(answer) => return Ok(answer),
            // Nothing has been live before the indexer has made the index.
            Err(Error::MissingIndex { .. }) => return Ok(Answer::empty(query)),
            Err(error) => error,
        };
        let detail = match (&error, error.code()) {
            // The indexer sets the settings again that somebody has taken away.
            (
                _,
                Some(ErrorCode::InvalidSearchFacets | ErrorCode::InvalidSearchFilter | ErrorCode::InvalidSearchSort),
            ) => {
                tracing::warn!(error = error.with_cause(), "the search index lacks its settings");
                "the search index is being prepared; try again"
            }
            (_, Some(ErrorCode::InvalidApiKey | ErrorCode::MissingAuthorizationHeader)) => {
                tracing::error!(error = error.with_cause(), "the key may not search the index");
                "the search index does not answer; try again"
            }
            (Error::Config { .. }, _) => {
                tracing::error!(error = error.with_cause(), "the search index refuses a search");
                return Err(Problem::new(Code::Internal, "the search index refuses this search"));
            }
            _ => {
                tracing::warn!(error = error.with_cause(), "the search index cannot be searched");
                "the search index does not answer; try again"
            }
        };
        Err(Problem::new(Code::SearchUnavailable, detail))
    }

    async fn ask(&self, query: &Query) -> Result<Answer, Sdk> {
        let index = self.meili.index(&self.index);
        let selected: Vec<&str> = FACETS.into_iter().filter(|f| query.clause(f).is_some()).collect();
        let others: Vec<&str> = FACETS.into_iter().filter(|f| !selected.contains(f)).collect();
        let sort: Vec<&str> = query.sort.iter().map(String::as_str).collect();
        let [open, close] = MARKS.map(|mark| mark.to_string());
        let (filter, own) = (
            query.filter(""),
            selected.iter().map(|f| query.filter(f)).collect::<Vec<_>>(),
        );

        let mut main = SearchQuery::new(&index);
        main.with_query(&query.q)
            .with_page(query.page)
            .with_hits_per_page(query.page_size)
            .with_facets(Selectors::Some(&others))
            .with_attributes_to_highlight(Selectors::Some(&["title"]))
            .with_highlight_pre_tag(&open)
            .with_highlight_post_tag(&close)
            .with_index_uid();
        if !filter.is_empty() {
            main.with_filter(&filter);
        }
        if !sort.is_empty() {
            main.with_sort(&sort);
        }
        let mut multi = self.meili.client().multi_search();
        multi.with_search_query(main);
        for (facet, filter) in selected.iter().zip(&own) {
            let mut counts = SearchQuery::new(&index);
            counts
                .with_query(&query.q)
                .with_limit(0)
                .with_facets(Selectors::Some(std::slice::from_ref(facet)))
                .with_index_uid();
            if !filter.is_empty() {
                counts.with_filter(filter);
            }
            multi.with_search_query(counts);
        }
        let response = multi.execute::<Document>().await?;

        let mut answer = Answer::empty(query);
        for (place, results) in response.results.into_iter().enumerate() {
            answer.took_ms += results.processing_time_ms;
            for (facet, counts) in results.facet_distribution.into_iter().flatten() {
                if let Some(facet) = FACETS.into_iter().find(|f| *f == facet) {
                    answer.facets.insert(facet, counts.into_iter().collect());
                }
            }
            if place == 0 {
                answer.total = results.total_hits.unwrap_or_default();
                answer.hits = results.hits.into_iter().map(Hit::from).collect();
            }
        }
        Ok(answer)
    }
}

impl Answer {
    /// Says of each hit what is known of it at this moment.
    pub(crate) fn now(&mut self, statistics: &LiveStatistics, hls: &str) {
        let ids: Vec<String> = self.hits.iter().map(|hit| hit.id.clone()).collect();
        let seen = statistics.of(ids.iter().map(String::as_str));
        for hit in &mut self.hits {
            let Some(seen) = seen.get(hit.id.as_str()) else {
                continue;
            };
            hit.viewers = seen.viewers;
            hit.interrupted = seen.interrupted;
            let session = seen.pictured_session.as_deref();
            hit.thumbnail_url = session.map(|session| model::thumbnail(hls, &hit.id, session));
        }
    }

    fn empty(query: &Query) -> Self {
        Self {
            hits: Vec::new(),
            total: 0,
            page: query.page,
            page_size: query.page_size,
            facets: FACETS.into_iter().map(|facet| (facet, BTreeMap::new())).collect(),
            took_ms: 0,
        }
    }
}

impl From<SearchResult<Document>> for Hit {
    fn from(found: SearchResult<Document>) -> Self {
        let document = found.result;
        let marked = found
            .formatted_result
            .as_ref()
            .and_then(|f| f.get("title"))
            .and_then(|title| title.as_str());
        let title = marked.unwrap_or(&document.title).to_owned();
        let mut resolutions = document.resolutions;
        resolutions.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            id: document.id,
            title: document.title,
            tags: document.tags,
            owner: document.owner,
            category: document.category.unwrap_or_default(),
            language: document.language.unwrap_or_default(),
            resolutions,
            frame_rate: document.frame_rate,
            started_at: document.started_at.and_then(|time| match time {
                Time::Text(text) => Some(text),
                Time::Milliseconds(ms) => DateTime::from_timestamp_millis(ms).map(model::rfc3339),
            }),
            viewers: document.viewers,
            interrupted: false,
            thumbnail_url: None,
            highlighted: Highlighted { title },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Query, Code> {
        Query::read(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()).map_err(|p| p.code)
    }

    #[test]
    fn repeated_values_are_alternatives_and_facets_narrow() {
        let query = read("q=a&tags=x&tags=y%20z&tags=x&resolutions=720&category=&page=2").unwrap();
        assert_eq!(query.filter(""), "tags IN [\"x\", \"y z\"] AND resolutions IN [720]");
        assert_eq!(query.filter("tags"), "resolutions IN [720]");
        assert_eq!(query.filter("resolutions"), "tags IN [\"x\", \"y z\"]");
        assert_eq!((query.page, query.page_size, query.sort), (2, 20, None));
        assert_eq!(read("").unwrap().sort.as_deref(), Some("started_at:desc"));
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(
            quoted("a\" OR id EXISTS OR tags = \""),
            "\"a\\\" OR id EXISTS OR tags = \\\"\""
        );
        assert_eq!(quoted("\\"), "\"\\\\\"");
        assert_eq!(quoted("\\\" OR 1"), "\"\\\\\\\" OR 1\"");
    }

    #[test]
    fn bad_parameters_are_refused() {
        let long = format!("q={}", "x".repeat(MAX_TEXT + 1));
        let many: String = (0..=MAX_SELECTED).map(|i| format!("tags={i}&")).collect();
        let bad = [
            "page=0",
            "page=x",
            "page_size=101",
            "sort=title:asc",
            "resolutions=-1",
            "nope=1",
            &long,
            &many,
        ];
        for query in bad {
            assert_eq!(read(query), Err(Code::Malformed), "{query}");
        }
    }
}
