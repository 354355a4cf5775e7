//! The transcode core on real streams: from FLV bytes made by ffmpeg to a
//! folder, judged by ffprobe and ffmpeg.
#![allow(clippy::unwrap_used)]

mod support;

use std::{panic::AssertUnwindSafe, path::PathBuf};

use castlog_pipeline::{
    folder::Folder,
    media::Packet,
    transcode::{self, Error, Settings},
};
use support::{
    AAC, complaints, ffmpeg_flv, gray, h264, join, moved, packets, picture, probe, run, samples, settings, tone, verify,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

async fn transcode(flv: &[u8]) -> (Folder, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let folder = run(settings(), packets(flv), root.path()).await.unwrap();
    (folder, root)
}

/// "name codec-prefix WxH passthrough" of each rendition.
fn renditions(folder: &Folder) -> Vec<String> {
    let of = |rendition: &castlog_pipeline::transcode::Rendition| {
        let size = match &rendition.config {
            castlog_cmaf::Track::Video(video) => format!("{}x{}", video.width, video.height),
            castlog_cmaf::Track::Audio(audio) => format!("{}ch", audio.channels),
        };
        let codec = rendition.codec.split('.').next().unwrap_or_default();
        format!("{} {codec} {size} {}", rendition.name, rendition.passthrough)
    };
    folder.epochs[0].renditions.iter().map(of).collect()
}

#[tokio::test]
async fn passes_the_source_through_beside_two_rungs() {
    let flv = ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("1280x720", 30, 6),
        tone(6),
        h264(60, 0)
    ));
    let (folder, _root) = transcode(&flv).await;
    assert_eq!(
        renditions(&folder),
        [
            "source avc1 1280x720 true",
            "480p avc1 854x480 false",
            "360p avc1 640x360 false",
            "audio mp4a 2ch true"
        ]
    );
    verify(&folder, 30, 6.0, 0.05);
    let epoch = &folder.epochs[0];
    assert_eq!(epoch.renditions[0].frame_rate_milli, 30_000);
    assert_eq!(epoch.renditions[3].codec, "mp4a.40.2");
    let starts = join(&folder, "480p").starts;
    assert_eq!(starts.len(), 3);
    assert!(folder.thumbnails >= 1);
    assert_eq!(complaints(&_root.path().join("thumb/latest.jpg")), "");
}

