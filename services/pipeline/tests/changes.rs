//! Sources that change while they run: their time line, the distance of their keyframes,
//! their configurations.
#![allow(clippy::unwrap_used)]

mod support;

use castlog_pipeline::{
    folder::Folder,
    media::Packet,
    transcode::{Epoch, Rendition},
};
use chrono::{DateTime, TimeDelta, Utc};
use support::{
    AAC, assert_sequences, complaints, ffmpeg_flv, h264, join_epoch, moved, packets, picture, probe, run, settings,
    tone, verify,
};

async fn transcode(packets: Vec<Packet>) -> (Folder, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let folder = run(settings(), packets, root.path()).await.unwrap();
    (folder, root)
}

/// Four seconds of an encoder.
fn four_seconds(size: &str, sound: &str) -> Vec<Packet> {
    packets(&ffmpeg_flv(&format!(
        "{} {} {} -c:a aac -b:a 96k {sound}",
        picture(size, 25, 4),
        tone(4),
        h264(25, 0)
    )))
}

/// One encoder, and behind it another in its place: the times go on.
fn one_after_the_other(one: Vec<Packet>, other: Vec<Packet>) -> Vec<Packet> {
    let other = other.into_iter().map(|packet| moved(packet, |time| time + 4000));
    one.into_iter().chain(other).collect()
}

/// The names of an epoch's renditions.
fn names(epoch: &Epoch) -> Vec<&str> {
    epoch
        .renditions
        .iter()
        .map(|rendition| rendition.name.as_str())
        .collect()
}

/// When the first rendition begins and ends in each epoch.
fn dates(folder: &Folder) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let of = |epoch: &Epoch| {
        let (name, number) = (&epoch.renditions[0].name, epoch.discontinuity_sequence);
        let mut of_it = folder
            .segments
            .iter()
            .filter(|segment| segment.rendition == *name && segment.discontinuity_sequence == number);
        let first = of_it.next().unwrap();
        let last = of_it.next_back().unwrap_or(first);
        let lasts: i64 = last.parts.iter().map(|part| part.duration).sum();
        [first.start, last.start + lasts].map(|time| epoch.program_date_time(time))
    };
    folder.epochs.iter().map(of).map(|[from, to]| (from, to)).collect()
}

/// Two epochs, a discontinuity apart. Each decodes without complaint as what it says that
/// it is, and has the pictures and the sound of four seconds.
fn assert_two_epochs(folder: &Folder) {
    let lines: Vec<u64> = folder.epochs.iter().map(|epoch| epoch.discontinuity_sequence).collect();
    assert_eq!(lines, [0, 1]);
    for epoch in &folder.epochs {
        for Rendition { name, config, .. } in &epoch.renditions {
            let joined = join_epoch(folder, name, epoch.discontinuity_sequence);
            assert_eq!(complaints(&joined.path), "", "{name}");
            let seen = &probe(&joined.path)["streams"][0];
            let number = |field: &str| seen[field].as_str().unwrap().parse::<f64>().unwrap();
            match config {
                castlog_cmaf::Track::Video(video) => {
                    assert_eq!(
                        (&seen["width"], &seen["height"]),
                        (&video.width.into(), &video.height.into())
                    );
                    assert_eq!(number("nb_read_frames"), 100.0, "{name}");
                }
                castlog_cmaf::Track::Audio(audio) => {
                    assert_eq!(seen["channels"], audio.channels);
                    assert_eq!(number("sample_rate"), f64::from(audio.sample_rate));
                    let seconds = number("nb_read_frames") * 1024.0 / number("sample_rate");
                    assert!((seconds - 4.0).abs() < 0.1, "{seconds} s of sound");
                }
            }
        }
    }
}

#[tokio::test]
async fn another_size_of_the_picture_is_a_discontinuity() {
    let stereo = "-ac 2 -ar 48000";
    let both = one_after_the_other(four_seconds("640x360", stereo), four_seconds("1280x720", stereo));
    let (folder, root) = transcode(both).await;
    assert_two_epochs(&folder);
    let [before, after] = [0, 1].map(|epoch| &folder.epochs[epoch]);
    assert_eq!(names(before), ["source", "240p", "audio"]);
    assert_eq!(names(after), ["source", "480p", "360p", "audio"]);
    let sps = after.source.video.as_ref().unwrap().sps;
    assert_eq!((sps.width, sps.height), (1280, 720));
    assert_sequences(&folder, &["source", "audio"]);
    let init = |name: &str, epoch: u64| std::fs::read(root.path().join(format!("{name}/init-{epoch}.mp4"))).unwrap();
    assert_ne!(init("source", 0), init("source", 1));
    assert_eq!(init("audio", 0), init("audio", 1));
}

