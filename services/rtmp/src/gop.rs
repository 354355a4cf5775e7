//! What a reader that comes now can start from: the tags since the newest keyframe.
//! They are kept as they came, each body in one place for all who read it.

use castlog_flv::Tag;
use castlog_metrics::metrics;

/// Tags kept from the newest keyframe on: about 40 s at 60 frames and 47 audio frames a second.
pub(crate) const MAX_TAGS: usize = 4096;
/// Bytes kept from the newest keyframe on: 10 s at 12 Mbit/s. Past either bound the
/// next reader waits for the next keyframe.
pub(crate) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The newest group of pictures of one stream, up to now.
#[derive(Debug, Default)]
pub(crate) struct Gop {
    tags: Vec<Tag>,
    bytes: usize,
}

impl Gop {
    /// Begins anew, at a keyframe.
    pub(crate) fn begin(&mut self, keyframe: Tag) {
        self.clear();
        self.keep(keyframe);
    }

    /// Keeps another tag, if there is a keyframe before it: a stream without video keeps
    /// nothing, so it cannot grow.
    pub(crate) fn add(&mut self, tag: Tag) {
        if !self.tags.is_empty() {
            self.keep(tag);
        }
    }

    fn keep(&mut self, tag: Tag) {
        self.bytes += tag.data.len();
        counted(tag.data.len(), 1);
        self.tags.push(tag);
        if self.tags.len() > MAX_TAGS || self.bytes > MAX_BYTES {
            self.clear();
        }
    }

    /// Nothing can be started from what was.
    pub(crate) fn clear(&mut self) {
        counted(self.bytes, -1);
        self.bytes = 0;
        self.tags.clear();
    }

    /// From the keyframe on; empty when there is none.
    pub(crate) fn tags(&self) -> &[Tag] {
        &self.tags
    }
}

impl Drop for Gop {
    fn drop(&mut self) {
        counted(self.bytes, -1);
    }
}

fn counted(bytes: usize, sign: i64) {
    metrics()
        .rtmp_gop_bytes
        .inc_by(sign * i64::try_from(bytes).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use castlog_flv::TagKind;

    use super::*;

    fn tag(size: usize) -> Tag {
        Tag {
            kind: TagKind::Video,
            timestamp: 0,
            data: vec![0x17; size].into(),
        }
    }

    #[test]
    fn it_is_bounded_in_bytes_and_tags() {
        let mut gop = Gop::default();
        gop.begin(tag(5));
        for _ in 0..MAX_TAGS {
            gop.add(tag(2));
        }
        assert_eq!((gop.tags().len(), gop.bytes), (0, 0));
        gop.begin(tag(MAX_BYTES / 2));
        assert_eq!((gop.tags().len(), gop.bytes), (1, MAX_BYTES / 2));
        gop.add(tag(MAX_BYTES / 2 + 1));
        assert_eq!((gop.tags().len(), gop.bytes), (0, 0));
        // Without a keyframe nothing is kept.
        gop.add(tag(5));
        assert!(gop.tags().is_empty());
    }
}
