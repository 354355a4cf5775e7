//! Commands: what encoders ask for, and the answers.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::{
    Error,
    amf0::{self, Value},
};

/// Longest text that is kept of what an encoder says about itself, in characters.
const MAX_TEXT: usize = 128;
/// Longest stream name in bytes; a publish key has 35.
const MAX_NAME: usize = 512;

/// The name that an encoder publishes under, which is its publish key: prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamName(String);

impl StreamName {
    /// The name itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The value of `key` in a query.
fn key(query: &str) -> Result<Option<StreamName>, Error> {
    Error::check("query in bytes", query.len(), MAX_NAME)?;
    let key = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "key");
    key.map(|(_, key)| bounded(&key)).transpose()
}

fn bounded(name: &str) -> Result<StreamName, Error> {
    Error::check("stream name in bytes", name.len(), MAX_NAME)?;
    Ok(StreamName(name.to_owned()))
}

/// An encoder asks to connect to an application.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The first part of the URL's path. A mistaken URL puts a publish key here, so it
    /// is not printed.
    pub app: String,
    /// `key` of the URL's query: `rtmp://HOST/app?key=KEY`.
    pub key: Option<StreamName>,
    /// What the encoder calls itself; at most 128 characters.
    pub encoder: String,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("app", &"***")
            .field("key", &self.key)
            .field("encoder", &self.encoder)
            .finish()
    }
}

/// An encoder asks to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// `key` of the name's query, else that of the URL's, else the name without a
    /// query; empty when the encoder gave none of them.
    pub name: StreamName,
    /// What the encoder calls itself; at most 128 characters.
    pub encoder: String,
}

/// Why a request is refused or a publish is cut, in the words that the encoder shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    description: String,
}

impl Refusal {
    /// `description` is shown to the person at the encoder; cut at 1024 bytes.
    #[must_use]
    pub fn new(description: impl Into<String>) -> Self {
        const MAX: usize = 1024;
        let mut description: String = description.into();
        description.truncate(description.floor_char_boundary(MAX));
        Self { description }
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }
}

/// A command as it came.
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) transaction: f64,
    /// The values after the transaction id.
    pub(crate) arguments: Vec<Value>,
}

impl Command {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Error> {
        let mut values = amf0::read_all(body)?.into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(Error::Malformed("command name"));
        };
        // Some encoders leave out the transaction id of commands without an answer.
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        Ok(Self {
            name,
            transaction,
            arguments: values.collect(),
        })
    }

    /// # Errors
    /// The key is over the limit.
    pub(crate) fn connect(&self) -> Result<Connect, Error> {
        let text = |name| {
            self.arguments
                .first()
                .and_then(|object| object.get(name))
                .and_then(Value::as_str)
        };
        let app = text("app").unwrap_or_default();
        let (app, query) = app.split_once('?').unwrap_or((app, ""));
        Ok(Connect {
            app: cut(app.trim_matches('/')),
            key: key(query)?,
            encoder: cut(text("flashVer").unwrap_or_default()),
        })
    }

    /// `url_key` is the key of the URL that the encoder has connected to.
    ///
    /// # Errors
    /// The name is over the limit.
    pub(crate) fn publish(&self, url_key: Option<&StreamName>, encoder: &str) -> Result<PublishRequest, Error> {
        let name = self.arguments.get(1).and_then(Value::as_str).unwrap_or_default();
        let (name, query) = name.split_once('?').unwrap_or((name, ""));
        let name = match key(query)?.or_else(|| url_key.cloned()) {
            Some(key) => key,
            None => bounded(name)?,
        };
        Ok(PublishRequest {
            name,
            encoder: encoder.to_owned(),
        })
    }
}

/// The printable part of a text, cut to a bound.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

fn body(values: &[Value]) -> Bytes {
    let mut out = BytesMut::new();
    for value in values {
        value.write(&mut out);
    }
    out.freeze()
}

/// An information object.
fn info(level: &str, code: &str, description: &str) -> Vec<(String, Value)> {
    [("level", level), ("code", code), ("description", description)]
        .map(|(name, text)| (name.to_owned(), Value::from(text)))
        .to_vec()
}

pub(crate) fn result(transaction: f64, value: Value) -> Bytes {
    body(&["_result".into(), transaction.into(), Value::Null, value])
}

pub(crate) fn connect_accepted(transaction: f64) -> Bytes {
    let server = [
        ("fmsVer", Value::from("FMS/3,0,1,123")),
        ("capabilities", Value::from(31.0)),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let mut info = info("status", "NetConnection.Connect.Success", "connection accepted");
    info.push(("objectEncoding".to_owned(), Value::from(0.0)));
    body(&[
        "_result".into(),
        transaction.into(),
        Value::Object(server.to_vec()),
        Value::Object(info),
    ])
}

pub(crate) fn connect_rejected(transaction: f64, description: &str) -> Bytes {
    let info = info("error", "NetConnection.Connect.Rejected", description);
    body(&["_error".into(), transaction.into(), Value::Null, Value::Object(info)])
}

/// A status of a stream. `level` is `status` or `error`.
pub(crate) fn on_status(level: &str, code: &str, description: &str) -> Bytes {
    body(&[
        "onStatus".into(),
        0.0.into(),
        Value::Null,
        Value::Object(info(level, code, description)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_commands_are_read() {
        let name_only = body(&["publish".into()]);
        let command = Command::read(&name_only).unwrap();
        assert_eq!((command.name.as_str(), command.transaction), ("publish", 0.0));
        assert_eq!(command.publish(None, "x").unwrap().name.expose(), "");
        assert_eq!(
            command.connect().unwrap(),
            Connect {
                app: String::new(),
                key: None,
                encoder: String::new()
            }
        );
        assert!(Command::read(b"").is_err());
        assert!(Command::read(&body(&[1.0.into()])).is_err());
    }

    fn published(name: &str, url_key: Option<&str>) -> Result<String, Error> {
        let command = Command::read(&body(&["publish".into(), 5.0.into(), Value::Null, name.into()])).unwrap();
        let url_key = url_key.map(|key| StreamName(key.to_owned()));
        let request = command.publish(url_key.as_ref(), "OBS")?;
        assert!(!format!("{request:?}").contains("ck_"), "{request:?}");
        Ok(request.name.expose().to_owned())
    }

    #[test]
    fn the_key_is_the_name_or_in_a_query() {
        assert_eq!(published("ck_abc?x=1", None).unwrap(), "ck_abc");
        assert_eq!(published("cam?x=1&key=ck_abc", None).unwrap(), "ck_abc");
        assert_eq!(published("?key=ck%5Fabc", None).unwrap(), "ck_abc");
        assert_eq!(published("", Some("ck_url")).unwrap(), "ck_url");
        assert_eq!(published("cam", Some("ck_url")).unwrap(), "ck_url");
        assert_eq!(published("cam?key=ck_abc", Some("ck_url")).unwrap(), "ck_abc");
        assert!(published(&format!("cam?key={}", "a".repeat(MAX_NAME)), None).is_err());
        assert!(published(&"a".repeat(MAX_NAME + 1), None).is_err());
    }

    #[test]
    fn a_key_in_the_url_is_read_and_not_printed() {
        let app = Value::Object(vec![("app".to_owned(), "live/?key=ck_abc&x".into())]);
        let connect = Command::read(&body(&["connect".into(), 1.0.into(), app]))
            .unwrap()
            .connect()
            .unwrap();
        assert_eq!(connect.app, "live");
        assert_eq!(connect.key.as_ref().unwrap().expose(), "ck_abc");
        assert!(!format!("{connect:?}").contains("ck_abc"));
    }
}
