//! The incremental reader: any split of the bytes gives the same items.

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    Error, Header, MAX_TAG_SIZE, Tag, TagKind,
    tag::{PREVIOUS_TAG_SIZE, TAG_HEADER},
};

/// Longest header that is skipped over: the format allows it to grow, which
/// nobody has made use of.
const MAX_HEADER: u32 = 1024;

/// What a [`Reader`] yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The header; once, before all tags.
    Header(Header),
    /// A tag.
    Tag(Tag),
}

/// Takes the bytes of an FLV stream as they come and yields its items.
///
/// [`Reader::next`] says `Ok(None)` while bytes are missing and an error when no
/// further byte can help; after an error the reader stays at the error. It holds
/// at most one partial tag and what was pushed and not yet taken.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    header_seen: bool,
    max_tag_size: usize,
    error: Option<Error>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// A reader at the start of a stream, with tags up to [`MAX_TAG_SIZE`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_tag_size(MAX_TAG_SIZE)
    }

    /// A reader that refuses tag bodies over `max_tag_size` bytes.
    #[must_use]
    pub fn with_max_tag_size(max_tag_size: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            header_seen: false,
            max_tag_size,
            error: None,
        }
    }

    /// Adds the next bytes of the stream. Take all items with [`Self::next`]
    /// before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether the stream may end here: nothing is half read.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.error.is_none() && self.buffer.is_empty()
    }

    /// The next item, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// The stream is not FLV, or breaks a limit.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Item>, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let item = if self.header_seen { self.tag() } else { self.header() };
        if let Err(error) = item {
            self.error = Some(error);
            self.buffer = BytesMut::new();
        }
        item
    }

    fn header(&mut self) -> Result<Option<Item>, Error> {
        let known = self.buffer.len().min(4);
        if self.buffer[..known] != b"FLV\x01"[..known] {
            return Err(Error::Signature);
        }
        if self.buffer.len() < 9 {
            return Ok(None);
        }
        let flags = self.buffer[4];
        let size = (&self.buffer[5..9]).get_u32();
        if !(9..=MAX_HEADER).contains(&size) {
            return Err(Error::HeaderSize { size, max: MAX_HEADER });
        }
        let whole = size as usize + PREVIOUS_TAG_SIZE;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        self.buffer.advance(whole);
        self.header_seen = true;
        Ok(Some(Item::Header(Header {
            audio: flags & 4 != 0,
            video: flags & 1 != 0,
        })))
    }

    fn tag(&mut self) -> Result<Option<Item>, Error> {
        let Some(head) = self.buffer.first_chunk::<TAG_HEADER>() else {
            return Ok(None);
        };
        if head[0] & 0x20 != 0 {
            return Err(Error::Encrypted);
        }
        let kind = TagKind::from_id(head[0] & 0x1f).ok_or(Error::TagType(head[0] & 0x1f))?;
        let size = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        if size > self.max_tag_size {
            return Err(Error::TagTooLarge {
                size,
                max: self.max_tag_size,
            });
        }
        let timestamp = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        let whole = TAG_HEADER + size + PREVIOUS_TAG_SIZE;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let expected = (TAG_HEADER + size) as u32;
        let found = (&self.buffer[TAG_HEADER + size..whole]).get_u32();
        if found != expected {
            return Err(Error::PreviousTagSize { expected, found });
        }
        // Copied, so that a small tag that is kept does not hold a whole read buffer.
        let data = Bytes::copy_from_slice(&self.buffer[TAG_HEADER..TAG_HEADER + size]);
        self.buffer.advance(whole);
        Ok(Some(Item::Tag(Tag { kind, timestamp, data })))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    fn items(chunks: &[&[u8]]) -> Result<Vec<Item>, Error> {
        let mut reader = Reader::with_max_tag_size(100_000);
        let mut items = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(item) = reader.next()? {
                items.push(item);
            }
        }
        Ok(items)
    }

    fn tag() -> impl Strategy<Value = Tag> {
        let kind = prop_oneof![Just(TagKind::Audio), Just(TagKind::Video), Just(TagKind::Script)];
        (kind, any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, timestamp, data)| Tag {
            kind,
            timestamp,
            data: data.into(),
        })
    }

    proptest! {
        #[test]
        fn tags_survive_the_wire_at_any_split(tags in prop::collection::vec(tag(), 0..6), at in any::<prop::sample::Index>()) {
            let mut bytes = BytesMut::new();
            Header { audio: true, video: false }.write(&mut bytes);
            for tag in &tags {
                tag.write(&mut bytes);
            }
            let expected: Vec<Item> = std::iter::once(Item::Header(Header { audio: true, video: false }))
                .chain(tags.into_iter().map(Item::Tag)).collect();
            prop_assert_eq!(&items(&[&bytes]).unwrap(), &expected);
            let (a, b) = bytes.split_at(at.index(bytes.len()));
            prop_assert_eq!(&items(&[a, b]).unwrap(), &expected);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&items(&single).unwrap(), &expected);
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), headed in any::<bool>()) {
            let mut stream = BytesMut::new();
            if headed {
                Header { audio: true, video: true }.write(&mut stream);
            }
            stream.extend_from_slice(&bytes);
            drop(items(&[&stream]));
        }
    }

    #[test]
    fn incomplete_is_not_invalid() {
        let mut reader = Reader::new();
        reader.push(b"FL");
        assert_eq!(reader.next(), Ok(None));
        reader.push(b"X");
        assert_eq!(reader.next(), Err(Error::Signature));
        reader.push(b"FLV\x01");
        assert_eq!(reader.next(), Err(Error::Signature), "an error is final");
    }

    #[test]
    fn a_claimed_size_is_refused_before_its_bytes_come() {
        let mut stream = BytesMut::new();
        Header {
            audio: true,
            video: true,
        }
        .write(&mut stream);
        stream.extend_from_slice(&[9, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]);
        let mut reader = Reader::new();
        reader.push(&stream);
        assert!(matches!(reader.next(), Ok(Some(Item::Header(_)))));
        assert_eq!(
            reader.next(),
            Err(Error::TagTooLarge {
                size: 0xff_ffff,
                max: MAX_TAG_SIZE
            })
        );
    }
}
