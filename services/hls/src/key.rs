//! Keys of media objects: `<broadcast>/<session>/<rendition>/<file>`, parsed
//! strictly, so that nothing but media can be asked of the store.

use std::{fmt, str::FromStr};

use castlog_log::{BroadcastId, SessionId};

use crate::storyboard::Sheet;

/// Longest name of a rendition, in bytes: names are like `1080p` or `audio`.
const MAX_RENDITION: usize = 32;

/// The key of a media object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MediaKey {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// The session.
    pub session: SessionId,
    /// Name of the rendition; `thumb` for thumbnails and storyboards.
    pub rendition: String,
    /// What the object is.
    pub file: File,
}

/// What a media object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    /// A media segment.
    Segment {
        /// Its media sequence number.
        number: u64,
        /// Discontinuity sequence number of the worker that stored it, which keeps two
        /// workers apart; `None` in logs before 0.2.
        maker: Option<u64>,
    },
    /// A media initialization section, by its number.
    Init(u64),
    /// A segment in another container, made when it is asked for.
    Transport {
        /// Its media sequence number.
        number: u64,
        /// As that of the segment.
        maker: Option<u64>,
        /// Number of its media initialization section.
        line: u64,
        /// Whether the sound is in it.
        sound: bool,
    },
    /// A part of a segment. It is in memory first, and then in its segment.
    Part {
        /// Media sequence number of the segment.
        segment: u64,
        /// Discontinuity sequence number of the segment: two workers may make a
        /// segment of one number, of which only one is stored.
        line: u64,
        /// Place in the segment, from 0.
        index: u32,
    },
    /// The newest thumbnail, which is replaced again and again.
    Thumbnail,
    /// Pictures of a storyboard.
    Sheet(Sheet),
}

/// Text that is not the key of a media object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the key of a media object")]
pub struct InvalidKey;

/// Folder of thumbnails and storyboards, in the place of a rendition.
pub(crate) const THUMB: &str = "thumb";
const LATEST: &str = "latest.jpg";

impl MediaKey {
    /// The media type of the object.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self.file {
            File::Transport { .. } => "video/mp2t",
            File::Thumbnail | File::Sheet(_) => "image/jpeg",
            _ if self.rendition.starts_with("audio") => "audio/mp4",
            File::Segment { .. } | File::Init(_) | File::Part { .. } => "video/mp4",
        }
    }
}

/// Whether `name` can be the name of a rendition.
#[must_use]
pub(crate) fn is_rendition(name: &str) -> bool {
    (1..=MAX_RENDITION).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl fmt::Display for MediaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/", self.broadcast, self.session, self.rendition)?;
        match self.file {
            File::Segment { number, maker: None } => write!(f, "{number}.m4s"),
            File::Segment {
                number,
                maker: Some(maker),
            } => write!(f, "{number}-{maker}.m4s"),
            File::Transport {
                number,
                maker,
                line,
                sound,
            } => {
                write!(f, "{number}")?;
                if let Some(maker) = maker {
                    write!(f, "-{maker}")?;
                }
                write!(f, ".{line}{}.ts", if sound { ".audio" } else { "" })
            }
            File::Init(n) => write!(f, "init-{n}.mp4"),
            File::Part { segment, line, index } => write!(f, "{segment}-{line}-{index}.m4s"),
            File::Thumbnail => f.write_str(LATEST),
            File::Sheet(sheet) => sheet.fmt(f),
        }
    }
}

impl FromStr for MediaKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut tokens = text.split('/');
        let mut next = || tokens.next().ok_or(InvalidKey);
        let (broadcast, session, rendition, file) = (next()?, next()?, next()?, next()?);
        let key = Self {
            broadcast: broadcast.parse().map_err(|_| InvalidKey)?,
            session: session.parse().map_err(|_| InvalidKey)?,
            rendition: rendition.to_owned(),
            file: file_of(rendition, file).ok_or(InvalidKey)?,
        };
        // One object has one key: `007.m4s` or a trailing slash is another text.
        if key.to_string() == text {
            Ok(key)
        } else {
            Err(InvalidKey)
        }
    }
}

