//! Who may do what in the log: one NATS user per service, one for tools and one
//! that only looks. This table is the one place that says so; the configuration
//! of a server is made from it (`castlog users`).
//!
//! A service may publish the kinds that are its own, read what it needs, and take
//! from its own durable consumer. It can neither make, change nor empty a stream,
//! nor touch the durable consumer of another.

use std::fmt::Write as _;

use crate::{Kind, dead_letter, provision};

/// A NATS user of the log.
#[derive(Debug)]
pub struct User {
    /// Its name; that of the service, where it is one's.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
    /// Kinds of entries that it publishes. It may also read the last of each.
    pub publishes: &'static [Kind],
    /// Subjects beside `media.>` that it publishes.
    pub also_publishes: &'static [&'static str],
    /// Kinds of which it reads the last entry of a broadcast.
    pub reads: &'static [Kind],
    /// Streams that it reads in order, each reader by an ephemeral consumer.
    pub follows: &'static [&'static str],
    /// Streams of which it reads single entries, by sequence or as the last of a subject.
    pub looks_into: &'static [&'static str],
    /// The durable consumer that it takes entries from, on every stream that has it.
    pub consumes: Option<&'static str>,
}

/// What a [`User`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A service of castlog.
    Service,
    /// Tools of those who run castlog: provisioning, rebuilding, dead letters.
    /// They have all of JetStream's API, and publish no entry.
    Operator,
    /// Whoever only looks, such as with the `nats` command.
    Observer,
}

/// A service that does nothing.
const SERVICE: User = User {
    name: "",
    role: Role::Service,
    publishes: &[],
    also_publishes: &[],
    reads: &[],
    follows: &[],
    looks_into: &[],
    consumes: None,
};

/// Every user.
pub const USERS: [User; 9] = [
    User {
        name: "rtmp",
        publishes: &[Kind::Auth, Kind::Status, Kind::Health],
        follows: &["BROAD_INFO", "LIVE_STREAM"],
        ..SERVICE
    },
    User {
        name: "pipeline",
        publishes: &[Kind::Metadata, Kind::Segment, Kind::Part],
        reads: &[Kind::Status, Kind::Options, Kind::Registration],
        // Whether a session was recorded; and the parts that a worker that died has left.
        follows: &["BROAD_INFO", "LIVE_STREAM", "LIVE_PART"],
        consumes: Some("pipeline"),
        ..SERVICE
    },
    User {
        name: "hls",
        publishes: &[Kind::Viewers],
        follows: &["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_PART"],
        ..SERVICE
    },
    User {
        name: "live-info",
        // Committed changes of its state, for those who need them.
        also_publishes: &["castlog.live_info.changed.*"],
        // What it has not relayed yet, and what the feed has already.
        looks_into: &["BROAD_INFO", "LIVE_STREAM", "LIVE_INFO_CHANGED"],
        consumes: Some("live_info"),
        ..SERVICE
    },
    User {
        name: "live-api",
        publishes: &[
            Kind::Registration,
            Kind::PublishKey,
            Kind::Title,
            Kind::Tags,
            Kind::Options,
        ],
        // What an admin may do with a dead letter: have it tried again, after which it is gone, and on record.
        also_publishes: &[
            "castlog.redrive.*",
            "castlog.dead_letter.attempt.*.*",
            "$JS.API.STREAM.MSG.DELETE.DEAD_LETTER",
        ],
        reads: &[Kind::Status, Kind::Metadata],
        follows: &[
            "BROAD_INFO",
            "LIVE_STREAM",
            "LIVE_SEGMENT",
            "LIVE_TELEMETRY",
            "LIVE_INFO_CHANGED",
            "DEAD_LETTER",
        ],
        ..SERVICE
    },
    User {
        name: "indexer",
        // Which of its instances works.
        also_publishes: &["castlog.lease.indexer"],
        // How many people watch is told by the telemetry.
        follows: &["BROAD_INFO", "LIVE_STREAM", "LIVE_TELEMETRY"],
        looks_into: &["LEASE"],
        consumes: Some("indexer"),
        ..SERVICE
    },
    User {
        name: "log-sink",
        follows: &["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"],
        consumes: Some("log_sink"),
        ..SERVICE
    },
    User {
        name: "castlog",
        role: Role::Operator,
        ..SERVICE
    },
    User {
        name: "observer",
        role: Role::Observer,
        ..SERVICE
    },
];

/// What a user may and may not do, as nats-server reads it: what is not allowed
/// is denied, and what is denied is so although it is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects that it may publish to.
    pub publish: Vec<String>,
    /// Subjects that it may not publish to.
    pub publish_deny: Vec<String>,
    /// Subjects that it may subscribe to.
    pub subscribe: Vec<String>,
    /// It may answer a request once, wherever the answer is wanted.
    pub respond: bool,
}

