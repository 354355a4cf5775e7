//! Figures, each as a ratio to a peer or a limit that is measured in the same run.

mod http;
mod ingest;
mod live;
mod percentiles;
mod players;
mod publish;
mod replay;
mod segments;
mod transcode;

use clap::Parser;

/// Measures castlog.
#[derive(Debug, Parser)]
#[command(name = "castlog-bench", version)]
enum Bench {
    /// Entries a second that the log acknowledges, on disk and lazily synced.
    Publish {
        /// Entries per measurement, 100 to 100000.
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
        entries: u32,
    },
    /// CPU of the pipeline, beside ffmpeg making the same ladder.
    Transcode {
        /// Seconds of picture, 5 to 600.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=600))]
        seconds: u32,
    },
    /// From a changed title to a search result, beside Meilisearch alone.
    Findable {
        /// Title changes, 10 to 10000.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=10_000))]
        changes: u32,
    },
    /// From an encoder's first byte to the first segment, beside ffmpeg packaging the same file.
    FirstSegment {
        /// Starts, 1 to 1000.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        runs: u32,
    },
    /// Entries a second that LiveInfo and the indexer replay, beside fetching them alone.
    Replay {
        /// Title entries, 1000 to 10000000.
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
        entries: u32,
    },
    /// CPU and memory per encoder of the RTMP server, beside nginx-rtmp taking the same streams.
    Ingest {
        /// Encoders at a time, each 1 to 1000.
        #[arg(long, num_args = 1.., default_values_t = [50, 200], value_parser = clap::value_parser!(u32).range(1..=1000))]
        encoders: Vec<u32>,
        /// Seconds that are measured, 5 to 600.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=600))]
        seconds: u32,
    },
    /// How late parts reach many low-latency players of one edge, and what that takes of it.
    Players {
        /// Players at a time, 1 to 5000.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=5000))]
        players: u32,
        /// Seconds that are measured, 5 to 600.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=600))]
        seconds: u32,
    },
    /// From the encoder's picture to that in Chromium, which plays by parts.
    Glass {
        /// Seconds that are measured, 5 to 600.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=600))]
        seconds: u32,
    },
    /// Segments a second of an edge, beside nginx serving the same files.
    Segments {
        /// Seconds of each turn, 1 to 600.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    /// Everything.
    All,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Without a word, measure everything: `just bench` takes no arguments.
    let bench = if std::env::args().len() > 1 {
        Bench::parse()
    } else {
        Bench::All
    };
    match bench {
        Bench::Publish { entries } => publish::run(entries).await,
        Bench::Transcode { seconds } => transcode::run(seconds).await,
        Bench::Findable { changes } => live::findable(changes).await,
        Bench::FirstSegment { runs } => live::first_segment(runs).await,
        Bench::Replay { entries } => replay::run(entries).await,
        Bench::Ingest { encoders, seconds } => ingest::run(&encoders, seconds).await,
        Bench::Players { players, seconds } => players::run(players, seconds).await,
        Bench::Glass { seconds } => live::glass(seconds).await,
        Bench::Segments { seconds } => segments::run(seconds).await,
        Bench::All => {
            publish::run(2000).await?;
            replay::run(50_000).await?;
            live::findable(200).await?;
            live::first_segment(5).await?;
            ingest::run(&[50, 200], 20).await?;
            segments::run(5).await?;
            players::run(1000, 20).await?;
            live::glass(30).await?;
            transcode::run(20).await
        }
    }
}
