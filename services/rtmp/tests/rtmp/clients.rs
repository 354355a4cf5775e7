//! What encoders may say, send and leave out: forms of the URL, other clients than
//! ffmpeg, codecs, and limits of a stream.

use anyhow::Context as _;
use castlog_rtmp::Config;
use castlog_rtmp_core::{amf0::Value, type_id};
use castlog_testkit::{Process, tools, until};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{fs, net::SocketAddr, path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    common::{Bench, SOON, end_of, reason, session, url},
    peer::{Peer, command},
};

#[tokio::test]
async fn the_key_may_stand_in_a_query() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let server = bench.serve(bench.config()).await?;
    for form in ["live/camera?key=", "live?key=", "live/camera?x=1&key="] {
        let (broadcast, key) = bench.broadcast().await?;
        let target = format!("rtmp://{}/{form}{}", server.running.rtmp, key.expose());
        let _encoder = bench.push(&target, &[])?;
        bench.status(broadcast, "started").await.context(form)?;
    }
    let mut wrong = bench.push(&format!("rtmp://{}/live/camera?name=x", server.running.rtmp), &[])?;
    let said = end_of(&mut wrong).await?;
    assert!(said.contains("R02"), "no key in it: {said}");
    server.stop().await
}

#[tokio::test]
async fn gstreamer_publishes_and_is_refused() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let push = |name: &str, key: &str| -> anyhow::Result<Process> {
        let location = format!("location={}", url(&server, key));
        let picture = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 \
                       ! x264enc tune=zerolatency key-int-max=25 ! h264parse ! mux. \
                       audiotestsrc is-live=true ! voaacenc ! aacparse ! mux. \
                       flvmux name=mux streamable=true ! rtmp2sink";
        let log = bench.folder.path().join(name);
        let mut process = Process::new(tools::find("gst-launch-1.0")?, log)
            .args(picture.split_whitespace())
            .args([location]);
        process.start()?;
        Ok(process)
    };
    let mut encoder = push("gst.log", key.expose())?;
    let started = bench.status(broadcast, "started").await;
    let live = session(&started.with_context(|| encoder.output())?);
    let seen = crate::common::probe(&live.ingest_url, bench.folder.path()).await?;
    assert!(seen.contains("codec_name=h264|width=320|height=180"), "{seen}");
    encoder.kill9();
    bench.status(broadcast, "interrupted").await?;

    let mut unknown = push("gst-unknown.log", castlog_log::PublishKey::generate().expose())?;
    let said = end_of(&mut unknown).await?;
    assert!(said.contains("R01: unknown publish key"), "{said}");
    server.stop().await
}

#[tokio::test]
async fn a_player_finds_the_handshake_in_order_and_is_told_no() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let server = bench.serve(bench.config()).await?;
    // Of ffmpeg, players check the server's digest and signature, encoders do not.
    let mut player = Process::new(tools::find("ffprobe")?, bench.folder.path().join("player.log"));
    player = player.args(["-v", "info", &url(&server, "camera")]);
    player.start()?;
    let said = end_of(&mut player).await?;
    assert!(said.contains("this server takes publishers only"), "{said}");
    server.stop().await
}

#[tokio::test]
async fn an_encoder_that_wants_to_play_is_lost_and_may_come_back() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    for (word, before) in [("play", "started"), ("play2", "resumed")] {
        let mut encoder = Peer::publish(server.running.rtmp, &key).await?;
        bench.status(broadcast, before).await?;
        let play = command(1, &[word.into(), 4.0.into(), Value::Null, "camera".into()]);
        encoder.0.write_all(&play).await?;
        let said = encoder.hear("NetStream.Play.Failed").await?;
        assert!(said.contains("NetStream.Play.Failed"), "{word}: {said}");
        let interrupted = bench.status(broadcast, "interrupted").await?;
        assert_eq!(reason(&interrupted), "the encoder asked to play", "{word}");
    }
    let _encoder = Peer::publish(server.running.rtmp, &key).await?;
    bench.status(broadcast, "resumed").await?;
    server.stop().await
}

