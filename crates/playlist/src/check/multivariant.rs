//! Rules for a multivariant playlist (§4.4.6, §6.2.4).

use super::{
    Findings,
    attributes::Attributes,
    lines::{self, Content, Flavour, decimal_integer},
};

/// What a multivariant playlist says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Multivariant {
    /// EXT-X-MEDIA.
    pub renditions: Vec<Rendition>,
    /// EXT-X-STREAM-INF.
    pub variants: Vec<Variant>,
}

/// One EXT-X-MEDIA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Line of the tag.
    pub line: usize,
    /// TYPE.
    pub kind: String,
    /// GROUP-ID.
    pub group: String,
    /// NAME.
    pub name: String,
    /// URI.
    pub uri: Option<String>,
    /// DEFAULT=YES.
    pub default: bool,
}

/// One EXT-X-STREAM-INF with the URI behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Line of the tag.
    pub line: usize,
    /// URI of the media playlist.
    pub uri: String,
    /// BANDWIDTH.
    pub bandwidth: u64,
    /// AVERAGE-BANDWIDTH.
    pub average_bandwidth: Option<u64>,
    /// CODECS, split at the commas.
    pub codecs: Vec<String>,
    /// RESOLUTION.
    pub resolution: Option<(u64, u64)>,
    /// FRAME-RATE.
    pub frame_rate: Option<f64>,
    /// AUDIO.
    pub audio: Option<String>,
}

/// First parts of RFC 6381 strings by what they stand for.
const VIDEO_CODECS: &[&str] = &["avc1", "avc3", "hvc1", "hev1", "dvh1", "av01", "vp09"];
const AUDIO_CODECS: &[&str] = &["mp4a", "ac-3", "ec-3", "ac-4", "alac", "fLaC", "Opus"];

fn has(codecs: &[String], family: &[&str]) -> bool {
    codecs
        .iter()
        .any(|codec| family.contains(&codec.split('.').next().unwrap_or_default()))
}

pub(super) fn read(text: &str, findings: &mut Findings) -> Multivariant {
    let mut multivariant = Multivariant::default();
    let mut open: Option<Variant> = None;
    for line in lines::split(text, Flavour::Multivariant, findings) {
        let number = line.number;
        if let (Some(variant), Content::Tag(..)) = (&open, line.content) {
            findings.must(
                "4.4.6.2",
                variant.line,
                "EXT-X-STREAM-INF has no URI on the line behind it",
            );
            open = None;
        }
        match line.content {
            Content::Uri(uri) => match open.take() {
                Some(variant) => multivariant.variants.push(Variant {
                    uri: uri.to_owned(),
                    ..variant
                }),
                None => findings.must("4.4.6.2", number, "URI has no EXT-X-STREAM-INF"),
            },
            Content::Tag("EXT-X-STREAM-INF", value) => open = Some(stream_inf(value, number, findings)),
            Content::Tag("EXT-X-MEDIA", value) => multivariant.renditions.push(rendition(value, number, findings)),
            Content::Tag("EXT-X-VERSION", value) if value.and_then(decimal_integer).is_none() => {
                findings.must("4.4.1.2", number, "EXT-X-VERSION is not a decimal integer");
            }
            Content::Tag(..) => {}
        }
    }
    if let Some(variant) = open {
        findings.must(
            "4.4.6.2",
            variant.line,
            "EXT-X-STREAM-INF has no URI on the line behind it",
        );
    }
    if multivariant.variants.is_empty() {
        findings.should("6.2.4", 0, "there is no EXT-X-STREAM-INF");
    }
    check_groups(&multivariant, findings);
    for variant in &multivariant.variants {
        check_variant(variant, &multivariant, findings);
    }
    multivariant
}

fn stream_inf(value: Option<&str>, line: usize, findings: &mut Findings) -> Variant {
    let attributes = Attributes::read("EXT-X-STREAM-INF", value, "4.4.6.2", line, findings);
    attributes.require("BANDWIDTH", findings);
    let codecs = attributes.quoted("CODECS", findings).unwrap_or_default();
    let codecs: Vec<String> = codecs
        .split(',')
        .filter(|_| !codecs.is_empty())
        .map(str::to_owned)
        .collect();
    for codec in &codecs {
        if codec.is_empty() || codec.contains(char::is_whitespace) {
            findings.must("4.4.6.2", line, format!("CODECS holds {codec:?}"));
        }
    }
    Variant {
        line,
        uri: String::new(),
        bandwidth: attributes.integer("BANDWIDTH", findings).unwrap_or(0),
        average_bandwidth: attributes.integer("AVERAGE-BANDWIDTH", findings),
        codecs,
        resolution: attributes.resolution("RESOLUTION", findings),
        frame_rate: attributes.float("FRAME-RATE", findings),
        audio: attributes.quoted("AUDIO", findings).map(str::to_owned),
    }
}

