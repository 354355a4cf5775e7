//! Streams and consumers as data: `jetstream/**.json`, in the shape that
//! `nats stream add --config` and `nats consumer add --config` read.
//!
//! Wanted and actual are compared as JSON: each key of the file against what
//! the server echoes, since a server may change what it is asked for. What can
//! lose entries is refused before anything is changed.

mod diff;

use async_nats::jetstream::response::Response;
use serde_json::{Map, Value, json};

use self::diff::Difference;
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
    "streams/LIVE_INFO_CHANGED",
    "streams/DEAD_LETTER",
    "streams/LEASE",
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
    #[error("L09: JetStream refuses {name}: {reason} (error {code})")]
    Refused {
        /// Stream or stream/consumer.
        name: String,
        /// What the server says.
        reason: String,
        /// JetStream's error code.
        code: u64,
    },
    /// Changes could lose entries; nothing has been changed.
    #[error("L09: changing {changes} can lose entries; allow it with --allow-destructive")]
    Destructive {
        /// The streams, each with the keys in question.
        changes: String,
    },
    /// A definition is not what it should be.
    #[error("L09: definition {name} is malformed: {reason}")]
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
    /// One line per key, `key: actual -> wanted`, which says so where the change
    /// can lose entries; empty when it was not there.
    pub lines: Vec<String>,
    /// It was not there.
    pub created: bool,
}

/// A change, and the request that makes it.
struct Step {
    change: Change,
    /// Keys whose change can lose entries.
    loses: Vec<String>,
    request: String,
    body: Value,
}

/// Creates or updates every stream and consumer; returns what differed.
///
/// # Errors
/// See [`ProvisionError`].
pub async fn apply(log: &Log, plan: Plan) -> Result<Vec<Change>, ProvisionError> {
    let mut steps = Vec::new();
    for text in STREAMS {
        let mut wanted = parse(text)?;
        wanted.insert("num_replicas".to_owned(), json!(plan.replicas));
        steps.extend(stream_step(log, wanted).await?);
    }
    for (stream, definitions) in CONSUMERS {
        for text in *definitions {
            steps.extend(consumer_step(log, stream, parse(text)?).await?);
        }
    }
    if plan.check {
        return Ok(steps.into_iter().map(|step| step.change).collect());
    }
    let losing = |step: &Step| format!("{} ({})", step.change.name, step.loses.join(", "));
    let losing: Vec<String> = steps.iter().filter(|step| !step.loses.is_empty()).map(losing).collect();
    if !losing.is_empty() && !plan.allow_destructive {
        return Err(ProvisionError::Destructive {
            changes: losing.join(", "),
        });
    }
    let mut changes = Vec::with_capacity(steps.len());
    for step in steps {
        call(log, &step.change.name, &step.request, &step.body).await?;
        changes.push(step.change);
    }
    Ok(changes)
}

/// The names of all streams, and of all consumers as `stream/consumer`.
#[must_use]
pub fn names() -> Vec<String> {
    let consumers = durables().into_iter();
    let consumers = consumers.map(|(stream, consumer)| format!("{stream}/{consumer}"));
    STREAMS.iter().filter_map(name).chain(consumers).collect()
}

/// The name in a definition. The definitions are part of this program, and a test
/// reads each.
fn name(text: &&str) -> Option<String> {
    parse(text).and_then(|definition| name_of(&definition)).ok()
}

async fn stream_step(log: &Log, wanted: Map<String, Value>) -> Result<Option<Step>, ProvisionError> {
    let name = name_of(&wanted)?;
    let actual = find(log, &name, &format!("STREAM.INFO.{name}")).await?;
    let request = match actual {
        Some(_) => format!("STREAM.UPDATE.{name}"),
        None => format!("STREAM.CREATE.{name}"),
    };
    Ok(step(name, &wanted, actual.as_ref()).map(|(change, differences)| Step {
        loses: differences
            .iter()
            .filter(|difference| difference.can_lose_entries())
            .map(|difference| difference.key().to_owned())
            .collect(),
        change,
        request,
        body: Value::Object(wanted),
    }))
}

async fn consumer_step(log: &Log, stream: &str, wanted: Map<String, Value>) -> Result<Option<Step>, ProvisionError> {
    let consumer = name_of(&wanted)?;
    let actual = find(
        log,
        &format!("{stream}/{consumer}"),
        &format!("CONSUMER.INFO.{stream}.{consumer}"),
    )
    .await?;
    let name = format!("{stream}/{consumer}");
    Ok(step(name, &wanted, actual.as_ref()).map(|(change, _)| Step {
        change,
        // Its entries are those of the stream.
        loses: Vec::new(),
        request: format!("CONSUMER.CREATE.{stream}.{consumer}"),
        body: json!({ "stream_name": stream, "config": wanted, "action": "" }),
    }))
}

/// What must change, if anything.
fn step(
    name: String,
    wanted: &Map<String, Value>,
    actual: Option<&Map<String, Value>>,
) -> Option<(Change, Vec<Difference>)> {
    let created = actual.is_none();
    let differences = actual
        .map(|actual| diff::differences(wanted, actual))
        .unwrap_or_default();
    let lines = differences.iter().map(Difference::line).collect();
    (created || !differences.is_empty()).then_some((Change { name, lines, created }, differences))
}

/// The streams that must never lose an entry: those that refuse deletes.
pub(crate) fn never_deleted() -> Vec<String> {
    let denies = |definition: &Map<String, Value>| definition.get("deny_delete") == Some(&Value::Bool(true));
    STREAMS
        .iter()
        .filter_map(|text| parse(text).ok())
        .filter(denies)
        .filter_map(|definition| name_of(&definition).ok())
        .collect()
}

/// The durable consumers, each with its stream.
#[must_use]
pub fn durables() -> Vec<(String, String)> {
    CONSUMERS
        .iter()
        .flat_map(|(stream, definitions)| {
            definitions
                .iter()
                .filter_map(name)
                .map(|name| ((*stream).to_owned(), name))
        })
        .collect()
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

/// The `config` that the server echoes; `None` when there is no such thing.
async fn find(log: &Log, name: &str, request: &str) -> Result<Option<Map<String, Value>>, ProvisionError> {
    /// JetStream: stream not found, consumer not found.
    const NOT_FOUND: [u64; 2] = [10059, 10014];
    match call(log, name, request, &json!({})).await {
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
}
