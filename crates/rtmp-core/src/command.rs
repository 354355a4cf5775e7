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

/// An encoder asks to connect to an application.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The first part of the URL's path. A mistaken URL puts a publish key here, so it
    /// is not printed.
    pub app: String,
    /// What the encoder calls itself; at most 128 characters.
    pub encoder: String,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("app", &"***")
            .field("encoder", &self.encoder)
            .finish()
    }
}

/// An encoder asks to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// The name, without a query; empty when the encoder gave none.
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

    pub(crate) fn connect(&self) -> Connect {
        let text = |name| {
            self.arguments
                .first()
                .and_then(|object| object.get(name))
                .and_then(Value::as_str)
        };
        let app = text("app").unwrap_or_default();
        let app = app.split('?').next().unwrap_or_default().trim_matches('/');
        Connect {
            app: cut(app),
            encoder: cut(text("flashVer").unwrap_or_default()),
        }
    }

    pub(crate) fn publish(&self, encoder: &str) -> Result<PublishRequest, Error> {
        let name = self.arguments.get(1).and_then(Value::as_str).unwrap_or_default();
        let name = name.split('?').next().unwrap_or_default();
        Error::check("stream name in bytes", name.len(), MAX_NAME)?;
        Ok(PublishRequest {
            name: StreamName(name.to_owned()),
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
        assert_eq!(command.publish("x").unwrap().name.expose(), "");
        assert_eq!(
            command.connect(),
            Connect {
                app: String::new(),
                encoder: String::new()
            }
        );
        assert!(Command::read(b"").is_err());
        assert!(Command::read(&body(&[1.0.into()])).is_err());
    }

    #[test]
    fn names_lose_their_query_and_are_not_printed() {
        let command = Command::read(&body(&["publish".into(), 5.0.into(), Value::Null, "ck_abc?x=1".into()])).unwrap();
        let request = command.publish("OBS").unwrap();
        assert_eq!(request.name.expose(), "ck_abc");
        assert!(!format!("{request:?}").contains("ck_abc"));
    }
}