fn file_of(rendition: &str, file: &str) -> Option<File> {
    if rendition == THUMB {
        return match file {
            LATEST => Some(File::Thumbnail),
            _ => file.parse().ok().map(File::Sheet),
        };
    }
    if !is_rendition(rendition) {
        return None;
    }
    if let Some(name) = file.strip_suffix(".m4s") {
        let numbers: Vec<&str> = name.split('-').collect();
        let number = |text: &str| text.parse().ok();
        return Some(match numbers[..] {
            [segment] => File::Segment {
                number: number(segment)?,
                maker: None,
            },
            [segment, maker] => File::Segment {
                number: number(segment)?,
                maker: Some(number(maker)?),
            },
            [segment, line, index] => File::Part {
                segment: number(segment)?,
                line: number(line)?,
                index: index.parse().ok()?,
            },
            _ => return None,
        });
    }
    if let Some(name) = file.strip_suffix(".ts") {
        let alone = name.strip_suffix(".audio");
        let (stem, line) = alone.unwrap_or(name).rsplit_once('.')?;
        let (number, maker) = match stem.split_once('-') {
            Some((number, maker)) => (number, Some(maker.parse().ok()?)),
            None => (stem, None),
        };
        return Some(File::Transport {
            number: number.parse().ok()?,
            maker,
            line: line.parse().ok()?,
            sound: alone.is_some(),
        });
    }
    file.strip_prefix("init-")?
        .strip_suffix(".mp4")?
        .parse()
        .ok()
        .map(File::Init)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "01arz3ndektsv4rrffq69g5fav/01brz3ndektsv4rrffq69g5fav";

    #[test]
    fn keys_survive_their_text() {
        for (file, kind) in [
            ("720p/17.m4s", "video/mp4"),
            ("720p/17-2.m4s", "video/mp4"),
            ("audio/0.m4s", "audio/mp4"),
            ("audio/init-3.mp4", "audio/mp4"),
            ("720p/17-2-3.m4s", "video/mp4"),
            ("audio/17-2-0.m4s", "audio/mp4"),
            ("720p/17-2.1.audio.ts", "video/mp2t"),
            ("audio/17.0.ts", "video/mp2t"),
            ("thumb/latest.jpg", "image/jpeg"),
            ("thumb/3-1800000000000-10000-5x160x90-25.jpg", "image/jpeg"),
        ] {
            let text = format!("{FOLDER}/{file}");
            let key: MediaKey = text.parse().unwrap();
            assert_eq!((key.to_string(), key.content_type()), (text, kind));
        }
    }

    #[test]
    fn nothing_else_is_a_key() {
        for file in [
            "",
            "720p",
            "720p/",
            "720p/17",
            "720p/17.m4s/",
            "720p/017.m4s",
            "720p/+17.m4s",
            "720p/-1.m4s",
            "720p/99999999999999999999.m4s",
            "720p/17-.m4s",
            "720p/17-02.m4s",
            "720p/17-2-3-4.m4s",
            "720p/17-2-03.m4s",
            "720p/17--3.m4s",
            "720p/17-2-4294967296.m4s",
            "720p/init.mp4",
            "720p/17.ts",
            "720p/17-2-3.1.ts",
            "720p/17-2.01.ts",
            "720p/17-2.1.sound.ts",
            "720P/1.m4s",
            "../1.m4s",
            "720p/../1.m4s",
            "./1.m4s",
            "720p/1.m4s\0",
            "720p/1.m4s?x",
            "thumb/1.m4s",
            "thumb/other.jpg",
            "thumb/3-1800000000000-10000-5x160x90-025.jpg",
            "thumb/3-1800000000000-10000-5x160x90-0.jpg",
            "thumb/3-1800000000000-10000-5-160-90-25.jpg",
            "thumb/3-1800000000000-10000-5x160x90.jpg",
            "thumb/3-1800000000000-10000-5x160x90-25-1.jpg",
            "720p/3-1800000000000-10000-5x160x90-25.jpg",
            "720p/latest.jpg",
            "%2e%2e/1.m4s",
            "a/b/1.m4s",
        ] {
            assert_eq!(
                format!("{FOLDER}/{file}").parse::<MediaKey>(),
                Err(InvalidKey),
                "{file:?}"
            );
        }
        assert!("../../etc/passwd".parse::<MediaKey>().is_err());
        assert!("/etc/passwd".parse::<MediaKey>().is_err());
    }
}
