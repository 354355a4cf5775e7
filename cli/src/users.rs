//! `castlog users`: the users of the log and their permissions, for the
//! configuration of a nats-server that castlog does not start itself.

use std::{io::Write as _, process::ExitCode};

use castlog_log::access::{self, User};

use crate::args::{UserFormat, Users};

pub(crate) fn users(args: &Users) -> ExitCode {
    let text = match args.format {
        UserFormat::Passwords => access::server_users(|user| {
            let variable = variable(user);
            format!("user: \"{}\", password: ${variable}_PASSWORD", user.name)
        }),
        UserFormat::Nkeys => access::server_users(|user| format!("nkey: ${}_NKEY", variable(user))),
        UserFormat::NatsAuth => access::USERS.iter().map(nats_auth).collect(),
    };
    // The reader of a pipe may leave, as `head` does.
    write!(std::io::stdout(), "{text}").ok();
    ExitCode::SUCCESS
}

/// What stands for a user in the names of variables.
fn variable(user: &User) -> String {
    user.name.to_uppercase().replace('-', "_")
}

/// The command that makes a user of an account, and its credentials file.
fn nats_auth(user: &User) -> String {
    let permissions = user.permissions();
    let mut words = Vec::new();
    for (flag, subjects) in [
        ("--pub-allow", &permissions.publish),
        ("--pub-deny", &permissions.publish_deny),
        ("--sub-allow", &permissions.subscribe),
    ] {
        words.extend(subjects.iter().map(|subject| format!(" \\\n  {flag} '{subject}'")));
    }
    format!(
        "nats auth user add {name} CASTLOG --defaults --payload=-1 --credential {name}.creds{}\n",
        words.concat(),
        name = user.name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_names_that_a_shell_takes() {
        let user = access::user("live-api").unwrap();
        assert_eq!(variable(user), "LIVE_API");
        let command = nats_auth(user);
        assert!(command.contains("--pub-allow 'media.broad_info.title.*'"), "{command}");
    }
}
