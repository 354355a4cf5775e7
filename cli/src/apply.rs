//! `castlog apply`: the streams and consumers as the definitions want them.

use std::process::ExitCode;

use castlog_log::provision::{self, Change, Plan};

use crate::{
    args::{Apply, Global},
    config,
};

pub(crate) async fn apply(global: &Global, args: &Apply) -> anyhow::Result<ExitCode> {
    let config = config::load(global)?;
    let log = config::connect(&config, "castlog apply").await?;
    let plan = Plan {
        check: args.check,
        allow_destructive: args.allow_destructive,
        replicas: args.replicas.unwrap_or(config.jetstream.replicas),
    };
    let changes = provision::apply(&log, plan).await?;
    for change in &changes {
        println!("{}", describe(change, args.check));
    }
    if changes.is_empty() {
        println!("streams and consumers are as defined");
    }
    let drift = args.check && !changes.is_empty();
    Ok(if drift { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe(change: &Change, check: bool) -> String {
    let word = match (change.created, check) {
        (true, true) => "missing",
        (true, false) => "created",
        (false, true) => "differs",
        (false, false) => "updated",
    };
    let mut text = format!("{word} {}", change.name);
    for line in &change.lines {
        text.push_str("\n    ");
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_each_key() {
        let change = Change {
            name: "S/c".into(),
            lines: vec!["ack_wait: 1 -> 2".into()],
            created: false,
        };
        assert_eq!(describe(&change, false), "updated S/c\n    ack_wait: 1 -> 2");
        assert_eq!(
            describe(
                &Change {
                    lines: vec![],
                    created: true,
                    ..change
                },
                true
            ),
            "missing S/c"
        );
    }
}
