//! Streams and consumers as data: `jetstream/**.json`, in the shape that
//! `nats stream add --config` and `nats consumer add --config` read.
//!
//! Wanted and actual are compared as JSON: each key of the file against what
//! the server echoes, since a server may change what it is asked for.

use async_nats::jetstream::response::Response;
use serde_json::{Map, Value, json};

use crate::Log;

macro_rules! definitions {
    ($($path:literal),* $(,)?) => {
        &[$(include_str!(concat!("../../../jetstream/", $path, ".json"))),*]
    };
}

/// The streams of the log.
const STREAMS: &[&str] = definitions![
    "streams/BROAD_INFO",
    "streams/LIVE_STREAM",
    "streams/LIVE_SEGMENT",
    "streams/LIVE_TELEMETRY",
    "streams/LIVE_PART",
    "streams/DEAD_LETTER",
];

/// The durable consumers, each with the stream it reads.
const CONSUMERS: &[(&str, &[&str])] = &[
    (
        "BROAD_INFO",
        definitions![
            "consumers/BROAD_INFO/live_info",
            "consumers/BROAD_INFO/indexer",
            "consumers/BROAD_INFO/log_sink"
        ],
    ),
    (
        "LIVE_STREAM",
        definitions![
            "consumers/LIVE_STREAM/live_info",
            "consumers/LIVE_STREAM/indexer",
            "consumers/LIVE_STREAM/log_sink",
            "consumers/LIVE_STREAM/pipeline"
        ],
    ),
    ("LIVE_SEGMENT", definitions!["consumers/LIVE_SEGMENT/log_sink"]),
    ("LIVE_TELEMETRY", definitions!["consumers/LIVE_TELEMETRY/log_sink"]),
];

/// Why the streams and consumers are not as wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// JetStream does not answer.
    #[error("JetStream does not answer {request}: {reason}")]
    Unavailable {
        /// The API subject.
        request: String,
        /// What the client says.
        reason: String,
    },
    /// JetStream refuses the definition.
    #[error("JetStream refuses {name}: {reason} (error {code})")]
    Refused {
        /// Stream or stream/consumer.
        name: String,
        /// What the server says.
        reason: String,
        /// JetStream's error code.
        code: u64,
    },
    /// A change could lose entries.
    #[error("{name}: changing {keys} can lose entries; allow it with --allow-destructive")]
    Destructive {
        /// The stream.
        name: String,
        /// The keys in question.
        keys: String,
    },
    /// A definition is not what it should be.
    #[error("definition {name} is malformed: {reason}")]
    Malformed {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How definitions are applied.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Only look; change nothing.
    pub check: bool,
    /// Allow changes that can lose entries.
    pub allow_destructive: bool,
    /// Replicas of each stream: 1 on one machine, 3 in a cluster.
    pub replicas: u8,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            check: false,
            allow_destructive: false,
            replicas: 1,
        }
    }
}

/// A difference between what is wanted and what the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Stream, or `stream/consumer`.
    pub name: String,
    /// One line per key, `key: actual -> wanted`; empty when it was not there.
    pub lines: Vec<String>,
    /// It was not there.
    pub created: bool,
}

/// Creates or updates every stream and consumer; returns what differed.
///
/// # Errors
/// See [`ProvisionError`].
pub async fn apply(log: &Log, plan: Plan) -> Result<Vec<Change>, ProvisionError> {
    let mut changes = Vec::new();
    for text in STREAMS {
        let mut wanted = parse(text)?;
        wanted.insert("num_replicas".to_owned(), json!(plan.replicas));
        changes.extend(apply_stream(log, wanted, plan).await?);
    }
    for (stream, definitions) in CONSUMERS {
        for text in *definitions {
            changes.extend(apply_consumer(log, stream, parse(text)?, plan).await?);
        }
    }
    Ok(changes)
}

/// The names of all streams, and of all consumers as `stream/consumer`.
#[must_use]
pub fn names() -> Vec<String> {
    // The definitions are part of this program, and a test reads each.
    let name = |text: &&str| parse(text).and_then(|definition| name_of(&definition)).ok();
    let streams = STREAMS.iter().filter_map(name);
    let consumers = CONSUMERS.iter().flat_map(|(stream, definitions)| {
        let names = definitions.iter().filter_map(name);
        names.map(move |consumer| format!("{stream}/{consumer}"))
    });
    streams.chain(consumers).collect()
}

fn parse(text: &str) -> Result<Map<String, Value>, ProvisionError> {
    serde_json::from_str(text).map_err(|e| ProvisionError::Malformed {
        name: text.chars().take(60).collect(),
        reason: e.to_string(),
    })
}

fn name_of(definition: &Map<String, Value>) -> Result<String, ProvisionError> {
    definition
        .get("name")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| ProvisionError::Malformed {
            name: "?".to_owned(),
            reason: "it has no name".to_owned(),
        })
}

async fn apply_stream(log: &Log, wanted: Map<String, Value>, plan: Plan) -> Result<Option<Change>, ProvisionError> {
    let name = name_of(&wanted)?;
    let actual = find(log, &name, &format!("STREAM.INFO.{name}"), &json!({})).await?;
    let Some(actual) = actual else {
        if !plan.check {
            call(log, &name, &format!("STREAM.CREATE.{name}"), &Value::Object(wanted)).await?;
        }
        return Ok(Some(Change {
            name,
            lines: Vec::new(),
            created: true,
        }));
    };
    let differing = differing(&wanted, &actual);
    if differing.is_empty() {
        return Ok(None);
    }
    let lost: Vec<&str> = differing
        .iter()
        .map(String::as_str)
        .filter(|key| is_destructive(key, &wanted, &actual))
        .collect();
    if !lost.is_empty() && !plan.allow_destructive {
        return Err(ProvisionError::Destructive {
            name,
            keys: lost.join(", "),
        });
    }
    let lines = describe(&differing, &wanted, &actual);
    if !plan.check {
        call(log, &name, &format!("STREAM.UPDATE.{name}"), &Value::Object(wanted)).await?;
    }
    Ok(Some(Change {
        name,
        lines,
        created: false,
    }))
}

