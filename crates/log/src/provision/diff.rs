//! What differs between a definition and what the server echoes.

use serde_json::{Map, Value};

/// A key whose value the server does not have, or has beside the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    key: String,
    actual: Option<Value>,
    wanted: Option<Value>,
}

/// Keys that the server sets by itself.
const OF_THE_SERVER: [&str; 1] = ["metadata"];
/// Keys in nanoseconds.
const DURATIONS: [&str; 4] = ["max_age", "duplicate_window", "ack_wait", "inactive_threshold"];

/// The differences, in the order of their keys. What is left out counts as equal
/// to zero, false or empty, as which the server reads it.
pub(super) fn differences(wanted: &Map<String, Value>, actual: &Map<String, Value>) -> Vec<Difference> {
    let value = |map: &Map<String, Value>, key: &str| map.get(key).filter(|value| !is_nothing(value)).cloned();
    let mut keys: Vec<&String> = wanted.keys().chain(actual.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        // A single filter is echoed in the singular; see below.
        .filter(|key| *key != "filter_subject" && !OF_THE_SERVER.contains(&key.as_str()))
        .map(|key| {
            let mut actual_value = value(actual, key);
            if key == "filter_subjects" && actual_value.is_none() {
                actual_value = value(actual, "filter_subject").map(|one| Value::Array(vec![one]));
            }
            Difference {
                key: key.clone(),
                actual: actual_value,
                wanted: value(wanted, key),
            }
        })
        .filter(|difference| difference.actual != difference.wanted)
        .collect()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_i64() == Some(0),
        // How a time that is not set is written.
        Value::String(s) => s.is_empty() || s == "0001-01-01T00:00:00Z",
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

impl Difference {
    /// The key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// `key: actual -> wanted`.
    pub(super) fn line(&self) -> String {
        let loses = if self.can_lose_entries() {
            " (can lose entries)"
        } else {
            ""
        };
        format!(
            "{}: {} -> {}{loses}",
            self.key,
            self.show(self.actual.as_ref()),
            self.show(self.wanted.as_ref())
        )
    }

    fn show(&self, value: Option<&Value>) -> String {
        let Some(value) = value else {
            return "unset".to_owned();
        };
        match value.as_u64() {
            Some(nanoseconds) if DURATIONS.contains(&self.key.as_str()) => duration(nanoseconds),
            _ => value.to_string(),
        }
    }

    /// Whether making the server as wanted can lose entries of a stream, or lift
    /// what keeps them.
    pub(super) fn can_lose_entries(&self) -> bool {
        let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_i64);
        // 0 and -1 both mean without limit.
        let limit = |value: &Option<Value>| number(value).filter(|n| *n > 0).unwrap_or(i64::MAX);
        match self.key.as_str() {
            "max_age" | "max_bytes" | "max_msgs" | "max_msgs_per_subject" => limit(&self.wanted) < limit(&self.actual),
            // The replica that stays may be one that is behind. A number that is not set is
            // the server's to choose.
            "num_replicas" => number(&self.wanted)
                .zip(number(&self.actual))
                .is_some_and(|(wanted, actual)| wanted < actual),
            "subjects" => {
                let subjects = |value: &Option<Value>| value.as_ref().and_then(Value::as_array).cloned();
                let kept = subjects(&self.wanted).unwrap_or_default();
                subjects(&self.actual)
                    .unwrap_or_default()
                    .iter()
                    .any(|s| !kept.contains(s))
            }
            "storage" | "retention" | "deny_delete" | "deny_purge" | "allow_rollup_hdrs" | "discard" => true,
            _ => false,
        }
    }
}

/// Nanoseconds in the largest unit that divides them.
fn duration(nanoseconds: u64) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
    ];
    UNITS
        .into_iter()
        .find(|(_, unit)| nanoseconds.is_multiple_of(*unit))
        .map_or_else(
            || format!("{nanoseconds}ns"),
            |(name, unit)| format!("{}{name}", nanoseconds / unit),
        )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(wanted: &Value, actual: &Value) -> Vec<String> {
        let differences = differences(wanted.as_object().unwrap(), actual.as_object().unwrap());
        differences.iter().map(Difference::line).collect()
    }

    #[test]
    fn what_the_server_leaves_out_or_adds_for_itself_is_no_difference() {
        let wanted = json!({ "name": "S", "deny_purge": false, "max_age": 0, "filter_subjects": ["a"] });
        let actual = json!({ "name": "S", "filter_subject": "a", "metadata": { "_nats.ver": "2" }, "sealed": false });
        assert_eq!(lines(&wanted, &actual), [""; 0]);
    }

    #[test]
    fn a_difference_reads_from_what_is_to_what_is_wanted() {
        let wanted = json!({ "name": "S", "max_age": 2_592_000_000_000_000_u64, "ack_wait": 1_500_000_000 });
        let actual = json!({ "name": "S", "max_age": 0, "ack_wait": 60_000_000_000_u64, "republish": { "src": ">" } });
        assert_eq!(
            lines(&wanted, &actual),
            [
                "ack_wait: 1m -> 1500ms",
                "max_age: unset -> 30d (can lose entries)",
                "republish: {\"src\":\">\"} -> unset",
            ]
        );
    }

    #[test]
    fn only_shrinking_can_lose_entries() {
        for (key, actual, wanted, loses) in [
            ("max_age", json!(10), json!(5), true),
            ("max_age", json!(0), json!(5), true),
            ("max_age", json!(5), json!(10), false),
            ("max_bytes", json!(5), json!(-1), false),
            ("subjects", json!(["a", "b"]), json!(["a"]), true),
            ("subjects", json!(["a"]), json!(["b", "a"]), false),
            ("deny_delete", json!(true), json!(false), true),
            ("num_replicas", json!(3), json!(1), true),
            ("num_replicas", json!(1), json!(3), false),
            // A consumer's 0 means as many as its stream has.
            ("num_replicas", json!(3), json!(0), false),
            ("description", json!("a"), json!("b"), false),
        ] {
            let all = lines(&json!({ key: wanted }), &json!({ key: actual }));
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].contains("can lose entries"), loses, "{all:?}");
        }
    }
}
