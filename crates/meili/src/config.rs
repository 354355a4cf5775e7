//! Where a Meilisearch server is.

use castlog_log::Secret;
use serde::{Deserialize, Serialize};
use url::Url;

/// Longest name of an index that a service is given: leaves room for what it appends.
const MAX_INDEX: usize = 64;

/// Where Meilisearch is and how to authenticate to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of Meilisearch. Default `http://127.0.0.1:7700`.
    pub url: String,
    /// API key with the actions that the service needs; empty = none. Default: empty.
    pub key: Secret<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new("http://127.0.0.1:7700", "")
    }
}

impl Config {
    /// A server and its key.
    #[must_use]
    pub fn new(url: &str, key: &str) -> Self {
        Self {
            url: url.to_owned(),
            key: Secret::new(key.to_owned()),
        }
    }

    /// All that is wrong with the values of the section `name`; empty when they can be used.
    #[must_use]
    pub fn validate(&self, name: &str) -> Vec<String> {
        let mut problems = Vec::new();
        if !Url::parse(&self.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            problems.push(format!("{name}.url = {:?} is not an http or https URL", self.url));
        }
        if !self.key.expose().bytes().all(|b| b.is_ascii_graphic()) {
            problems.push(format!("{name}.key has other than visible ASCII characters"));
        }
        problems
    }
}

/// What is wrong with the name of an index, which the key `name` of a configuration holds.
#[must_use]
pub fn index_name_problem(name: &str, index: &str) -> Option<String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (index.is_empty() || index.len() > MAX_INDEX || !index.chars().all(fit))
        .then(|| format!("{name} = {index:?} is not 1 to {MAX_INDEX} letters, digits, '-' and '_'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named() {
        assert!(Config::default().validate("x").is_empty());
        for bad in ["", "localhost", "ftp://host", "http://"] {
            assert_eq!(Config::new(bad, "a\nb").validate("x").len(), 2, "{bad}");
        }
        let problems = Config::new("http://host", "ä").validate("indexer.meilisearch");
        assert_eq!(
            problems,
            ["indexer.meilisearch.key has other than visible ASCII characters"]
        );
    }

    #[test]
    fn names_of_indexes_are_what_meilisearch_takes() {
        assert_eq!(index_name_problem("index", "broad_casts-2"), None);
        for bad in ["", "a.b", "a b", "한", &"x".repeat(65)] {
            assert!(index_name_problem("index", bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn the_key_is_never_printed() {
        assert!(!format!("{:?}", Config::new("http://host", "masterkey")).contains("masterkey"));
    }
}
