//! What each user of the log may do, asked of a real nats-server.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use castlog_log::{
    BroadcastId, Draft, EntryId, Followed, From, Kind, Log, PublishError, Publisher, access, dead_letter, lease, pb,
    provision::{self, Plan},
};
use castlog_testkit::{NatsOptions, NatsServer, TestLog};

/// Who may publish which kinds: what DESIGN and jetstream/README.md say, written
/// down a second time.
const PUBLISHES: [(&str, &[Kind]); 9] = [
    ("rtmp", &[Kind::Auth, Kind::Status, Kind::Health]),
    ("pipeline", &[Kind::Metadata, Kind::Segment, Kind::Part]),
    ("hls", &[Kind::Viewers]),
    ("live-info", &[]),
    (
        "live-api",
        &[
            Kind::Registration,
            Kind::PublishKey,
            Kind::Title,
            Kind::Tags,
            Kind::Options,
        ],
    ),
    ("indexer", &[]),
    ("log-sink", &[]),
    ("castlog", &[]),
    ("observer", &[]),
];

/// Who takes from which durable consumer.
const CONSUMES: [(&str, &str, &[&str]); 4] = [
    ("pipeline", "pipeline", &["LIVE_STREAM"]),
    ("live-info", "live_info", &["BROAD_INFO", "LIVE_STREAM"]),
    ("indexer", "indexer", &["BROAD_INFO", "LIVE_STREAM"]),
    (
        "log-sink",
        "log_sink",
        &["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"],
    ),
];

async fn start() -> anyhow::Result<TestLog> {
    TestLog::start(NatsOptions::default().lazy_sync()).await
}

/// Whether the server lets this user publish on `subject`. It answers in order,
/// so the refusal of what nobody may comes after the one that is asked for.
async fn may(log: &Log, subject: &str, payload: &str) -> anyhow::Result<bool> {
    // Another each time: the refusal of the last one may still be on its way.
    let nobody = format!("nobody.may.{}", EntryId::generate());
    let client = log.jetstream().client();
    let both = async {
        let forbidden = async {
            // What is published is not an entry.
            #[allow(clippy::disallowed_methods)]
            for (subject, payload) in [(subject, payload), (nobody.as_str(), "")] {
                client.publish(subject.to_owned(), payload.to_owned().into()).await?;
            }
            client.flush().await?;
            std::future::pending::<anyhow::Result<()>>().await
        };
        log.unless_refused(&nobody, forbidden).await
    };
    match log.unless_refused(subject, both).await {
        Ok(Ok(sent)) => sent.map(|()| true),
        Ok(Err(_)) => Ok(true),
        Err(_) => Ok(false),
    }
}

#[tokio::test]
async fn each_user_publishes_its_own_kinds_only() -> anyhow::Result<()> {
    let test = start().await?;
    assert_eq!(PUBLISHES.len(), access::USERS.len());
    let broadcast = BroadcastId::generate();
    for (user, own) in PUBLISHES {
        let log = test.nats.log_of(user).await?;
        for kind in Kind::ALL {
            let subject = kind.of(broadcast).to_string();
            assert_eq!(
                may(&log, &subject, "x").await?,
                own.contains(&kind),
                "{user} publishing {kind}"
            );
        }
    }
    // What was allowed has been stored, once each.
    let mut stored = 0;
    for stream in [
        "BROAD_INFO",
        "LIVE_STREAM",
        "LIVE_SEGMENT",
        "LIVE_TELEMETRY",
        "LIVE_PART",
    ] {
        stored += test
            .log
            .jetstream()
            .get_stream(stream)
            .await?
            .cached_info()
            .state
            .messages;
    }
    assert_eq!(stored, Kind::ALL.len() as u64);
    Ok(())
}