/// Parts keep to what players count on although an encoder leaves pictures out, and each
/// picture is shown when it was to be.
#[tokio::test]
async fn pictures_that_are_left_out_break_no_part() {
    const LEFT_OUT: &str = "-vf select='gt(random(0),0.1)*not(between(mod(n,150),70,80))' -fps_mode vfr";
    for bframes in [0, 2] {
        let flv = ffmpeg_flv(&format!(
            "{} {} {LEFT_OUT} {} -force_key_frames expr:gte(t,n_forced*2) {AAC}",
            picture("640x360", 30, 12),
            tone(12),
            h264(300, bframes)
        ));
        let mut sent: Vec<f64> = packets(&flv)
            .iter()
            .filter_map(|packet| match packet {
                Packet::Video {
                    timestamp, composition, ..
                } => Some(f64::from(*timestamp) + f64::from(*composition)),
                _ => None,
            })
            .map(|ms| ms / 1000.0)
            .collect();
        sent.sort_by(f64::total_cmp);
        let (folder, _root) = transcode(&flv).await;
        for name in ["source", "240p"] {
            let joined = join(&folder, name);
            assert_eq!(complaints(&joined.path), "", "{name}");
            let report = probe(&joined.path);
            let frames = report["frames"].as_array().unwrap().iter();
            let shown: Vec<f64> = frames
                .map(|f| f["pts_time"].as_str().unwrap().parse().unwrap())
                .collect();
            assert_eq!(shown.len(), sent.len(), "{name}");
            for (shown_at, sent_at) in shown.iter().zip(&sent) {
                let off = (shown_at - shown[0]) - (sent_at - sent[0]);
                assert!(off.abs() < 0.0025, "{name}: {shown_at} s is {off} s off");
            }
            let mut segments: Vec<_> = folder.segments.iter().filter(|s| s.rendition == name).collect();
            // What follows the last picture of all is not known.
            segments.pop();
            assert!(segments.len() > 3, "{name}");
            for part in segments.iter().flat_map(|s| s.parts.split_last().unwrap().1) {
                assert!(
                    (213_350..=251_000).contains(&part.duration) || part.independent,
                    "{name}: {part:?}"
                );
            }
            assert!(
                segments.iter().all(|s| s.parts.last().unwrap().duration <= 251_000),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_without_sound_has_no_sound_rendition() {
    let flv = ffmpeg_flv(&format!("{} {}", picture("640x360", 25, 5), h264(50, 0)));
    let (folder, _root) = transcode(&flv).await;
    assert_eq!(
        renditions(&folder),
        ["source avc1 640x360 true", "240p avc1 426x240 false"]
    );
    verify(&folder, 25, 5.0, 0.05);
}

#[tokio::test]
async fn a_source_that_is_only_passed_through_has_thumbnails() {
    let flv = ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("256x144", 25, 8),
        tone(8),
        h264(50, 2)
    ));
    for thumbnails in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings {
            thumbnails,
            ..settings()
        };
        let folder = run(settings, packets(&flv), root.path()).await.unwrap();
        assert_eq!(renditions(&folder), ["source avc1 256x144 true", "audio mp4a 2ch true"]);
        verify(&folder, 25, 8.0, 0.05);
        assert_eq!(
            (folder.thumbnails > 0, folder.sheets.len()),
            (thumbnails, thumbnails.into())
        );
        if thumbnails {
            assert_eq!(complaints(&root.path().join("thumb/latest.jpg")), "");
            assert_eq!(complaints(&root.path().join("thumb/sheet.jpg")), "");
        }
    }
}

#[tokio::test]
async fn a_storyboard_has_a_picture_for_each_ten_seconds() {
    // Of one brightness in each, and not as wide as the places on a sheet.
    let source = "-f lavfi -i nullsrc=s=32x24:r=25:d=26,geq=lum=50+floor(T/10)*60:cb=128:cr=128,scale=480:360";
    let flv = ffmpeg_flv(&format!("{source} {}", h264(50, 0)));
    let (folder, root) = transcode(&flv).await;
    let tiles: Vec<u32> = folder.sheets.iter().map(|(_, tiles)| *tiles).collect();
    assert_eq!(tiles, [1, 2, 3]);
    let start = folder.sheets[0].0;
    assert!(folder.sheets.iter().all(|sheet| sheet.0 == start), "one sheet");
    let gray = gray(&root.path().join("thumb/sheet.jpg"));
    assert_eq!(gray.len(), 800 * 450);
    let at = |x: usize, y: usize| i32::from(gray[y * 800 + x]);
    let middles = [80, 240, 400, 560].map(|x| at(x, 45));
    for (seen, wanted) in middles.into_iter().zip([50, 110, 170, 16]) {
        assert!((seen - wanted).abs() < 12, "{middles:?}");
    }
    // The last of the thumbnails, of which there is one in each five seconds.
    assert!(folder.thumbnails >= 26 / 5, "{} thumbnails", folder.thumbnails);
    let latest = support::gray(&root.path().join("thumb/latest.jpg"));
    assert_eq!(latest.len(), 240 * 180);
    assert!(
        latest.iter().all(|seen| seen.abs_diff(170) < 12),
        "it is not the last one"
    );
    // Borders left and right of a picture of 4:3.
    assert!(at(5, 45) < 25 && at(155, 45) < 25 && at(30, 45) > 40);
}

#[tokio::test]
async fn sound_alone_has_a_clock_of_its_own() {
    let flv = ffmpeg_flv(&format!("{} {AAC}", tone(7)));
    let (folder, _root) = transcode(&flv).await;
    assert_eq!(renditions(&folder), ["audio mp4a 2ch true"]);
    verify(&folder, 1, 7.0, 0.1);
    assert_eq!(join(&folder, "audio").starts.len(), 4);
}

/// Six channels: the film clip where the environment names it, else a
/// generated picture with a tone on each of the six.
#[tokio::test]
async fn surround_sound_is_mixed_down() {
    let clip = std::env::var_os("CASTLOG_TEST_MEDIA").map(PathBuf::from);
    let (flv, rate, seconds) = match &clip {
        Some(clip) => (ffmpeg_flv(&format!("-i {} -c copy", clip.display())), 25, 5.28),
        None => (
            ffmpeg_flv(&format!(
                "{} {} {} -c:a aac -ac 6 -b:a 256k",
                picture("640x360", 25, 5),
                tone(5),
                h264(25, 0)
            )),
            25,
            5.0,
        ),
    };
    eprintln!("source: {clip:?}, generated when none");
    let (folder, _root) = transcode(&flv).await;
    let source = folder.epochs[0].source.audio.as_ref().unwrap();
    assert_eq!(source.config.channels, 6);
    let all = renditions(&folder);
    assert_eq!(all.last().unwrap(), "audio mp4a 2ch false");
    verify(&folder, rate, seconds, 0.1);
}

/// The frequencies of the six channels in their order: front left, front right, centre,
/// low frequencies, back left, back right.
const TONES: [u32; 6] = [400, 700, 1000, 80, 1300, 1700];

/// How loud a tone is in one second of samples, by Goertzel's algorithm: its amplitude.
fn loudness(samples: &[f32], frequency: u32) -> f64 {
    assert_eq!(samples.len(), 48_000);
    let turn = 2.0 * (std::f64::consts::TAU * f64::from(frequency) / 48_000.0).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (f64::from(*sample) + turn * last - before, last);
    }
    (last * last + before * before - turn * last * before).sqrt() / 24_000.0
}

