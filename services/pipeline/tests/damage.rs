//! Damaged media from an encoder: what cannot be used is left out and counted, and the
//! stream goes on. One test, for what is counted is counted for the whole process.
#![allow(clippy::unwrap_used)]

mod support;

use castlog_metrics::{Skip, metrics};
use castlog_pipeline::media::Packet;
use support::{
    AAC, assert_sequences, complaints, ffmpeg_flv, h264, join, moved, packets, picture, probe, run, settings, tone,
};

/// What has been left out: unreadable, out of time, undecodable.
fn skipped() -> [u64; 3] {
    ["unreadable", "out_of_time", "undecodable"].map(|reason| {
        let skip = Skip { reason };
        metrics().pipeline_skipped_packets.get_or_create(&skip).get()
    })
}

/// Ten pictures between two keyframes, damaged.
fn damaged(packets: Vec<Packet>, damage: impl Fn(&mut Vec<u8>)) -> Vec<Packet> {
    let mut number = 0;
    let of = |packet| match packet {
        Packet::Video {
            timestamp,
            composition,
            data,
        } => {
            number += 1;
            let mut bytes = data.to_vec();
            if (30..40).contains(&number) {
                damage(&mut bytes);
            }
            Packet::Video {
                timestamp,
                composition,
                data: bytes.into(),
            }
        }
        other => other,
    };
    packets.into_iter().map(of).collect()
}

#[tokio::test]
async fn damaged_media_is_left_out_and_counted() {
    let good = packets(&ffmpeg_flv(&format!(
        "{} {} {} {AAC}",
        picture("640x360", 25, 6),
        tone(6),
        h264(25, 0)
    )));
    // Of two tracks that do not belong together the first to come counts.
    let first = |packet: &Packet| !matches!(packet, Packet::Audio { timestamp: ..100, .. });
    let late: Vec<Packet> = good
        .iter()
        .filter(|packet| first(packet))
        .cloned()
        .map(|packet| match packet {
            Packet::Audio { .. } => moved(packet, |time| time + 60_000),
            other => other,
        })
        .collect();
    let sound = late
        .iter()
        .filter(|packet| matches!(packet, Packet::Audio { .. }))
        .count() as u64;
    let all = ["source", "240p", "audio"];
    for (name, packets, counted, pictures, renditions) in [
        ("nothing", good.clone(), [0, 0, 0], [150, 150], &all[..]),
        (
            "a length that reaches past the end",
            damaged(good.clone(), |bytes| bytes[..4].fill(0xff)),
            [10, 0, 0],
            [140, 140],
            &all,
        ),
        (
            "an end that is missing",
            damaged(good.clone(), |bytes| bytes.truncate(bytes.len() / 2)),
            [10, 0, 0],
            [140, 140],
            &all,
        ),
        // The source is passed through as it came: its pictures are still there.
        (
            "a slice that is none",
            damaged(good.clone(), |bytes| bytes[5..].fill(0)),
            [0, 0, 10],
            [150, 140],
            &all,
        ),
        // A decoder makes something of it.
        (
            "the end of a slice",
            damaged(good.clone(), |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle..].fill(0xaa);
            }),
            [0, 0, 0],
            [150, 150],
            &all,
        ),
        ("sound of another time", late, [0, sound, 0], [150, 150], &all[..2]),
    ] {
        let root = tempfile::tempdir().unwrap();
        let before = skipped();
        let folder = run(settings(), packets, root.path()).await.unwrap();
        let after = skipped();
        assert_eq!([0, 1, 2].map(|n| after[n] - before[n]), counted, "{name}");
        assert_eq!(folder.epochs.len(), 1, "{name}");
        assert_sequences(&folder, renditions);
        let samples = |rendition: &str| -> usize {
            let segments = folder.segments.iter().filter(|segment| segment.rendition == rendition);
            segments
                .flat_map(|segment| castlog_cmaf::read::segment(&std::fs::read(&segment.path).unwrap()).unwrap())
                .map(|chunk| chunk.samples.len())
                .sum()
        };
        assert_eq!(["source", "240p"].map(samples), pictures, "{name}");
        // What is encoded here is whole: nothing is heard of the damage.
        let rung = join(&folder, "240p");
        assert_eq!(complaints(&rung.path), "", "{name}");
        assert_eq!(
            probe(&rung.path)["streams"][0]["nb_read_frames"],
            pictures[1].to_string()
        );
        assert!((rung.duration - 6.0).abs() < 0.05, "{name}: {} s", rung.duration);
    }
}