async fn apply_consumer(
    log: &Log,
    stream: &str,
    wanted: Map<String, Value>,
    plan: Plan,
) -> Result<Option<Change>, ProvisionError> {
    let consumer = name_of(&wanted)?;
    let name = format!("{stream}/{consumer}");
    let actual = find(log, &name, &format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await?;
    let differing = actual.as_ref().map(|actual| differing(&wanted, actual));
    if differing.as_ref().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let lines = match (&differing, &actual) {
        (Some(differing), Some(actual)) => describe(differing, &wanted, actual),
        _ => Vec::new(),
    };
    if !plan.check {
        let request = json!({ "stream_name": stream, "config": wanted, "action": "" });
        call(log, &name, &format!("CONSUMER.CREATE.{stream}.{consumer}"), &request).await?;
    }
    Ok(Some(Change {
        name,
        lines,
        created: actual.is_none(),
    }))
}

/// Keys of the file whose value the server does not have. Keys that it leaves
/// out because they are zero, false or empty count as equal to that.
fn differing(wanted: &Map<String, Value>, actual: &Map<String, Value>) -> Vec<String> {
    let is_default = |v: &Value| match v {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_i64() == Some(0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    };
    wanted
        .iter()
        .filter(|(key, value)| match actual.get(*key) {
            Some(echoed) => echoed != *value,
            None => !is_default(value),
        })
        // A single filter is echoed in the singular.
        .filter(|(key, value)| {
            *key != "filter_subjects"
                || value
                    .as_array()
                    .is_none_or(|a| a.len() != 1 || actual.get("filter_subject") != a.first())
        })
        .map(|(key, _)| key.clone())
        .collect()
}

fn describe(keys: &[String], wanted: &Map<String, Value>, actual: &Map<String, Value>) -> Vec<String> {
    let show = |map: &Map<String, Value>, key: &str| map.get(key).map_or_else(|| "unset".to_owned(), Value::to_string);
    keys.iter()
        .map(|key| format!("{key}: {} -> {}", show(actual, key), show(wanted, key)))
        .collect()
}

fn is_destructive(key: &str, wanted: &Map<String, Value>, actual: &Map<String, Value>) -> bool {
    // 0 and -1 both mean without limit.
    let limit = |map: &Map<String, Value>| {
        map.get(key)
            .and_then(Value::as_i64)
            .filter(|n| *n > 0)
            .unwrap_or(i64::MAX)
    };
    match key {
        "max_age" | "max_bytes" | "max_msgs" | "max_msgs_per_subject" => limit(wanted) < limit(actual),
        "subjects" => {
            let subjects =
                |map: &Map<String, Value>| map.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            let kept = subjects(wanted);
            subjects(actual).iter().any(|s| !kept.contains(s))
        }
        "storage" | "retention" | "deny_delete" | "deny_purge" | "allow_rollup_hdrs" | "discard" => true,
        _ => false,
    }
}

/// The `config` that the server echoes; `None` when there is no such thing.
async fn find(
    log: &Log,
    name: &str,
    request: &str,
    body: &Value,
) -> Result<Option<Map<String, Value>>, ProvisionError> {
    /// JetStream: stream not found, consumer not found.
    const NOT_FOUND: [u64; 2] = [10059, 10014];
    match call(log, name, request, body).await {
        Ok(answer) => Ok(answer.get("config").and_then(Value::as_object).cloned()),
        Err(ProvisionError::Refused { code, .. }) if NOT_FOUND.contains(&code) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn call(log: &Log, name: &str, request: &str, body: &Value) -> Result<Value, ProvisionError> {
    let answer: Response<Value> =
        log.jetstream
            .request(request.to_owned(), body)
            .await
            .map_err(|e| ProvisionError::Unavailable {
                request: request.to_owned(),
                reason: e.to_string(),
            })?;
    match answer {
        Response::Ok(value) => Ok(value),
        Response::Err { error } => Err(ProvisionError::Refused {
            name: name.to_owned(),
            reason: error.to_string(),
            code: error.error_code().0,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_parse_and_name_what_the_kinds_use() {
        let names: Vec<String> = STREAMS.iter().map(|t| name_of(&parse(t).unwrap()).unwrap()).collect();
        for kind in crate::Kind::ALL {
            assert!(names.iter().any(|n| n == kind.stream()), "{kind}");
        }
        for (stream, definitions) in CONSUMERS {
            assert!(names.iter().any(|n| n == stream));
            for text in *definitions {
                parse(text).unwrap();
            }
        }
    }

    #[test]
    fn shrinking_a_limit_is_destructive() {
        let of = |age: i64| parse(&json!({ "name": "S", "max_age": age }).to_string()).unwrap();
        assert!(is_destructive("max_age", &of(5), &of(10)));
        assert!(is_destructive("max_age", &of(5), &of(0)));
        assert!(!is_destructive("max_age", &of(10), &of(5)));
        assert!(!is_destructive("max_age", &of(0), &of(5)));
    }
}