#[tokio::test]
async fn each_channel_of_surround_sound_is_heard_on_its_side() {
    // As loud as can be: together they would be far too loud.
    let tones = TONES.map(|tone| format!("-f lavfi -i sine=frequency={tone}:sample_rate=48000:duration=5"));
    let flv = ffmpeg_flv(&format!(
        "{} {} -filter_complex \
         [1:a][2:a][3:a][4:a][5:a][6:a]join=inputs=6:channel_layout=5.1:map=0.0-FL|1.0-FR|2.0-FC|3.0-LFE|4.0-BL|5.0-BR,volume=7.5[a] \
         -map 0:v -map [a] {} -c:a aac -b:a 512k",
        picture("320x180", 25, 5),
        tones.join(" "),
        h264(25, 0)
    ));
    let (folder, _root) = transcode(&flv).await;
    assert_eq!(renditions(&folder).last().unwrap(), "audio mp4a 2ch false");
    let sound = samples(&join(&folder, "audio").path);
    let peak = sound
        .iter()
        .flatten()
        .fold(0.0, |peak: f32, sample| peak.max(sample.abs()));
    // A second from the middle of each side.
    let heard = [0, 1].map(|side| {
        let samples: Vec<f32> = sound[2 * 48_000..3 * 48_000].iter().map(|pair| pair[side]).collect();
        TONES.map(|tone| loudness(&samples, tone))
    });
    println!("peak {peak:.2}, left {:.3?}, right {:.3?}", heard[0], heard[1]);
    assert!(peak > 0.2 && peak < 0.98, "too quiet or too loud: {peak}");
    let [left, right] = heard;
    for (here, there, tones) in [(left, right, [0, 2, 4]), (right, left, [1, 2, 5])] {
        for tone in tones {
            assert!(here[tone] > 0.05, "{} Hz: {here:?}", TONES[tone]);
            if tone != 2 {
                assert!(
                    there[tone] < here[tone] / 20.0,
                    "{} Hz is on the other side",
                    TONES[tone]
                );
            }
        }
    }
    assert!(
        (left[2] - right[2]).abs() < left[2] / 10.0,
        "the centre is on both sides"
    );
}

#[tokio::test]
async fn an_odd_height_is_encoded_even() {
    // Only 4:4:4 pictures can have odd sides, and few players decode those.
    let video = h264(48, 0).replace("yuv420p", "yuv444p");
    let flv = ffmpeg_flv(&format!("{} {} {video} {AAC}", picture("854x481", 24, 5), tone(5)));
    let (folder, _root) = transcode(&flv).await;
    assert_eq!(
        renditions(&folder),
        [
            "source avc1 854x480 false",
            "360p avc1 640x360 false",
            "240p avc1 428x240 false",
            "audio mp4a 2ch true"
        ]
    );
    verify(&folder, 24, 5.0, 0.05);
}

#[tokio::test]
async fn a_wide_picture_keeps_its_shape() {
    let flv = ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("640x272", 24, 5),
        tone(5),
        h264(48, 0)
    ));
    let (folder, _root) = transcode(&flv).await;
    assert_eq!(
        renditions(&folder)[..2],
        ["source avc1 640x272 true", "240p avc1 564x240 false"]
    );
    verify(&folder, 24, 5.0, 0.05);
}

#[tokio::test]
async fn sixty_frames_a_second() {
    let flv = ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("640x480", 60, 5),
        tone(5),
        h264(60, 0)
    ));
    let (folder, _root) = transcode(&flv).await;
    assert_eq!(folder.epochs[0].renditions[0].frame_rate_milli, 60_000);
    verify(&folder, 60, 5.0, 0.05);
}

#[tokio::test]
async fn b_frames_do_not_unsettle_parts_or_starts() {
    let video = h264(50, 3).replace("ultrafast", "veryfast");
    let flv = ffmpeg_flv(&format!("{} {} {video} {AAC}", picture("640x360", 25, 6), tone(6)));
    assert!(
        packets(&flv)
            .iter()
            .any(|packet| matches!(packet, Packet::Video { composition, .. } if *composition > 80)),
        "the source has B-frames"
    );
    let (folder, _root) = transcode(&flv).await;
    verify(&folder, 25, 6.0, 0.1);
}

#[tokio::test]
async fn a_source_with_rare_keyframes_is_encoded_too() {
    let flv = ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("640x360", 25, 7),
        tone(7),
        h264(500, 0)
    ));
    let (folder, _root) = transcode(&flv).await;
    assert_eq!(renditions(&folder)[0], "source avc1 640x360 false");
    verify(&folder, 25, 7.0, 0.05);
    assert_eq!(join(&folder, "source").starts.len(), 4);
}

