//! Samples of what an encoder sends, and of how readers keep up.

use std::{ops::Range, time::Duration};

use anyhow::Context as _;
use castlog_log::{BroadcastId, Entry, Event, Kind, pb};
use castlog_rtmp_core::type_id;
use castlog_testkit::until;
use tokio::{io::AsyncWriteExt as _, net::TcpSocket, time::sleep};

use crate::{
    common::{Bench, SOON, session, url},
    peer::Peer,
    viewer::Viewer,
};

fn sampled(entry: &Entry) -> anyhow::Result<&pb::health::Sampled> {
    match &entry.event {
        Event::Health(pb::Health {
            event: Some(pb::health::Event::Sampled(sampled)),
        }) => Ok(sampled),
        other => anyhow::bail!("not a sample: {other:?}"),
    }
}

impl Bench {
    /// The samples of a broadcast, once there are `count`.
    async fn samples(&self, broadcast: BroadcastId, count: usize) -> anyhow::Result<Vec<Entry>> {
        let subject = Kind::Health.of(broadcast).to_string();
        until(&format!("{count} samples"), SOON, || async {
            let entries = self.entries(Kind::Health, &subject).await.ok()?;
            (entries.len() >= count).then_some(entries)
        })
        .await
    }
}

/// Five seconds in milliseconds, and what a busy machine adds to them or takes away.
const FIVE_SECONDS: Range<i64> = 4200..6000;

#[tokio::test]
async fn a_sample_comes_every_five_seconds() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let _encoder = bench.push(&url(&server, key.expose()), &[])?;
    let started = bench.status(broadcast, "started").await?;
    let mut viewer = Viewer::open(&session(&started).ingest_url).await?;
    // Whole rounds of the clip, which is 4 s long.
    let (mut bytes, mut from, mut length) = (0, None, 0);
    while length < 8000 {
        let tag = viewer.tag().await?.context("the stream ended")?;
        let first = *from.get_or_insert(tag.timestamp);
        length = tag.timestamp - first;
        bytes += tag.data.len() as u64;
    }
    let bitrate = bytes * 8 * 1000 / u64::from(length);

    let samples = bench.samples(broadcast, 2).await?;
    let mut last = started.time;
    for entry in &samples {
        let sample = sampled(entry)?;
        let since = (entry.time - last).num_milliseconds();
        println!("{since} ms behind the last: {sample:?}, the clip has {bitrate} bit/s");
        assert!(FIVE_SECONDS.contains(&since), "{since} ms behind the last");
        assert!((5000..6000).contains(&sample.window_ms), "{sample:?}");
        // A window is not a whole number of groups of pictures.
        assert!(
            (bitrate * 3 / 4..bitrate * 5 / 4).contains(&sample.bitrate),
            "{sample:?} of {bitrate} bit/s"
        );
        last = entry.time;
    }
    server.stop().await
}

#[tokio::test]
async fn a_reader_that_is_let_go_is_in_one_sample() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let mut encoder = Peer::publish(server.running.rtmp, &key).await?;
    let live = session(&bench.status(broadcast, "started").await?);

    let slow = TcpSocket::new_v4()?;
    slow.set_recv_buffer_size(4096)?;
    let mut slow = slow.connect(server.running.flv).await?;
    let request = format!("GET /flv/{} HTTP/1.1\r\nhost: test\r\n\r\n", live.session_id);
    slow.write_all(request.as_bytes()).await?;
    slow.readable().await?;
    let frame = [&[0xaf, 1][..], &[0; 16 * 1024]].concat();
    // Twice what waits for a reader: the rest is in the buffers of its socket.
    for _ in 0..2048 {
        encoder.send(type_id::AUDIO, &frame).await?;
    }
    until("a sample", SOON, || async {
        bench.log.last(Kind::Health, broadcast).await.ok().flatten()
    })
    .await?;
    let samples = loop {
        encoder.send(type_id::AUDIO, &frame).await?;
        let samples = bench.samples(broadcast, 1).await?;
        if samples.len() >= 3 {
            break samples;
        }
        sleep(Duration::from_millis(500)).await;
    };
    let dropped: Vec<_> = samples
        .iter()
        .map(|entry| Ok(sampled(entry)?.dropped))
        .collect::<anyhow::Result<_>>()?;
    // The frames are through by the first sample, or by the second on a busy machine.
    assert_eq!(dropped.iter().sum::<u64>(), 1, "{dropped:?}");
    server.stop().await
}
