//! Comparing the settings of an index.

use meilisearch_sdk::settings::Settings;
use serde_json::{Map, Value};

/// Names of the settings that are wanted and are not as the server has them.
#[must_use]
pub fn differing(wanted: &Settings, actual: &Settings) -> Vec<String> {
    let map = |settings| match serde_json::to_value(settings) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let actual = map(actual);
    let same = |name: &str, wanted: &Value| match (wanted, actual.get(name)) {
        (_, None) => false,
        // The order of searchable attributes is their rank; the others are sets.
        (Value::Array(wanted), Some(Value::Array(actual))) if name != "searchableAttributes" => {
            wanted.len() == actual.len() && wanted.iter().all(|one| actual.contains(one))
        }
        // What is left out of an object is the server's default.
        (Value::Object(wanted), Some(Value::Object(actual))) => wanted
            .iter()
            .all(|(key, value)| value.is_null() || actual.get(key) == Some(value)),
        (wanted, Some(actual)) => wanted == actual,
    };
    map(wanted)
        .iter()
        .filter(|(name, wanted)| !same(name, wanted))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_counts() {
        let settings = || {
            Settings::new()
                .with_searchable_attributes(["title", "tags"])
                .with_sortable_attributes(["a", "b"])
        };
        let same = settings().with_sortable_attributes(["b", "a"]).with_stop_words(["x"]);
        assert!(differing(&settings(), &same).is_empty());
        let other = settings().with_searchable_attributes(["tags", "title"]);
        assert_eq!(differing(&settings(), &other), ["searchableAttributes"]);
        assert_eq!(
            differing(&settings(), &Settings::new()),
            ["searchableAttributes", "sortableAttributes"]
        );
    }
}