#[tokio::test]
async fn a_hole_in_the_sound_is_silent() {
    for (channels, sound) in [(1, AAC.replace("-ac 2", "-ac 1")), (2, AAC.to_owned())] {
        let flv = ffmpeg_flv(&format!(
            "{} {} {} {sound}",
            picture("320x240", 25, 6),
            tone(6),
            h264(50, 0)
        ));
        let holed = packets(&flv)
            .into_iter()
            .filter(|packet| !matches!(packet, Packet::Audio { timestamp, .. } if (1500..4300).contains(timestamp)));
        let root = tempfile::tempdir().unwrap();
        let folder = run(settings(), holed.collect(), root.path()).await.unwrap();
        assert_eq!(
            renditions(&folder).last().unwrap(),
            &format!("audio mp4a {channels}ch true")
        );
        // Among others: the decoder takes the silent frames.
        verify(&folder, 25, 6.0, 0.05);
    }
}

#[tokio::test]
async fn timestamps_wrap_without_a_trace() {
    let flv = ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("320x240", 25, 6),
        tone(6),
        h264(50, 0)
    ));
    let offset = u32::MAX - 2500;
    let wrapped = packets(&flv)
        .into_iter()
        .map(|packet| moved(packet, |time| time.wrapping_add(offset)));
    let root = tempfile::tempdir().unwrap();
    let folder = run(settings(), wrapped.collect(), root.path()).await.unwrap();
    verify(&folder, 25, 6.0, 0.05);
}

#[tokio::test]
async fn a_takeover_goes_on_with_the_numbers() {
    let flv = ffmpeg_flv(&format!("{} {}", picture("320x240", 25, 4), h264(25, 0)));
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings();
    (settings.first_media_sequence, settings.discontinuity_sequence) = (41, 3);
    let folder = run(settings, packets(&flv), root.path()).await.unwrap();
    assert_eq!(folder.segments[0].media_sequence, 41);
    assert!(root.path().join("source/init-3.mp4").is_file());
    assert!(root.path().join("240p/41.m4s").is_file() || folder.epochs[0].renditions.len() == 1);
}

/// Whoever goes on begins with the newest keyframe that the RTMP server has.
#[tokio::test]
async fn who_is_told_to_stop_ends_before_a_keyframe() {
    let encoder = format!("{} {} {} {AAC}", picture("320x240", 25, 20), tone(20), h264(25, 0));
    let source = packets(&ffmpeg_flv(&encoder));
    let (sender, mut receiver) = mpsc::channel(1);
    let stop = CancellationToken::new();
    // In the middle of the sixth second.
    let feed = async {
        for packet in source {
            if matches!(packet, Packet::Video { timestamp: 5500.., .. }) {
                stop.cancel();
            }
            if sender.send(packet).await.is_err() {
                return true;
            }
        }
        false
    };
    let root = tempfile::tempdir().unwrap();
    let mut folder = Folder::new(root.path());
    let work = async {
        let result = transcode::run(settings(), &mut receiver, &stop, &mut folder).await;
        receiver.close();
        result
    };
    let (result, refused) = tokio::join!(work, feed);
    result.unwrap();
    assert!(refused, "it took all that there was");
    verify(&folder, 25, 6.0, 0.05);
}

#[tokio::test]
async fn other_codecs_are_refused_with_their_code() {
    let flv = ffmpeg_flv(&format!("{} -c:v flv1 -b:v 300k", picture("320x240", 25, 1)));
    let root = tempfile::tempdir().unwrap();
    let error = run(settings(), packets(&flv), root.path()).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }));
    assert!(error.to_string().starts_with("R05"), "{error}");
    assert!(!root.path().join("source").exists());
}

/// The checks above are worth something: they fail on a folder with a lost
/// segment, a foreign segment, and a cut one.
#[tokio::test]
async fn the_checks_notice_damage() {
    let flv = ffmpeg_flv(&format!("{} {}", picture("320x240", 25, 6), h264(50, 0)));
    let (folder, root) = transcode(&flv).await;
    verify(&folder, 25, 6.0, 0.05);
    let segment = root.path().join("source/1.m4s");
    let good = std::fs::read(&segment).unwrap();
    let first = std::fs::read(root.path().join("source/0.m4s")).unwrap();
    for bad in [&good[..good.len() / 2], &first[..], &[]] {
        std::fs::write(&segment, bad).unwrap();
        let verdict = std::panic::catch_unwind(AssertUnwindSafe(|| verify(&folder, 25, 6.0, 0.05)));
        assert!(verdict.is_err(), "damage went unnoticed");
    }
    std::fs::write(&segment, &good).unwrap();
    verify(&folder, 25, 6.0, 0.05);
}
