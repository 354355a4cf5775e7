//! From an entry to the document that it is found by. Pure.

use castlog_log::{Entry, Position};
use serde::Serialize;
use serde_json::Value;

/// Longest searchable text of a document in bytes: the whole of all usual
/// entries, while a hostile one cannot fill the index with words.
const MAX_TEXT: usize = 8 * 1024;

/// An entry as it is found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Document {
    /// `<stream>-<sequence>`: the same entry is the same document.
    id: String,
    stream: String,
    seq: u64,
    class: &'static str,
    kind: &'static str,
    subject: String,
    broadcast_id: Option<String>,
    entry_id: String,
    #[serde(rename = "type")]
    event_type: String,
    source: String,
    /// When it happened, RFC 3339 and milliseconds since 1970.
    time: String,
    time_ms: i64,
    /// The payload as canonical protobuf JSON.
    data: Value,
    /// Words that it is found by.
    text: String,
}

/// The id of the document of the entry that stands there.
pub(crate) fn id(position: &Position) -> String {
    format!("{}-{}", position.stream, position.sequence)
}

impl Document {
    pub(crate) fn of(entry: &Entry) -> Self {
        let mut json = entry.to_json();
        let mut take = |name: &str| json.get_mut(name).map(Value::take).unwrap_or_default();
        let mut text_of = |name: &str| take(name).as_str().unwrap_or_default().to_owned();
        let (event_type, time) = (text_of("type"), text_of("time"));
        let data = take("data");
        let broadcast_id = entry.subject.broadcast.map(|id| id.to_string());
        let mut text = String::new();
        for word in [
            Some(&event_type),
            Some(&entry.source),
            broadcast_id.as_ref(),
            Some(&entry.id),
        ]
        .into_iter()
        .flatten()
        {
            append(&mut text, word);
        }
        collect(&data, &mut text);
        Self {
            id: id(&entry.position),
            stream: entry.position.stream.clone(),
            seq: entry.sequence(),
            class: entry.subject.kind.class(),
            kind: entry.subject.kind.token(),
            subject: entry.subject.to_string(),
            broadcast_id,
            entry_id: entry.id.clone(),
            event_type,
            source: entry.source.clone(),
            time,
            time_ms: entry.time.timestamp_millis(),
            data,
            text,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// About how many bytes it is on the wire.
    pub(crate) fn size(&self) -> usize {
        /// All other attributes with their names.
        const ENVELOPE: usize = 1024;
        ENVELOPE + self.text.len() + self.data.to_string().len()
    }
}

/// Appends the values that are in there, not the names of the attributes.
fn collect(value: &Value, text: &mut String) {
    match value {
        Value::String(word) => append(text, word),
        Value::Number(number) => append(text, &number.to_string()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, text)),
        Value::Object(map) => map.values().for_each(|value| collect(value, text)),
        Value::Null | Value::Bool(_) => {}
    }
}

fn append(text: &mut String, word: &str) {
    let room = MAX_TEXT.saturating_sub(text.len() + 1);
    let mut end = word.len().min(room);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    if end > 0 {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word[..end]);
    }
}

#[cfg(test)]
mod tests {
    use castlog_log::{Kind, pb};

    use super::*;

    fn entry(title: &str) -> Entry {
        let changed = pb::title::Changed { title: title.into() };
        Entry {
            id: "e1".into(),
            source: "castlog/live-api".into(),
            time: "2025-02-28T23:59:59.123456Z".parse().unwrap(),
            subject: Kind::Title.of("01arz3ndektsv4rrffq69g5fav".parse().unwrap()),
            event: pb::Title {
                event: Some(pb::title::Event::Changed(changed)),
            }
            .into(),
            position: Position {
                stream: "BROAD_INFO".into(),
                sequence: 7,
            },
            traceparent: None,
            payload: Default::default(),
        }
    }

    #[test]
    fn an_entry_is_found_by_all_that_it_says() {
        insta::assert_json_snapshot!(Document::of(&entry("롤 랭크")), @r#"
        {
          "id": "BROAD_INFO-7",
          "stream": "BROAD_INFO",
          "seq": 7,
          "class": "broad_info",
          "kind": "title",
          "subject": "media.broad_info.title.01arz3ndektsv4rrffq69g5fav",
          "broadcast_id": "01arz3ndektsv4rrffq69g5fav",
          "entry_id": "e1",
          "type": "castlog.broad_info.title.changed",
          "source": "castlog/live-api",
          "time": "2025-02-28T23:59:59.123456Z",
          "time_ms": 1740787199123,
          "data": {
            "changed": {
              "title": "롤 랭크"
            }
          },
          "text": "castlog.broad_info.title.changed castlog/live-api 01arz3ndektsv4rrffq69g5fav e1 롤 랭크"
        }
        "#);
    }

    #[test]
    fn text_is_bounded() {
        let document = Document::of(&entry(&"한".repeat(20_000)));
        assert!(document.text.len() <= MAX_TEXT);
        assert!(document.text.ends_with('한'));
    }
}
