//! What `castlog up` tells when everything runs.

use super::folder::Folder;
use crate::config::Config;

/// Addresses, the token, and what to do next. No URL holds a secret.
pub(super) fn summary(config: &Config, folder: &Folder) -> String {
    let api = &config.live_api;
    let folder = folder.path().display();
    let rows = [
        ("Web", format!("{}/", api.public_url)),
        ("API", format!("{}/docs", api.public_url)),
        ("RTMP", format!("{}/<publish key>", api.rtmp_public_url)),
        ("RTMPS", format!("{}/<publish key>", api.rtmps_public_url)),
        ("HLS", format!("{}/live/<broadcast id>/index.m3u8", api.hls_public_url)),
        (
            "NATS",
            format!("{} (users and passwords: {folder}/env)", config.nats.url),
        ),
        ("Admin token", api.admin_token.expose().clone()),
        ("Logs", format!("{folder}/logs")),
        ("Data", folder.to_string()),
    ];
    let next = [
        ("./dev push", "sends a test picture to a new broadcast"),
        ("./dev tail", "prints the log's entries as they come"),
        (
            "./dev nats sub 'media.>' --translate 'castlog decode {{Subject}}'",
            "the same with the nats command",
        ),
        ("./dev nats stream ls", "the streams of the log"),
    ];
    let mut text = String::from("\ncastlog is up. Ctrl-C stops it.\n\n");
    for (name, value) in rows {
        text.push_str(&format!("  {name:<12} {value}\n"));
    }
    text.push_str("\nNext, in another terminal:\n\n");
    for (command, what) in next {
        text.push_str(&format!("  {command}\n      {what}\n"));
    }
    text
}
