//! Multivariant playlists (§4.4.6): what a viewer can choose from.

use crate::write::{self, Attributes};

/// A multivariant playlist as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playlist {
    /// EXT-X-VERSION of the media playlists behind it, so that a client which is too old
    /// for those need not load one to find out.
    pub version: u32,
    /// Whether every segment of every rendition can be decoded by itself.
    pub independent_segments: bool,
    /// Audio renditions, which variants name by their group.
    pub audio: Vec<Audio>,
    /// The variants; clients tend to begin with the first.
    pub variants: Vec<Variant>,
}

/// An audio rendition (EXT-X-MEDIA, §4.4.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// Group that it belongs to.
    pub group: String,
    /// What a person sees in the menu; unique in the group.
    pub name: String,
    /// BCP 47 tag of the language, when it is known.
    pub language: Option<String>,
    /// Whether it plays unless the viewer chooses another one; at most one per group.
    pub default: bool,
    /// Number of channels; 0 = unknown.
    pub channels: u32,
    /// Its media playlist.
    pub uri: String,
}

/// A variant stream (EXT-X-STREAM-INF, §4.4.6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its media playlist.
    pub uri: String,
    /// Peak segment bit rate of all that plays together, in bits per second.
    pub bandwidth: u64,
    /// Average segment bit rate; 0 = unknown.
    pub average_bandwidth: u64,
    /// RFC 6381 strings of all formats that play together, those of the audio
    /// group included.
    pub codecs: Vec<String>,
    /// Width and height in pixels, when there is video.
    pub resolution: Option<(u32, u32)>,
    /// Frames per 1000 seconds; 0 = unknown.
    pub frame_rate_milli: u32,
    /// Group of [`Audio`] renditions that plays with it.
    pub audio: Option<String>,
}

impl Playlist {
    /// The text of the playlist.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(256 + (self.audio.len() + self.variants.len()) * 256);
        out.push_str("#EXTM3U\n");
        out.push_str(&format!("#EXT-X-VERSION:{}\n", self.version));
        if self.independent_segments {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        for audio in &self.audio {
            audio.render(&mut out);
        }
        for variant in &self.variants {
            variant.render(&mut out);
        }
        out
    }
}

const fn yes(value: bool) -> &'static str {
    if value { "YES" } else { "NO" }
}

impl Audio {
    fn render(&self, out: &mut String) {
        let mut attributes = Attributes::of(out, "#EXT-X-MEDIA")
            .plain("TYPE", "AUDIO")
            .quoted("GROUP-ID", &self.group)
            .quoted("NAME", &self.name);
        if let Some(language) = &self.language {
            attributes = attributes.quoted("LANGUAGE", language);
        }
        attributes = attributes
            .plain("DEFAULT", yes(self.default))
            .plain("AUTOSELECT", "YES");
        if self.channels > 0 {
            attributes = attributes.quoted("CHANNELS", &self.channels.to_string());
        }
        attributes.quoted("URI", &self.uri).end();
    }
}

impl Variant {
    fn render(&self, out: &mut String) {
        let mut attributes = Attributes::of(out, "#EXT-X-STREAM-INF").plain("BANDWIDTH", self.bandwidth);
        if self.average_bandwidth > 0 {
            attributes = attributes.plain("AVERAGE-BANDWIDTH", self.average_bandwidth);
        }
        if !self.codecs.is_empty() {
            attributes = attributes.quoted("CODECS", &self.codecs.join(","));
        }
        if let Some((width, height)) = self.resolution {
            attributes = attributes.plain("RESOLUTION", format_args!("{width}x{height}"));
        }
        if self.frame_rate_milli > 0 {
            let (whole, rest) = (self.frame_rate_milli / 1000, self.frame_rate_milli % 1000);
            attributes = attributes.plain("FRAME-RATE", format_args!("{whole}.{rest:03}"));
        }
        if let Some(group) = &self.audio {
            attributes = attributes.quoted("AUDIO", group);
        }
        attributes.end();
        write::uri(out, &self.uri);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn variant(name: &str, height: u32, bandwidth: u64) -> Variant {
        Variant {
            uri: format!("{name}/index.m3u8"),
            bandwidth,
            average_bandwidth: bandwidth - 1000,
            codecs: vec!["avc1.64001f".to_owned(), "mp4a.40.2".to_owned()],
            resolution: Some((height * 16 / 9, height)),
            frame_rate_milli: 29_970,
            audio: Some("audio".to_owned()),
        }
    }

    #[test]
    fn video_with_shared_audio() {
        let playlist = Playlist {
            version: 6,
            independent_segments: true,
            audio: vec![Audio {
                group: "audio".to_owned(),
                name: "Main".to_owned(),
                language: Some("ko".to_owned()),
                default: true,
                channels: 2,
                uri: "audio/index.m3u8".to_owned(),
            }],
            variants: vec![
                variant("source", 1080, 5_000_000),
                variant("720p", 720, 2_600_000),
                Variant {
                    codecs: vec!["mp4a.40.2".to_owned()],
                    resolution: None,
                    frame_rate_milli: 0,
                    ..variant("audio", 0, 140_000)
                },
            ],
        };
        assert_eq!(check::multivariant(&playlist.render()), []);
        insta::assert_snapshot!(playlist.render());
    }

    #[test]
    fn audio_alone() {
        let playlist = Playlist {
            version: 6,
            independent_segments: true,
            audio: Vec::new(),
            variants: vec![Variant {
                uri: "audio/index.m3u8".to_owned(),
                bandwidth: 140_000,
                average_bandwidth: 0,
                codecs: vec!["mp4a.40.2".to_owned()],
                resolution: None,
                frame_rate_milli: 0,
                audio: None,
            }],
        };
        assert_eq!(check::multivariant(&playlist.render()), []);
        insta::assert_snapshot!(playlist.render());
    }
}