/// The user of this name.
#[must_use]
pub fn user(name: &str) -> Option<&'static User> {
    const ALL: &[User] = &USERS;
    ALL.iter().find(|user| user.name == name)
}

/// The first token of the subjects on which a service gets its answers. Each has
/// its own, so that none can read those of another.
#[must_use]
pub fn inbox_prefix(name: &str) -> String {
    match user(name) {
        Some(user) if user.role == Role::Service => format!("_INBOX_{name}"),
        _ => "_INBOX".to_owned(),
    }
}

impl User {
    /// What it may do.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        let (publish, publish_deny) = match self.role {
            Role::Service => self.service(),
            Role::Operator => operator(),
            Role::Observer => observer(),
        };
        let subscribe = match self.role {
            Role::Service => {
                let redrive = self.consumes.map(|consumer| format!("castlog.redrive.{consumer}"));
                [format!("{}.>", inbox_prefix(self.name))]
                    .into_iter()
                    .chain(redrive)
                    .collect()
            }
            Role::Operator => lines(&[">"]),
            Role::Observer => lines(&["_INBOX.>", "media.>", "castlog.>", "$JS.EVENT.>"]),
        };
        Permissions {
            publish,
            publish_deny,
            subscribe,
            respond: self.consumes.is_some(),
        }
    }

    fn service(&self) -> (Vec<String>, Vec<String>) {
        let durables = provision::durables();
        let mut publish: Vec<String> = self.publishes.iter().map(|kind| kind.filter()).collect();
        publish.extend(lines(self.also_publishes));
        let mut reads: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| self.publishes.contains(kind) || self.reads.contains(kind))
            .collect();
        // A part has no last one that would matter.
        reads.retain(|kind| *kind != Kind::Part);
        for kind in reads {
            publish.push(format!("$JS.API.DIRECT.GET.{}.{}", kind.stream(), kind.filter()));
        }
        // An entry whose acknowledgement was lost is looked for where it would be.
        let mut streams: Vec<&str> = self.publishes.iter().map(|kind| kind.stream()).collect();
        streams.dedup();
        publish.extend(streams.iter().map(|stream| format!("$JS.API.STREAM.MSG.GET.{stream}")));
        for stream in self.looks_into {
            publish.push(format!("$JS.API.STREAM.INFO.{stream}"));
            publish.push(format!("$JS.API.STREAM.MSG.GET.{stream}"));
        }
        for stream in self.follows {
            publish.push(format!("$JS.API.STREAM.INFO.{stream}"));
            // Of a stream that it reads anyway, also many entries in one request.
            publish.push(format!("$JS.API.DIRECT.GET.{stream}"));
            // The name of a reader is random.
            for request in ["CREATE", "INFO", "DELETE", "MSG.NEXT"] {
                publish.push(format!("$JS.API.CONSUMER.{request}.{stream}.*"));
            }
        }
        let own = |name: &str| self.consumes == Some(name);
        for (stream, name) in durables.iter().filter(|(_, name)| own(name)) {
            publish.push(format!("$JS.API.CONSUMER.INFO.{stream}.{name}"));
            publish.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"));
            publish.push(format!("$JS.ACK.{stream}.{name}.>"));
            // The longer form of an acknowledgement names domain and account first.
            publish.push(format!("$JS.ACK.*.*.{stream}.{name}.>"));
            publish.push(dead_letter::subject(stream, name));
        }
        let mut deny = Vec::new();
        for (stream, name) in durables
            .iter()
            .filter(|(stream, _)| self.follows.contains(&stream.as_str()))
        {
            deny.push(format!("$JS.API.CONSUMER.CREATE.{stream}.{name}"));
            deny.push(format!("$JS.API.CONSUMER.DELETE.{stream}.{name}"));
            if !own(name) {
                deny.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"));
            }
        }
        (publish, deny)
    }
}

/// It may do everything but publish entries, and delete a stream that must lose none.
fn operator() -> (Vec<String>, Vec<String>) {
    let allow = lines(&[
        "$JS.API.>",
        "$JS.ACK.>",
        "$JS.FC.>",
        "$JS.SNAPSHOT.>",
        "$SYS.REQ.USER.INFO",
        "castlog.>",
    ]);
    let deny = provision::never_deleted()
        .into_iter()
        .map(|stream| format!("$JS.API.STREAM.DELETE.{stream}"))
        .collect();
    (allow, deny)
}

