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
    use super::show;

    #[test]
    fn what_is_no_entry_is_told_in_one_line() {
        for (subject, payload) in [("", &b""[..]), ("orders.new", b"{}"), ("media.broad_info.title.x", b"")] {
            let text = show(subject, payload);
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn an_entry_is_shown_as_json() {
        let subject = castlog_log::Kind::Title
            .of(castlog_log::BroadcastId::generate())
            .to_string();
        // Field 1 (`changed`) with field 1 (`title`) = "hi".
        let text = show(&subject, &[0x0a, 4, 0x0a, 2, b'h', b'i']);
        assert!(text.contains(r#""title": "hi""#), "{text}");
    }
}
