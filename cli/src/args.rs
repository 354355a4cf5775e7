//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// castlog: live streaming on a log.
#[derive(Debug, Parser)]
#[command(name = "castlog", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Configuration file. Without it: that of the running castlog in the data folder
    /// (not for `up`), else castlog.toml in this folder when there is one.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Sets one value of the configuration; wins over `CASTLOG_<SECTION>__<KEY>` variables and the file.
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Data folder of `castlog up`.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "CASTLOG_DATA",
        default_value = ".castlog"
    )]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts everything on this machine: servers, streams and services. Ctrl-C stops it.
    Up,
    /// Stops the castlog that `up` started elsewhere.
    Down(Down),
    /// Runs services, one or all in this process, against servers that are there.
    Run(Run),
    /// Creates or updates the streams and durable consumers of the log, and prints what differed.
    Apply(Apply),
    /// Prints the users of the log with their permissions, for a nats-server of your own.
    Users(Users),
    /// Prints the payload on standard input as JSON; for `nats … --translate 'castlog decode {{Subject}}'`.
    Decode(Decode),
    /// Prints the log's entries as they come, one JSON object a line.
    Tail(Tail),
    /// Prints the streams, how far each durable consumer is, how many dead letters there are, and what is stuck.
    Status(Status),
    /// Entries that a consumer could not apply: look at them, have them applied after all, or remove them.
    #[command(subcommand)]
    DeadLetter(DeadLetter),
    /// Makes a view again from the log, while its readers go on. Safe to interrupt and to run twice.
    Rebuild(Rebuild),
    /// Compares views with what the log says, all of them or those named; exits 1 on a difference.
    Verify(Verify),
    /// Waits for the end of the `up` that started it, and ends what it left behind.
    #[command(hide = true)]
    Reap,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Also removes the data folder: entries, media, credentials, everything.
    #[arg(long)]
    pub(crate) wipe: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The services.
    #[arg(required = true, value_enum)]
    pub(crate) services: Vec<ServiceChoice>,
}

/// One service, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceChoice {
    /// Takes streams from encoders.
    Rtmp,
    /// Makes renditions, segments and parts of a stream.
    Pipeline,
    /// Serves playlists and media to viewers.
    Hls,
    /// Keeps what is live in Redis.
    LiveInfo,
    /// The HTTP API and the web pages.
    LiveApi,
    /// Keeps the search index of live broadcasts.
    Indexer,
    /// Keeps the log searchable.
    LogSink,
    /// Every service.
    All,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Only look: change nothing, exit 1 when something differs.
    #[arg(long)]
    pub(crate) check: bool,
    /// Allow changes that can lose entries.
    #[arg(long)]
    pub(crate) allow_destructive: bool,
    /// Replicas of each stream, in place of jetstream.replicas of the configuration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) replicas: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct Users {
    /// What is printed.
    #[arg(long, value_enum, default_value_t = UserFormat::Passwords)]
    pub(crate) format: UserFormat,
}

/// How a user tells the server who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UserFormat {
    /// Server configuration: a password each, as variables like $LIVE_API_PASSWORD.
    Passwords,
    /// Server configuration: a public nkey each, as variables like $LIVE_API_NKEY.
    Nkeys,
    /// Commands that make a user of the account CASTLOG and its credentials file.
    NatsAuth,
}

#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// Subject of the message, which names its kind.
    pub(crate) subject: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Subjects to show, with the wildcards of NATS; `castlog.live_info.>` is the change feed.
    #[arg(default_value = "media.>")]
    pub(crate) filter: String,
    /// Also shows what comes every few seconds: segments, health and viewers.
    #[arg(long)]
    pub(crate) segments: bool,
    /// Starts with the oldest entry of each stream instead of what comes.
    #[arg(long, conflicts_with = "last")]
    pub(crate) all: bool,
    /// Starts with the last entry of each subject: the current state.
    #[arg(long)]
    pub(crate) last: bool,
    /// Ends when everything that was there has been printed.
    #[arg(long)]
    pub(crate) no_follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Prints one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exits 1 when something is stuck: a stream or consumer is missing, an entry waits too long, a broadcast gets no segments, or there are dead letters.
    #[arg(long)]
    pub(crate) check: bool,
    /// Seconds that an entry may wait, or a broadcast on the air be without a new segment, before it counts as stuck.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) max_age_s: u64,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetter {
    /// Prints dead letters, the oldest first.
    List(ListLetters),
    /// Prints one with its headers and its payload, decoded where it can be.
    Show(ShowLetter),
    /// Hands entries to the running consumer that gave them up, and to no other; removes what it applied.
    ///
    /// The log is not changed, and what has become newer in the view meanwhile stays. Exits 1 when a letter was kept.
    Redrive(WhichLetters),
    /// Removes dead letters for good; the entries stay in the log.
    Discard(Discard),
    /// Prints who redrove or discarded which letter and what came of it, the newest first.
    Attempts(ListAttempts),
}

