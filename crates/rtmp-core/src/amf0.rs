//! AMF0: the values in commands and metadata.

use bytes::BufMut;

use crate::Error;

/// Deepest nesting; encoders use 2.
pub const MAX_DEPTH: usize = 8;
/// Most values in one message; encoders use about 30.
pub const MAX_NODES: usize = 1024;

const WHAT: &str = "AMF0";

/// One value. Member order is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A string of either length form, or an XML document.
    String(String),
    /// An object, with or without a class name.
    Object(Vec<(String, Value)>),
    /// An associative array.
    EcmaArray(Vec<(String, Value)>),
    /// An array.
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970.
    Date(f64),
    /// Null.
    Null,
    /// Undefined or unsupported.
    Undefined,
}

impl Value {
    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a number.
    #[must_use]
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A member of an object or associative array.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) | Self::EcmaArray(members) => members
                .iter()
                .find(|(member, _)| member == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Appends the value.
    pub fn write(&self, out: &mut impl BufMut) {
        match self {
            Self::Number(number) => {
                out.put_u8(marker::NUMBER);
                out.put_f64(*number);
            }
            Self::Boolean(value) => {
                out.put_u8(marker::BOOLEAN);
                out.put_u8(u8::from(*value));
            }
            Self::String(text) => match u16::try_from(text.len()) {
                Ok(length) => {
                    out.put_u8(marker::STRING);
                    out.put_u16(length);
                    out.put_slice(text.as_bytes());
                }
                Err(_) => {
                    // A string of 4 GiB is not made anywhere in this crate.
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    out.put_u8(marker::LONG_STRING);
                    out.put_u32(length);
                    out.put_slice(&text.as_bytes()[..length as usize]);
                }
            },
            Self::Object(members) => {
                out.put_u8(marker::OBJECT);
                write_members(members, out);
            }
            Self::EcmaArray(members) => {
                out.put_u8(marker::ECMA_ARRAY);
                out.put_u32(members.len() as u32);
                write_members(members, out);
            }
            Self::StrictArray(values) => {
                out.put_u8(marker::STRICT_ARRAY);
                out.put_u32(values.len() as u32);
                for value in values {
                    value.write(out);
                }
            }
            Self::Date(milliseconds) => {
                out.put_u8(marker::DATE);
                out.put_f64(*milliseconds);
                out.put_u16(0);
            }
            Self::Null => out.put_u8(marker::NULL),
            Self::Undefined => out.put_u8(marker::UNDEFINED),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

mod marker {
    pub(super) const NUMBER: u8 = 0;
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const STRING: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const NULL: u8 = 5;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const ECMA_ARRAY: u8 = 8;
    pub(super) const OBJECT_END: u8 = 9;
    pub(super) const STRICT_ARRAY: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const LONG_STRING: u8 = 12;
    pub(super) const UNSUPPORTED: u8 = 13;
    pub(super) const XML: u8 = 15;
    pub(super) const TYPED_OBJECT: u8 = 16;
}

fn write_members(members: &[(String, Value)], out: &mut impl BufMut) {
    for (name, value) in members {
        // Names are cut to what their length field can say.
        let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
        out.put_u16(name.len() as u16);
        out.put_slice(name);
        value.write(out);
    }
    out.put_u16(0);
    out.put_u8(marker::OBJECT_END);
}

/// Reads all values of a message body.
///
/// # Errors
/// The body is truncated or malformed, nested deeper than [`MAX_DEPTH`], or holds
/// more than [`MAX_NODES`] values.
pub fn read_all(body: &[u8]) -> Result<Vec<Value>, Error> {
    let mut reader = Reader { rest: body, nodes: 0 };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

struct Reader<'a> {
    rest: &'a [u8],
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Error::Malformed(WHAT))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Error::Malformed(WHAT))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let length = u16::from_be_bytes(self.array()?);
        Ok(String::from_utf8_lossy(self.take(usize::from(length))?).into_owned())
    }

    fn long_string(&mut self) -> Result<String, Error> {
        let length = u32::from_be_bytes(self.array()?);
        Ok(String::from_utf8_lossy(self.take(length as usize)?).into_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        Error::check("AMF0 nesting", depth, MAX_DEPTH)?;
        self.nodes += 1;
        Error::check("number of AMF0 values", self.nodes, MAX_NODES)?;
        let [marker] = self.array()?;
        Ok(match marker {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            marker::BOOLEAN => Value::Boolean(self.array::<1>()? != [0]),
            marker::STRING => Value::String(self.short_string()?),
            marker::LONG_STRING | marker::XML => Value::String(self.long_string()?),
            marker::OBJECT => Value::Object(self.members(depth)?),
            marker::TYPED_OBJECT => {
                self.short_string()?;
                Value::Object(self.members(depth)?)
            }
            marker::ECMA_ARRAY => {
                // The count is a hint that encoders get wrong; the end marker counts.
                self.array::<4>()?;
                Value::EcmaArray(self.members(depth)?)
            }
            marker::STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.array()?);
                // Grows with what is there, not with what is claimed.
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            marker::DATE => {
                let milliseconds = f64::from_be_bytes(self.array()?);
                self.array::<2>()?;
                Value::Date(milliseconds)
            }
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            _ => return Err(Error::Malformed(WHAT)),
        })
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut members = Vec::new();
        loop {
            let name = self.short_string()?;
            if name.is_empty() && self.rest.first() == Some(&marker::OBJECT_END) {
                self.take(1)?;
                return Ok(members);
            }
            members.push((name, self.value(depth + 1)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.write(&mut out);
        out
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (-1e9..1e9).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            "[a-z가-힣]{0,12}".prop_map(Value::String),
            (0.0..1e12).prop_map(Value::Date),
            Just(Value::Null),
            Just(Value::Undefined),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let members = prop::collection::vec(("[a-z]{1,8}", inner.clone()), 0..4);
            prop_oneof![
                members.clone().prop_map(Value::Object),
                members.prop_map(Value::EcmaArray),
                prop::collection::vec(inner, 0..4).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_wire(values in prop::collection::vec(value(), 0..4)) {
            let bytes: Vec<u8> = values.iter().flat_map(written).collect();
            prop_assert_eq!(read_all(&bytes).unwrap(), values);
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(prop_oneof![0_u8..17, any::<u8>()], 0..200)) {
            read_all(&bytes).ok();
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        // One strict array in another, 15,000 deep: each announces one element.
        let deep = [10, 0, 0, 0, 1].repeat(15_000);
        assert_eq!(
            read_all(&deep),
            Err(Error::Limit {
                what: "AMF0 nesting",
                actual: 9,
                limit: MAX_DEPTH
            })
        );
        let wide = [5].repeat(MAX_NODES + 1);
        assert!(matches!(read_all(&wide), Err(Error::Limit { actual: 1025, .. })));
        // A claimed count of 2³²−1 holds nothing.
        assert_eq!(read_all(&[10, 0xff, 0xff, 0xff, 0xff]), Err(Error::Malformed(WHAT)));
        assert_eq!(
            read_all(&[12, 0xff, 0xff, 0xff, 0xff, b'a']),
            Err(Error::Malformed(WHAT))
        );
    }

    #[test]
    fn long_strings_use_the_long_form() {
        let text = Value::String("x".repeat(70_000));
        assert_eq!(read_all(&written(&text)), Ok(vec![text]));
    }
}
