//! How values are written in a playlist (§4.2).

use std::{fmt::Display, time::Duration};

/// An attribute list in the making.
pub(crate) struct Attributes<'o> {
    out: &'o mut String,
    empty: bool,
}

impl<'o> Attributes<'o> {
    /// Starts the line of a tag that carries an attribute list.
    pub(crate) fn of(out: &'o mut String, tag: &str) -> Self {
        out.push_str(tag);
        out.push(':');
        Self { out, empty: true }
    }

    /// An attribute whose value is written as it is.
    pub(crate) fn plain(mut self, name: &str, value: impl Display) -> Self {
        self.name(name);
        self.out.push_str(&value.to_string());
        self
    }

    /// An attribute with a quoted-string value.
    pub(crate) fn quoted(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.out.push('"');
        self.out.extend(value.chars().filter(|c| *c != '"' && !c.is_control()));
        self.out.push('"');
        self
    }

    /// Ends the line.
    pub(crate) fn end(self) {
        self.out.push('\n');
    }

    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        self.out.push_str(name);
        self.out.push('=');
    }
}

/// One line with a URI. Control characters would break the line apart.
pub(crate) fn uri(out: &mut String, uri: &str) {
    out.extend(uri.chars().filter(|c| !c.is_control()));
    out.push('\n');
}

/// Seconds with six decimals: exact for the microseconds that the log carries.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}