/// Pushes to a server with these limits; why the publish ended, as the encoder and the log have it.
async fn cut(config: impl FnOnce(Config) -> Config, extra: &[&str]) -> anyhow::Result<(String, String)> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(config(bench.config())).await?;
    let mut encoder = bench.push(&url(&server, key.expose()), extra)?;
    let said = end_of(&mut encoder).await?;
    let ended = bench.status(broadcast, "ended").await?;
    server.stop().await?;
    Ok((said, reason(&ended)))
}

#[tokio::test]
async fn too_large_a_picture_is_cut() -> anyhow::Result<()> {
    let limits = |config| Config {
        max_width: 300,
        max_height: 300,
        ..config
    };
    let (said, ended) = cut(limits, &[]).await?;
    assert_eq!(ended, "R06: picture of 320x180 is over the limit of 300x300");
    assert!(said.contains(&ended), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_stream_without_keyframes_is_cut() -> anyhow::Result<()> {
    let limits = |config| Config {
        max_keyframe_interval_s: 2,
        ..config
    };
    // The clip has one each second; all but the first are left out.
    let (said, ended) = cut(limits, &["-bsf:v", "noise=drop=key*gt(n\\,0)"]).await?;
    let wanted = "s is over the limit of 2 s; set the encoder's keyframe interval to 2 s";
    assert!(
        ended.starts_with("R06: no keyframe for 2.") && ended.ends_with(wanted),
        "{ended}"
    );
    assert!(said.contains("R06: no keyframe"), "{said}");
    Ok(())
}

#[tokio::test]
async fn codecs_of_enhanced_rtmp_are_named_and_cost_the_key_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    for (type_id, tag, expected) in [
        (
            type_id::VIDEO,
            b"\x90hvc1\x01\x01\x60",
            "R05: video codec H.265 is not taken, send H.264",
        ),
        (
            type_id::VIDEO,
            b"\x90av01\x81\x08\x0c",
            "R05: video codec AV1 is not taken, send H.264",
        ),
        (
            type_id::AUDIO,
            b"\x90OpusOpu",
            "R05: audio codec Opus is not taken, send AAC",
        ),
    ] {
        let mut peer = Peer::publish(server.running.rtmp, &key).await?;
        peer.send(type_id, tag).await?;
        let said = peer.hear(expected).await?;
        assert!(
            said.contains("NetStream.Publish.Denied") && said.contains(expected),
            "{said}"
        );
        assert_eq!(reason(&bench.status(broadcast, "ended").await?), expected);
    }
    let _encoder = bench.push(&url(&server, key.expose()), &[])?;
    bench.status(broadcast, "started").await?;
    server.stop().await
}

/// Trusts every certificate: the test compares it.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a client is shown.
async fn shown(address: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost")?;
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let chain = tls.get_ref().1.peer_certificates().context("no certificate")?;
    let shown = chain.first().context("no certificate")?.to_vec();
    // What comes on it is nobody's business.
    tokio::time::timeout(SOON, tls.read(&mut [0; 1])).await.ok();
    Ok(shown)
}

/// Writes a new certificate and its key; the certificate as clients are shown it.
fn renew(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    fs::write(folder.join("cert.pem"), made.cert.pem())?;
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(made.cert.der().to_vec())
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let folder = bench.folder.path();
    let first = renew(folder)?;
    let config = Config {
        tls_listen: Some(([127, 0, 0, 1], 0).into()),
        tls_cert: Some(folder.join("cert.pem")),
        tls_key: Some(folder.join("key.pem")),
        handshake_timeout_s: 1,
        ..bench.config()
    };
    let server = bench.serve(config).await?;
    let address = server.running.rtmps.context("no RTMPS")?;
    assert_eq!(shown(address).await?, first);
    let next = renew(folder)?;
    assert_ne!(next, first);
    until("the new certificate", SOON, || async {
        (shown(address).await.ok()? == next).then_some(())
    })
    .await?;
    // What is no certificate changes nothing, and the next one that is does.
    fs::write(folder.join("cert.pem"), "not a certificate")?;
    assert_eq!(shown(address).await?, next);
    let last = renew(folder)?;
    until("the last certificate", SOON, || async {
        (shown(address).await.ok()? == last).then_some(())
    })
    .await?;
    server.stop().await
}
