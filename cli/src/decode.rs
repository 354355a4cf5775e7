//! `castlog decode`: a payload as readable JSON, for `nats … --translate`.
//!
//! The `nats` command shows whatever its translator prints, so what is wrong
//! with a payload goes to standard output like the JSON would, with success.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};

use crate::args::Decode;

/// Longest payload read: the largest that the server lets through.
const MAX_PAYLOAD: u64 = 8 << 20;

pub(crate) fn decode(args: &Decode) -> ExitCode {
    let mut payload = Vec::new();
    let text = match std::io::stdin().lock().take(MAX_PAYLOAD + 1).read_to_end(&mut payload) {
        Ok(_) => show(args.subject.as_deref().unwrap_or_default(), &payload),
        Err(error) => format!("cannot read the payload: {error}"),
    };
    // Nobody is left to tell when standard output is closed.
    writeln!(std::io::stdout(), "{text}").ok();
    ExitCode::SUCCESS
}

fn show(subject: &str, payload: &[u8]) -> String {
    if subject.is_empty() {
        return "no subject was given, and without it the kind of the payload is unknown".to_owned();
    }
    if payload.len() as u64 > MAX_PAYLOAD {
        return format!("not an entry: the payload is longer than {MAX_PAYLOAD} bytes");
    }
    match castlog_log::decode_json(subject, payload) {
        Ok(json) => format!("{json:#}"),
        Err(error) => format!("not an entry: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use castlog_log::Kind;

    use super::show;

    #[test]
    fn what_is_no_entry_is_told_in_one_line() {
        for (subject, payload) in [("", &b""[..]), ("orders.new", b"{}"), ("media.broad_info.title.x", b"")] {
            let text = show(subject, payload);
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn every_event_of_every_kind_is_shown_as_json() {
        let id = castlog_log::BroadcastId::generate();
        let mut shown = Vec::new();
        for event in castlog_testkit::events::every_event() {
            let text = show(&event.kind().of(id).to_string(), &event.encode());
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let name = event.name().unwrap();
            assert!(json[name].is_object(), "{text}");
            assert_eq!(castlog_log::Event::from_json(event.kind(), json).unwrap(), event);
            shown.push((event.kind(), name));
        }
        for kind in Kind::ALL {
            for name in castlog_log::Event::names(kind) {
                assert!(shown.contains(&(kind, name)), "{kind} {name}");
            }
        }
        let part = show(&Kind::Part.of(id).to_string(), b"0123");
        assert!(part.contains(r#""sizeBytes": 4"#), "{part}");
    }

    #[test]
    fn a_change_of_the_feed_is_shown_as_json() {
        let id = castlog_log::BroadcastId::generate();
        // Field 1 (`kind`) = "title".
        let text = show(&format!("castlog.live_info.changed.{id}"), b"\x0a\x05title");
        assert!(text.contains(r#""kind": "title""#), "{text}");
    }

    #[test]
    fn what_a_newer_producer_says_is_shown_as_far_as_it_is_known() {
        let id = castlog_log::BroadcastId::generate();
        // Field 1 (`changed`) with field 2 (`language`) = "ko" and field 3
        // (`visibility`) = 99, which is no visibility yet.
        let options = show(&Kind::Options.of(id).to_string(), b"\x0a\x06\x12\x02ko\x18\x63");
        assert!(options.contains(r#""language": "ko""#), "{options}");
        // Field 90: an event that there is none of yet.
        let title = show(&Kind::Title.of(id).to_string(), &[0xd2, 0x05, 2, 0x08, 1]);
        assert_eq!(title, "{}");
    }
}
