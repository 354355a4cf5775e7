//! What of a stream is of no use is left out, and counted.

use anyhow::Context as _;
use castlog_metrics::metrics;
use castlog_rtmp_core::type_id;

use crate::{
    common::{Bench, session},
    peer::Peer,
    viewer::Viewer,
};

/// Of H.264 in 1280x720, as x264 writes it.
const CONFIGURATION: &[u8] = b"\x01\x42\xc0\x1f\xff\xe1\x00\x19\x67\x42\xc0\x1f\xd9\x00\x50\x05\xbb\x01\x10\x00\
    \x00\x03\x00\x10\x00\x00\x03\x03\xc0\xf1\x83\x24\x80\x01\x00\x05\x68\xcb\x83\xcb\x20";

#[tokio::test]
async fn damaged_tags_are_left_out_and_counted() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let mut encoder = Peer::publish(server.running.rtmp, &key).await?;
    let live = session(&bench.status(broadcast, "started").await?);

    let configuration = [&[0x17, 0, 0, 0, 0], CONFIGURATION].concat();
    let keyframe = vec![0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x88];
    let picture = vec![0x27, 1, 0, 0, 0, 0, 0, 0, 2, 0x41, 0x9a];
    let before = metrics().rtmp_skipped_tags.get();
    for tag in [&configuration, &keyframe] {
        encoder.send(type_id::VIDEO, tag).await?;
    }
    for _ in 0..1000 {
        encoder.send(type_id::VIDEO, &[0x27]).await?;
    }
    encoder.send(type_id::VIDEO, &picture).await?;
    let mut viewer = Viewer::open(&live.ingest_url).await?;
    for wanted in [configuration, keyframe, picture] {
        let tag = viewer.tag().await?.context("the stream ended")?;
        assert_eq!(tag.data, wanted);
    }
    // Encoders of other tests send a few, too.
    let skipped = metrics().rtmp_skipped_tags.get() - before;
    assert!((1000..1100).contains(&skipped), "{skipped}");
    server.stop().await
}