#[tokio::test]
async fn another_format_of_the_sound_is_a_discontinuity() {
    let both = one_after_the_other(
        four_seconds("640x360", "-ac 1 -ar 44100"),
        four_seconds("640x360", "-ac 2 -ar 48000"),
    );
    let (folder, root) = transcode(both).await;
    assert_two_epochs(&folder);
    let sound = |epoch: usize| folder.epochs[epoch].source.audio.as_ref().unwrap().config;
    assert_eq!((sound(0).channels, sound(0).sample_rate), (1, 44_100));
    assert_eq!((sound(1).channels, sound(1).sample_rate), (2, 48_000));
    assert_sequences(&folder, &["source", "240p", "audio"]);
    let init = |name: &str, epoch: u64| std::fs::read(root.path().join(format!("{name}/init-{epoch}.mp4"))).unwrap();
    assert_eq!(init("source", 0), init("source", 1));
    assert_ne!(init("audio", 0), init("audio", 1));
}

/// Some encoders send their configurations again with each keyframe.
#[tokio::test]
async fn the_same_configurations_again_change_nothing() {
    let once = four_seconds("640x360", "-ac 2 -ar 48000");
    let configurations: Vec<Packet> = once
        .iter()
        .filter(|packet| matches!(packet, Packet::VideoConfig(_) | Packet::AudioConfig(_)))
        .cloned()
        .collect();
    assert_eq!(configurations.len(), 2);
    let (mut again, mut pictures) = (Vec::new(), 0);
    for packet in once {
        if matches!(packet, Packet::Video { .. }) {
            if pictures % 25 == 0 {
                again.extend(configurations.iter().cloned());
            }
            pictures += 1;
        }
        again.push(packet);
    }
    assert_eq!(pictures, 100);
    let (folder, _root) = transcode(again).await;
    verify(&folder, 25, 4.0, 0.1);
}

#[tokio::test]
async fn keyframes_that_become_rare_end_the_passthrough() {
    let dense = packets(&ffmpeg_flv(&format!("{} {}", picture("320x180", 25, 4), h264(25, 0))));
    let sparse = packets(&ffmpeg_flv(&format!("{} {}", picture("320x180", 25, 13), h264(150, 0))));
    let sparse = sparse
        .into_iter()
        .filter(|packet| matches!(packet, Packet::Video { .. }))
        .collect();
    let (folder, _root) = transcode(one_after_the_other(dense, sparse)).await;
    let kinds: Vec<bool> = folder
        .epochs
        .iter()
        .map(|epoch| epoch.renditions[0].passthrough)
        .collect();
    assert_eq!(kinds, [true, false]);
    assert_sequences(&folder, &names(&folder.epochs[0]));
    let dates = dates(&folder);
    let hole = dates[1].0 - dates[0].1;
    assert!(hole.abs() <= TimeDelta::milliseconds(40), "{hole}: it is one time line");
}

#[tokio::test]
async fn a_jump_in_time_is_a_discontinuity() {
    let flv = ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("320x240", 25, 8),
        tone(8),
        h264(25, 0)
    ));
    // The encoder starts anew in the middle: times begin at nought again.
    let anew = |time| if time >= 4000 { time - 4000 } else { time };
    let shifted = packets(&flv).into_iter().map(|packet| moved(packet, anew));
    let (folder, _root) = transcode(shifted.collect()).await;
    assert_eq!(folder.epochs.len(), 2);
    let numbers: Vec<u64> = folder.epochs.iter().map(|epoch| epoch.discontinuity_sequence).collect();
    assert_eq!(numbers, [0, 1]);
    assert_sequences(&folder, &names(&folder.epochs[0]));
}

/// A pipeline that was held up has more than it gets from then on, and makes that good:
/// its epochs are longer than they take. No date names two places all the same.
#[tokio::test]
async fn what_is_made_faster_than_it_came_is_dated_in_order() {
    let mut packets = Vec::new();
    for _ in 0..3 {
        packets.extend(four_seconds("640x360", "-ac 2 -ar 48000"));
        packets.push(Packet::Break);
    }
    let begun = Utc::now();
    let (folder, _root) = transcode(packets).await;
    let dates = dates(&folder);
    assert_eq!(dates.len(), 3);
    assert!(dates[0].0 > begun - TimeDelta::seconds(4));
    for pair in dates.windows(2) {
        assert!(pair[1].0 >= pair[0].1, "{dates:?}");
    }
}

/// A worker that takes a job over gets at once what the ingest has kept since the last
/// keyframe, which may be longer than it waits for the next one.
#[tokio::test]
async fn the_newest_of_what_an_ingest_has_kept_is_now() {
    let flv = ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("320x180", 25, 20),
        tone(20),
        h264(500, 0)
    ));
    let (folder, _root) = transcode(packets(&flv)).await;
    let dates = dates(&folder);
    assert_eq!(dates.len(), 1);
    assert!(dates[0].1 <= Utc::now(), "it ends at {}, in the future", dates[0].1);
}
