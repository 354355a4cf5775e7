//! The multivariant playlist of a session.

use castlog_log::{
    SessionId,
    pb::{Rendition, RenditionKind},
};
use castlog_playlist::multivariant::{Audio, Playlist, Variant};

use crate::{session::Session, transport::SOUND};

/// Group of the audio renditions, which all variants share.
const AUDIO_GROUP: &str = "audio";
/// Segments after which a rendition that has none is left out instead of waited for.
const PATIENCE: usize = 3;

/// The renditions that are shown, of picture and of sound. `None` while ones that have been
/// announced may still come.
fn shown(session: &Session) -> Option<(Vec<&Rendition>, Vec<&Rendition>)> {
    let announced = &session.produced.as_ref()?.renditions;
    let ready = |r: &&Rendition| session.track(&r.name).is_some_and(|t| !t.is_empty());
    if !announced.iter().all(|r| ready(&r)) && session.longest_track() < PATIENCE {
        return None;
    }
    let of_kind = |kind: RenditionKind| -> Vec<&Rendition> {
        announced
            .iter()
            .filter(|r| r.kind == kind as i32)
            .filter(ready)
            .collect()
    };
    Some((of_kind(RenditionKind::Video), of_kind(RenditionKind::Audio)))
}

/// `None` while there is nothing to choose from.
pub(crate) fn multivariant(id: SessionId, session: &Session) -> Option<Playlist> {
    let (video, audio) = shown(session)?;
    let mut playlist = Playlist {
        version: 6,
        independent_segments: true,
        audio: Vec::new(),
        variants: Vec::new(),
    };
    if video.is_empty() {
        playlist.variants = audio.iter().map(|r| variant(id, session, r, &[])).collect();
    } else {
        playlist.variants = video.iter().map(|r| variant(id, session, r, &audio)).collect();
        playlist.audio = audio
            .iter()
            .enumerate()
            .map(|(index, r)| shared_audio(id, r, index))
            .collect();
        playlist
            .variants
            .extend(audio.first().map(|r| sound_alone(id, session, r)));
    }
    sorted(playlist)
}

/// For players that know transport streams only: picture and sound are in one.
pub(crate) fn transport(id: SessionId, session: &Session) -> Option<Playlist> {
    let (video, audio) = shown(session)?;
    let sound: Vec<&Rendition> = audio.into_iter().filter(|r| r.name == SOUND).collect();
    let pictures = video.iter().map(|r| variant(id, session, r, &sound));
    let variants = pictures.chain(sound.iter().map(|r| variant(id, session, r, &[])));
    sorted(Playlist {
        version: 3,
        independent_segments: true,
        audio: Vec::new(),
        variants: variants
            .map(|variant| Variant {
                uri: variant.uri.replacen("/index.m3u8", "/ts.m3u8", 1),
                audio: None,
                ..variant
            })
            .collect(),
    })
}

fn sorted(mut playlist: Playlist) -> Option<Playlist> {
    if playlist.variants.is_empty() {
        return None;
    }
    playlist.variants.sort_by_key(|v| std::cmp::Reverse(v.bandwidth));
    Some(playlist)
}

/// The session stands in the URL, so that a player which holds the playlist of
/// one session is never answered with the segments of the next.
pub(crate) fn uri(id: SessionId, rendition: &str) -> String {
    format!("{rendition}/index.m3u8?session={id}")
}

fn shared_audio(id: SessionId, rendition: &Rendition, index: usize) -> Audio {
    Audio {
        group: AUDIO_GROUP.to_owned(),
        name: if index == 0 {
            "Audio".to_owned()
        } else {
            rendition.name.clone()
        },
        language: None,
        default: index == 0,
        channels: rendition.channels,
        uri: uri(id, &rendition.name),
    }
}

/// A rendition with the audio that plays beside it.
fn variant(id: SessionId, session: &Session, rendition: &Rendition, audio: &[&Rendition]) -> Variant {
    let heaviest = |of: &dyn Fn(&Rendition) -> u64| of(rendition) + audio.iter().map(|r| of(r)).max().unwrap_or(0);
    let bandwidth = round_up(heaviest(&|r| peak(session, r))).max(1);
    let mut codecs: Vec<String> = Vec::new();
    for codec in [rendition].into_iter().chain(audio.iter().copied()).map(|r| &r.codec) {
        if !codec.is_empty() && !codecs.contains(codec) {
            codecs.push(codec.clone());
        }
    }
    Variant {
        uri: uri(id, &rendition.name),
        bandwidth,
        average_bandwidth: round_up(heaviest(&|r| average(session, r))).min(bandwidth),
        codecs,
        resolution: (rendition.width > 0 && rendition.height > 0).then_some((rendition.width, rendition.height)),
        frame_rate_milli: rendition.frame_rate_milli,
        audio: (!audio.is_empty()).then(|| AUDIO_GROUP.to_owned()),
    }
}

/// What is left of the broadcast on a line that is too slow for any picture. It is of the
/// group like all variants, so that a player which knows languages keeps the one chosen.
fn sound_alone(id: SessionId, session: &Session, audio: &Rendition) -> Variant {
    Variant {
        audio: Some(AUDIO_GROUP.to_owned()),
        ..variant(id, session, audio, &[])
    }
}

fn peak(session: &Session, rendition: &Rendition) -> u64 {
    session
        .track(&rendition.name)
        .map_or(0, |t| t.peak)
        .max(rendition.peak_bitrate)
}

fn average(session: &Session, rendition: &Rendition) -> u64 {
    match rendition.average_bitrate {
        0 => session.track(&rendition.name).map_or(0, |t| t.average()),
        announced => announced,
    }
}

/// Rounds up to two significant digits, so that the playlist stays the same
/// while measured rates move a little.
fn round_up(rate: u64) -> u64 {
    let step = 10_u64.pow(rate.checked_ilog10().unwrap_or(0).saturating_sub(1));
    rate.div_ceil(step).saturating_mul(step)
}

#[cfg(test)]
mod tests {
    use super::round_up;

    #[test]
    fn rates_are_rounded_to_two_digits() {
        for (rate, rounded) in [
            (0, 0),
            (7, 7),
            (99, 99),
            (101, 110),
            (2_500_000, 2_500_000),
            (2_500_001, 2_600_000),
        ] {
            assert_eq!(round_up(rate), rounded);
        }
    }
}
