//! The indexes that a template has named.

use castlog_meili::{Error, Meili};
use chrono::NaiveDate;
use meilisearch_sdk::indexes::IndexesQuery;

use crate::template::Template;

/// Indexes listed at a time.
const PAGE: usize = 500;

/// The indexes that are there and that the template has named, with their days.
pub(crate) async fn named(meili: &Meili, template: &Template) -> Result<Vec<(String, NaiveDate)>, Error> {
    let client = meili.client();
    let mut named = Vec::new();
    let mut offset = 0;
    loop {
        let mut query = IndexesQuery::new(client);
        query.with_offset(offset).with_limit(PAGE);
        let page = meili.call("*", client.list_all_indexes_with(&query)).await?.results;
        offset += page.len();
        let last = page.len() < PAGE;
        named.extend(page.into_iter().filter_map(|index| {
            let day = template.day(&index.uid)?;
            Some((index.uid, day))
        }));
        if last {
            return Ok(named);
        }
    }
}