/// It reads streams by ephemeral consumers, as the `nats` command does.
fn observer() -> (Vec<String>, Vec<String>) {
    let allow = lines(&[
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.INFO.*",
        "$JS.API.STREAM.MSG.GET.*",
        "$JS.API.DIRECT.GET.>",
        "$JS.API.CONSUMER.NAMES.*",
        "$JS.API.CONSUMER.LIST.*",
        "$JS.API.CONSUMER.INFO.*.*",
        "$JS.API.CONSUMER.CREATE.*.>",
        "$JS.API.CONSUMER.DELETE.*.*",
        "$JS.API.CONSUMER.MSG.NEXT.*.*",
        "$JS.FC.>",
        "$SYS.REQ.USER.INFO",
    ]);
    let mut deny = Vec::new();
    for (stream, name) in provision::durables() {
        deny.push(format!("$JS.API.CONSUMER.CREATE.{stream}.{name}"));
        deny.push(format!("$JS.API.CONSUMER.CREATE.{stream}.{name}.>"));
        deny.push(format!("$JS.API.CONSUMER.DELETE.{stream}.{name}"));
        deny.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"));
    }
    (allow, deny)
}

fn lines(subjects: &[&str]) -> Vec<String> {
    subjects.iter().map(|&subject| subject.to_owned()).collect()
}

/// The `users` of nats-server's configuration, for an `authorization` or an
/// account. `identify` says how a user is told, such as `user: a, password: b`
/// or `nkey: U…`.
#[must_use]
pub fn server_users(identify: impl Fn(&User) -> String) -> String {
    let list = |subjects: &[String]| {
        let quoted: Vec<String> = subjects.iter().map(|subject| format!("\"{subject}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut text = String::from("users: [\n");
    for user in &USERS {
        let Permissions {
            publish,
            publish_deny,
            subscribe,
            respond,
        } = user.permissions();
        let respond = if respond {
            "      allow_responses: { max: 1, expires: \"1m\" }\n"
        } else {
            ""
        };
        // Writing to a string cannot fail.
        write!(
            text,
            "  {{\n    {}\n    permissions: {{\n      publish: {{\n        allow: {}\n        deny: {}\n      }}\n      \
             subscribe: {{ allow: {} }}\n{respond}    }}\n  }}\n",
            identify(user),
            list(&publish),
            list(&publish_deny),
            list(&subscribe),
        )
        .ok();
    }
    text.push_str("]\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_one_publisher() {
        for kind in Kind::ALL {
            let publishers: Vec<&str> = USERS
                .iter()
                .filter(|user| user.publishes.contains(&kind))
                .map(|user| user.name)
                .collect();
            assert_eq!(publishers.len(), 1, "{kind}: {publishers:?}");
        }
    }

    #[test]
    fn every_durable_has_its_service() {
        for (stream, name) in provision::durables() {
            let services = USERS.iter().filter(|user| user.consumes == Some(name.as_str()));
            assert_eq!(services.count(), 1, "{stream}/{name}");
        }
    }

    #[test]
    fn a_service_takes_from_its_own_consumer_only() {
        let Permissions {
            publish, publish_deny, ..
        } = user("indexer").unwrap().permissions();
        let has = |list: &[String], subject: &str| list.iter().any(|s| s == subject);
        let next = |name: &str| format!("$JS.API.CONSUMER.MSG.NEXT.BROAD_INFO.{name}");
        assert!(has(&publish, &next("indexer")) && !has(&publish_deny, &next("indexer")));
        assert!(has(&publish_deny, &next("live_info")));
        assert!(has(&publish, "castlog.dead_letter.BROAD_INFO.indexer"));
        assert!(!publish.iter().any(|subject| subject.starts_with("media.")));
    }

    #[test]
    fn the_readme_has_the_table() {
        let text = include_str!("../../../jetstream/README.md");
        for user in USERS.iter().filter(|user| user.role == Role::Service) {
            let kinds: Vec<String> = user.publishes.iter().map(|kind| format!("`{kind}`")).collect();
            let subjects = user.also_publishes.iter().map(|subject| format!("`{subject}`"));
            let publishes: Vec<String> = kinds.into_iter().chain(subjects).collect();
            let streams = |streams: &[&str]| streams.iter().map(|stream| format!("`{stream}`")).collect::<Vec<_>>();
            let row = format!(
                "| `{}` | {} | {} | {} | {} |",
                user.name,
                cell(&publishes),
                cell(&streams(user.follows)),
                cell(&streams(user.looks_into)),
                cell(
                    &user
                        .consumes
                        .map(|name| format!("`{name}`"))
                        .into_iter()
                        .collect::<Vec<_>>()
                ),
            );
            assert!(
                text.lines().any(|line| line == row),
                "not in jetstream/README.md:\n{row}"
            );
        }
    }

    fn cell(values: &[String]) -> String {
        if values.is_empty() {
            "–".to_owned()
        } else {
            values.join(", ")
        }
    }
}