fn rendition(value: Option<&str>, line: usize, findings: &mut Findings) -> Rendition {
    let attributes = Attributes::read("EXT-X-MEDIA", value, "4.4.6.1", line, findings);
    for name in ["TYPE", "GROUP-ID", "NAME"] {
        attributes.require(name, findings);
    }
    let kinds = ["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"];
    let kind = attributes.one_of("TYPE", &kinds, findings).unwrap_or_default();
    let mut yes = |name: &str| attributes.one_of(name, &["YES", "NO"], findings).map(|v| v == "YES");
    let (default, autoselect) = (yes("DEFAULT").unwrap_or(false), yes("AUTOSELECT"));
    if default && autoselect == Some(false) {
        findings.must("4.4.6.1", line, "DEFAULT=YES goes with AUTOSELECT=NO");
    }
    let uri = attributes.quoted("URI", findings).map(str::to_owned);
    if kind == "CLOSED-CAPTIONS" && uri.is_some() {
        findings.must("4.4.6.1", line, "closed captions have a URI");
    }
    if kind == "SUBTITLES" && uri.is_none() {
        findings.must("4.4.6.1", line, "subtitles have no URI");
    }
    if kind == "AUDIO" {
        match attributes.quoted("CHANNELS", findings) {
            None => findings.should("4.4.6.1", line, "audio has no CHANNELS"),
            Some(channels) => {
                let count = channels.split('/').next().and_then(decimal_integer);
                if count.is_none_or(|n| n == 0) {
                    findings.must("4.4.6.1", line, "CHANNELS does not begin with a number of channels");
                }
            }
        }
    }
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    Rendition {
        line,
        kind: kind.to_owned(),
        group: text(attributes.quoted("GROUP-ID", findings)),
        name: text(attributes.quoted("NAME", findings)),
        uri,
        default,
    }
}

fn check_groups(multivariant: &Multivariant, findings: &mut Findings) {
    for (index, rendition) in multivariant.renditions.iter().enumerate() {
        let earlier = &multivariant.renditions[..index];
        let mut group = earlier
            .iter()
            .filter(|r| r.kind == rendition.kind && r.group == rendition.group);
        if group.clone().any(|r| r.name == rendition.name) {
            findings.must(
                "4.4.6.1.1",
                rendition.line,
                format!("NAME {:?} is twice in a group", rendition.name),
            );
        }
        if rendition.default && group.any(|r| r.default) {
            findings.must("4.4.6.1.1", rendition.line, "a group has more than one DEFAULT=YES");
        }
    }
}

fn check_variant(variant: &Variant, multivariant: &Multivariant, findings: &mut Findings) {
    let line = variant.line;
    if variant.bandwidth == 0 {
        findings.must("4.4.6.2", line, "BANDWIDTH is missing or 0");
    }
    if variant
        .average_bandwidth
        .is_some_and(|average| average > variant.bandwidth)
    {
        findings.must("4.4.6.2", line, "AVERAGE-BANDWIDTH is above BANDWIDTH");
    }
    if variant.codecs.is_empty() {
        findings.should("4.4.6.2", line, "variant has no CODECS");
        return;
    }
    let video = has(&variant.codecs, VIDEO_CODECS);
    if !video && !has(&variant.codecs, AUDIO_CODECS) {
        findings.must("4.4.6.2", line, "CODECS names neither a video nor an audio format");
    }
    if video && variant.resolution.is_none() {
        findings.should("4.4.6.2", line, "variant with video has no RESOLUTION");
    }
    if video && variant.frame_rate.is_none() {
        findings.should("4.4.6.2", line, "variant with video has no FRAME-RATE");
    }
    if !video && variant.resolution.is_some() {
        findings.must(
            "6.2.4",
            line,
            "variant has a RESOLUTION, but CODECS names no video format",
        );
    }
    if let Some(group) = &variant.audio {
        let members = multivariant
            .renditions
            .iter()
            .any(|r| r.kind == "AUDIO" && r.group == *group);
        if !members {
            findings.must("4.4.6.2", line, format!("there is no audio group {group:?}"));
        }
        if !has(&variant.codecs, AUDIO_CODECS) {
            findings.must(
                "6.2.4",
                line,
                "variant has an audio group, but CODECS names no audio format",
            );
        }
    }
}