#[derive(Debug, Args)]
pub(crate) struct ListAttempts {
    /// Most that are printed.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) limit: u16,
    /// Prints one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListLetters {
    /// Only those of this consumer, e.g. indexer.
    #[arg(long, value_name = "NAME", value_parser = token)]
    pub(crate) consumer: Option<String>,
    /// Only those of entries of this stream, e.g. `BROAD_INFO`.
    #[arg(long, value_name = "NAME", value_parser = token)]
    pub(crate) stream: Option<String>,
    /// Most that are printed.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) limit: usize,
    /// Prints one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowLetter {
    /// The letter, by its id in the list.
    pub(crate) id: u64,
    /// Prints one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhichLetters {
    /// The letters, by their ids in the list.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<u64>,
    /// All of them, or all that --consumer and --stream let through.
    #[arg(long)]
    pub(crate) all: bool,
    /// With --all: only those of this consumer.
    #[arg(long, value_name = "NAME", requires = "all", value_parser = token)]
    pub(crate) consumer: Option<String>,
    /// With --all: only those of entries of this stream.
    #[arg(long, value_name = "NAME", requires = "all", value_parser = token)]
    pub(crate) stream: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    pub(crate) which: WhichLetters,
    /// Does not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// A name that can stand in a subject.
fn token(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !text.is_empty() && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("a name is of letters, digits, '-' and '_'".to_owned())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// The view.
    #[arg(value_enum)]
    pub(crate) view: RebuildChoice,
}

/// A view that is made again from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RebuildChoice {
    /// The state of every broadcast in Redis: built beside the one that is read, and put in its place in one step.
    LiveInfo,
    /// The search index in Meilisearch: the same.
    Index,
    /// The searchable log in Meilisearch: what is missing is written, what the log does not have is removed.
    Log,
    /// The Parquet archive in the media store: what is missing and still in the log is written. What the streams have dropped stays.
    Archive,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The views; without, all of them.
    #[arg(value_enum, value_name = "VIEW")]
    pub(crate) views: Vec<VerifyChoice>,
    /// Seconds that a view may take to come to where the log is now, before it counts as behind.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait_s: u64,
}

/// A view that is compared with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyChoice {
    /// The state of every broadcast in Redis.
    LiveInfo,
    /// The search index in Meilisearch.
    Index,
    /// The change feed: the last change of each broadcast is LiveInfo's state, which is the log's.
    ChangeFeed,
    /// The searchable log in Meilisearch: every entry within its retention, and nothing else.
    Log,
    /// The Parquet archive in the media store, as far as it has been written: every entry once.
    Archive,
    /// All of them.
    All,
}

impl VerifyChoice {
    /// Every view.
    pub(crate) const EACH: [Self; 5] = [Self::LiveInfo, Self::Index, Self::ChangeFeed, Self::Log, Self::Archive];

    /// As it is written on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::LiveInfo => "live-info",
            Self::Index => "index",
            Self::ChangeFeed => "change-feed",
            Self::Log => "log",
            Self::Archive => "archive",
            Self::All => "all",
        }
    }

    /// The durable consumer that the view is made by.
    pub(crate) const fn consumer(self) -> Option<&'static str> {
        match self {
            Self::LiveInfo | Self::ChangeFeed => Some("live_info"),
            Self::Index => Some("indexer"),
            Self::Log => Some("log_sink"),
            Self::Archive | Self::All => None,
        }
    }
}
