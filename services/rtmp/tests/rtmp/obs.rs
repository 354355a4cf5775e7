//! OBS Studio as the encoder, on a display of its own.

use std::{fs, path::Path};

use anyhow::Context as _;
use castlog_log::PublishKey;
use castlog_testkit::{Process, tools, until};

use crate::common::{Bench, SOON, Server, probe, session};

/// An X server without a screen, and its display.
async fn display(folder: &Path) -> anyhow::Result<(Process, String)> {
    // It looks for a display that is free, and says which it is.
    let arguments = ["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"];
    let mut server = Process::new(tools::find("Xvfb")?, folder.join("xvfb.log")).args(arguments);
    server.start()?;
    let number = until("a display", SOON, || {
        let said = server.output();
        async move { said.lines().find_map(|line| line.trim().parse::<u32>().ok()) }
    })
    .await?;
    Ok((server, format!(":{number}")))
}

/// An OBS that goes on air by itself: a picture of one colour, and silence.
fn obs(home: &Path, display: &str, server: &Server, key: &PublishKey) -> anyhow::Result<Process> {
    let config = home.join("config/obs-studio");
    let profile = config.join("basic/profiles/test");
    fs::create_dir_all(&profile)?;
    fs::create_dir_all(config.join("basic/scenes"))?;
    fs::create_dir_all(home.join("run"))?;
    fs::write(
        config.join("global.ini"),
        "[General]\nFirstRun=true\nEnableAutoUpdates=false\n\
         [Basic]\nProfile=test\nProfileDir=test\nSceneCollection=test\nSceneCollectionFile=test\n",
    )?;
    fs::write(
        profile.join("basic.ini"),
        "[General]\nName=test\n[Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSCommon=30\n\
         [Output]\nMode=Simple\nReconnect=false\n\
         [SimpleOutput]\nVBitrate=1000\nStreamEncoder=x264\nPreset=ultrafast\n",
    )?;
    let service = serde_json::json!({
        "type": "rtmp_custom",
        "settings": { "server": format!("rtmp://{}/live", server.running.rtmp), "key": key.expose() },
    });
    fs::write(profile.join("service.json"), service.to_string())?;
    let scenes = serde_json::json!({
        "name": "test", "current_scene": "Scene", "current_program_scene": "Scene",
        "scene_order": [{ "name": "Scene" }],
        "sources": [
            {
                "id": "scene", "name": "Scene",
                "settings": { "id_counter": 1, "items": [{ "name": "colour", "id": 1, "visible": true }] },
            },
            {
                "id": "color_source_v3", "name": "colour",
                "settings": { "color": 0xff_d0_80_40_u32, "width": 640, "height": 360 },
            },
        ],
    });
    fs::write(config.join("basic/scenes/test.json"), scenes.to_string())?;
    let arguments = "--startstreaming --profile test --collection test --multi --disable-updater --minimize-to-tray";
    let process = Process::new(tools::find("obs")?, home.join("obs.log"))
        .args(arguments.split(' '))
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("DISPLAY", display)
        .env("QT_QPA_PLATFORM", "xcb")
        .env("LIBGL_ALWAYS_SOFTWARE", "1");
    Ok(process)
}

#[tokio::test]
async fn obs_publishes_comes_back_and_is_refused() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (_screen, display) = display(bench.folder.path()).await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let mut encoder = obs(&bench.folder.path().join("obs"), &display, &server, &key)?;
    encoder.start()?;
    let started = bench.status(broadcast, "started").await;
    let live = session(&started.with_context(|| encoder.last_output())?);
    let seen = probe(&live.ingest_url, bench.folder.path()).await?;
    assert!(seen.contains("codec_name=h264|width=640|height=360"), "{seen}");
    assert!(seen.contains("codec_name=aac|sample_rate=48000"), "{seen}");
    encoder.kill9();
    bench.status(broadcast, "interrupted").await?;
    encoder.start()?;
    let resumed = bench.status(broadcast, "resumed").await?;
    assert_eq!(session(&resumed), live, "the session goes on");

    let home = bench.folder.path().join("obs-unknown");
    let mut unknown = obs(&home, &display, &server, &PublishKey::generate())?;
    unknown.start()?;
    until("the refusal", SOON, || {
        let said = unknown.output();
        async move { said.contains("R01: unknown publish key").then_some(()) }
    })
    .await
    .with_context(|| unknown.last_output())?;
    server.stop().await
}