#[tokio::test]
async fn a_refused_entry_is_an_error_at_once() -> anyhow::Result<()> {
    let test = start().await?;
    let publisher = Publisher::new(&test.nats.log_of("indexer").await?, "indexer");
    let title = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: "x".to_owned() })),
    };
    let broadcast = BroadcastId::generate();
    // Each waits for its own answer, also when many are refused at a time.
    let many = (0..50).map(|_| publisher.publish(Draft::new(broadcast, title.clone())));
    for outcome in futures::future::join_all(many).await {
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, PublishError::NotPermitted(_)) && !error.is_retryable(),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            format!("L01: NATS does not permit indexer to publish on media.broad_info.title.{broadcast}")
        );
    }
    assert!(test.log.last(Kind::Title, broadcast).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn dead_letters_and_acks_are_those_of_the_own_consumer() -> anyhow::Result<()> {
    let test = start().await?;
    for (user, _) in PUBLISHES {
        let log = test.nats.log_of(user).await?;
        for (owner, consumer, streams) in CONSUMES {
            for stream in streams {
                let own = user == owner;
                // The operator may put a dead letter back.
                let letter = dead_letter::subject(stream, consumer);
                assert_eq!(
                    may(&log, &letter, "x").await?,
                    own || user == "castlog",
                    "{user} {letter}"
                );
                for (request, operator) in [
                    (format!("$JS.ACK.{stream}.{consumer}.1.1.1.1.0"), true),
                    (format!("$JS.ACK._.account.{stream}.{consumer}.1.1.1.1.0"), true),
                    (format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"), true),
                ] {
                    let allowed = own || (operator && user == "castlog");
                    assert_eq!(may(&log, &request, "").await?, allowed, "{user} {request}");
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_letter_is_redriven_and_removed_by_the_api_and_the_operator() -> anyhow::Result<()> {
    let test = start().await?;
    for (user, _) in PUBLISHES {
        let log = test.nats.log_of(user).await?;
        let requests = CONSUMES.map(|(_, consumer, _)| format!("castlog.redrive.{consumer}"));
        for request in requests.iter().map(String::as_str).chain([
            "$JS.API.STREAM.MSG.DELETE.DEAD_LETTER",
            "castlog.dead_letter.attempt.BROAD_INFO.live_info",
        ]) {
            let allowed = ["live-api", "castlog"].contains(&user);
            assert_eq!(may(&log, request, "{}").await?, allowed, "{user} {request}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_lease_is_written_by_its_own_service() -> anyhow::Result<()> {
    let test = start().await?;
    for (user, _) in PUBLISHES {
        let log = test.nats.log_of(user).await?;
        for name in lease::NAMES {
            let subject = lease::subject(name);
            let allowed = [name, "castlog"].contains(&user);
            assert_eq!(may(&log, &subject, "x").await?, allowed, "{user} {subject}");
        }
        let other = may(&log, &lease::subject("other"), "x").await?;
        assert_eq!(other, user == "castlog", "{user}");
        let reads = may(&log, "$JS.API.STREAM.MSG.GET.LEASE", "{}").await?;
        assert_eq!(reads, ["indexer", "castlog", "observer"].contains(&user), "{user}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_but_the_operator_changes_streams_and_consumers() -> anyhow::Result<()> {
    let test = start().await?;
    let requests = [
        "STREAM.DELETE.BROAD_INFO",
        "STREAM.PURGE.LIVE_TELEMETRY",
        "STREAM.PURGE.LEASE",
        "STREAM.CREATE.MINE",
        "STREAM.UPDATE.LIVE_STREAM",
        "STREAM.MSG.DELETE.LIVE_SEGMENT",
        "STREAM.SNAPSHOT.BROAD_INFO",
        "STREAM.RESTORE.BROAD_INFO",
        "STREAM.PEER.REMOVE.BROAD_INFO",
        "CONSUMER.CREATE.BROAD_INFO",
        "CONSUMER.CREATE.BROAD_INFO.live_info",
        "CONSUMER.CREATE.BROAD_INFO.live_info.media.broad_info.title.*",
        "CONSUMER.CREATE.LIVE_STREAM.pipeline",
        "CONSUMER.DURABLE.CREATE.LIVE_STREAM.mine",
        "CONSUMER.DELETE.BROAD_INFO.indexer",
        "CONSUMER.DELETE.LIVE_STREAM.pipeline",
        "CONSUMER.PAUSE.LIVE_STREAM.pipeline",
        "CONSUMER.RESET.LIVE_STREAM.log_sink",
        "CONSUMER.UNPIN.LIVE_STREAM.indexer",
        "META.LEADER.STEPDOWN",
    ];
    for (user, _) in PUBLISHES.iter().filter(|(user, _)| *user != "castlog") {
        let log = test.nats.log_of(user).await?;
        for request in requests {
            let subject = format!("$JS.API.{request}");
            assert!(!may(&log, &subject, "{}").await?, "{user} {request}");
        }
        // A service makes readers only on the streams that it follows.
        let follows = access::user(user).unwrap().follows;
        for stream in [
            "BROAD_INFO",
            "LIVE_STREAM",
            "LIVE_SEGMENT",
            "LIVE_TELEMETRY",
            "DEAD_LETTER",
            "LEASE",
        ] {
            let subject = format!("$JS.API.CONSUMER.CREATE.{stream}.reader-1");
            let allowed = follows.contains(&stream) || *user == "observer";
            assert_eq!(may(&log, &subject, "{}").await?, allowed, "{user} {subject}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn answers_are_read_by_those_who_asked() -> anyhow::Result<()> {
    let test = start().await?;
    // A subscription is refused by an event of the connection; what it would have
    // brought does not come.
    let spy = test.nats.log_of("hls").await?;
    let mut spied = spy.jetstream().client().subscribe("_INBOX_live-api.>").await?;
    let mut entries = spy.jetstream().client().subscribe("media.>").await?;
    let api = test.nats.log_of("live-api").await?;
    let title = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: "x".to_owned() })),
    };
    let receipt = Publisher::new(&api, "live-api")
        .publish(Draft::new(BroadcastId::generate(), title))
        .await?;
    assert_eq!(receipt.sequence, 1);
    // By the time that its own request is answered, it would have had the others.
    assert!(spy.last(Kind::Viewers, BroadcastId::generate()).await?.is_none());
    use futures::FutureExt as _;
    use futures::StreamExt as _;
    assert!(
        spied.next().now_or_never().flatten().is_none(),
        "it reads another's answers"
    );
    assert!(
        entries.next().now_or_never().flatten().is_none(),
        "it reads past the log"
    );
    Ok(())
}

#[tokio::test]
async fn the_operator_provisions_and_the_observer_reads() -> anyhow::Result<()> {
    let nats = NatsServer::start_with(NatsOptions::default().lazy_sync()).await?;
    let operator = nats.log_of("castlog").await?;
    let created = provision::apply(&operator, Plan::default()).await?;
    assert!(!created.is_empty() && created.iter().all(|change| change.created));

    let broadcast = BroadcastId::generate();
    let title = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: "x".to_owned() })),
    };
    Publisher::new(&nats.log_of("live-api").await?, "live-api")
        .publish(Draft::new(broadcast, title))
        .await?;
    for user in ["castlog", "observer"] {
        let log = nats.log_of(user).await?;
        assert!(log.last(Kind::Title, broadcast).await?.is_some(), "{user}");
        let mut reader = log.follow("BROAD_INFO", &["media.broad_info.>"], From::Beginning);
        assert!(matches!(reader.next().await?, Followed::Entry(_)), "{user}");
        assert!(matches!(reader.next().await?, Followed::CaughtUp), "{user}");
    }
    Ok(())
}
