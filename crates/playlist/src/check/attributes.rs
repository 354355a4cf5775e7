//! Attribute lists (§4.2).

use std::{collections::BTreeMap, time::Duration};

use super::{
    Findings,
    lines::{decimal_float, decimal_integer},
    to_micros,
};

/// The attributes of one tag.
#[derive(Debug)]
pub(super) struct Attributes<'t> {
    tag: &'t str,
    line: usize,
    section: &'static str,
    list: Vec<(&'t str, Value<'t>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'t> {
    Quoted(&'t str),
    Plain(&'t str),
}

impl<'t> Attributes<'t> {
    /// Reads the list behind a tag; `section` is where the tag is defined.
    pub(super) fn read(
        tag: &'t str,
        text: Option<&'t str>,
        section: &'static str,
        line: usize,
        findings: &mut Findings,
    ) -> Self {
        let mut list: Vec<(&str, Value<'_>)> = Vec::new();
        let mut rest = text.unwrap_or_default();
        if rest.is_empty() {
            findings.must("4.2", line, format!("{tag} has no attribute list"));
        }
        while !rest.is_empty() {
            let Some((name, value, next)) = pair(rest) else {
                findings.must("4.2", line, format!("attribute list of {tag} is malformed at {rest:?}"));
                break;
            };
            if list.iter().any(|(other, _)| *other == name) {
                findings.must("4.2", line, format!("attribute {name} appears more than once"));
            }
            list.push((name, value));
            rest = next;
        }
        Self {
            tag,
            line,
            section,
            list,
        }
    }

    fn value(&self, name: &str) -> Option<Value<'t>> {
        self.list
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| *value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'t str> {
        self.list.iter().map(|(name, _)| *name)
    }

    /// All of them as they are written.
    pub(super) fn written(&self) -> BTreeMap<String, String> {
        let text = |value: &Value<'_>| match value {
            Value::Quoted(text) => format!("{text:?}"),
            Value::Plain(text) => (*text).to_owned(),
        };
        let pairs = self.list.iter().map(|(name, value)| ((*name).to_owned(), text(value)));
        pairs.collect()
    }

    pub(super) fn require(&self, name: &str, findings: &mut Findings) {
        if !self.has(name) {
            findings.must(self.section, self.line, format!("{} has no {name}", self.tag));
        }
    }

    fn wrong(&self, name: &str, wanted: &str, findings: &mut Findings) {
        findings.must(
            self.section,
            self.line,
            format!("{name} of {} is not {wanted}", self.tag),
        );
    }

    pub(super) fn quoted(&self, name: &str, findings: &mut Findings) -> Option<&'t str> {
        match self.value(name)? {
            Value::Quoted(text) => Some(text),
            Value::Plain(_) => {
                self.wrong(name, "a quoted string", findings);
                None
            }
        }
    }

    fn plain(&self, name: &str, wanted: &str, findings: &mut Findings) -> Option<&'t str> {
        match self.value(name)? {
            Value::Plain(text) => Some(text),
            Value::Quoted(_) => {
                self.wrong(name, wanted, findings);
                None
            }
        }
    }

    pub(super) fn one_of(&self, name: &str, allowed: &[&str], findings: &mut Findings) -> Option<&'t str> {
        let text = self.plain(name, "an enumerated string", findings)?;
        if !allowed.contains(&text) {
            self.wrong(name, &format!("one of {}", allowed.join(", ")), findings);
            return None;
        }
        Some(text)
    }

    pub(super) fn integer(&self, name: &str, findings: &mut Findings) -> Option<u64> {
        let text = self.plain(name, "a decimal integer", findings)?;
        let number = decimal_integer(text);
        if number.is_none() {
            self.wrong(name, "a decimal integer", findings);
        }
        number
    }

    pub(super) fn float(&self, name: &str, findings: &mut Findings) -> Option<f64> {
        let text = self.plain(name, "a decimal number", findings)?;
        let number = decimal_float(text);
        if number.is_none() {
            self.wrong(name, "a decimal number", findings);
        }
        number
    }

    /// Whether an attribute is there whose only value is `YES`.
    pub(super) fn yes(&self, name: &str, findings: &mut Findings) -> bool {
        self.one_of(name, &["YES"], findings).is_some()
    }

    /// Decimal seconds.
    pub(super) fn seconds(&self, name: &str, findings: &mut Findings) -> Option<Duration> {
        self.float(name, findings).and_then(to_micros)
    }

    pub(super) fn resolution(&self, name: &str, findings: &mut Findings) -> Option<(u64, u64)> {
        let text = self.plain(name, "a resolution", findings)?;
        let size = text
            .split_once('x')
            .and_then(|(w, h)| Some((decimal_integer(w)?, decimal_integer(h)?)));
        if size.is_none() {
            self.wrong(name, "WIDTHxHEIGHT", findings);
        }
        size
    }
}

/// The first `NAME=value` of a list, and what comes behind its comma.
fn pair(text: &str) -> Option<(&str, Value<'_>, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name_is_valid = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
    if !name_is_valid {
        return None;
    }
    let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
        let (value, rest) = quoted.split_once('"')?;
        (Value::Quoted(value), rest)
    } else {
        let end = rest.find(',').unwrap_or(rest.len());
        let value = &rest[..end];
        if value.is_empty() || value.contains(['"', ' ']) {
            return None;
        }
        (Value::Plain(value), &rest[end..])
    };
    match rest.strip_prefix(',') {
        // A comma must have something behind it.
        Some("") => None,
        Some(next) => Some((name, value, next)),
        None if rest.is_empty() => Some((name, value, rest)),
        None => None,
    }
}
