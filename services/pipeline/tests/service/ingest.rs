//! An RTMP server as far as the pipeline sees one: HTTP-FLV out of a real ffmpeg.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use castlog_flv::{Item, Reader};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};

/// Serves ffmpeg's output, in real time, to each GET.
pub(crate) struct Ingest {
    pub(crate) url: String,
    /// Ends the running and refuses the coming connections.
    pub(crate) over: Arc<AtomicBool>,
    /// Milliseconds after which a connection is cut; 0 = never.
    pub(crate) cut_after: Arc<AtomicU64>,
    /// The tag of the next connection that says that it is longer than it is; 0 = none.
    pub(crate) damaged_tag: Arc<AtomicU64>,
    pub(crate) connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ingest {
    pub(crate) async fn start(arguments: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/flv/x", listener.local_addr().unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let cut_after = Arc::new(AtomicU64::new(0));
        let damaged_tag = Arc::new(AtomicU64::new(0));
        let connections = Arc::new(AtomicU64::new(0));
        let arguments: Arc<str> = arguments.into();
        let (ended, cut, count) = (over.clone(), cut_after.clone(), connections.clone());
        let damaged = damaged_tag.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (arguments, ended, cut) = (arguments.clone(), ended.clone(), cut.clone());
                let damaged = damaged.swap(0, Ordering::SeqCst);
                tokio::spawn(async move {
                    // The reader may hang up at any time.
                    serve(stream, &arguments, &ended, &cut, damaged).await.ok();
                });
            }
        });
        Self {
            url,
            over,
            cut_after,
            damaged_tag,
            connections,
            task,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    arguments: &str,
    over: &AtomicBool,
    cut_after: &AtomicU64,
    damaged_tag: u64,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    if over.load(Ordering::SeqCst) {
        let answer = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(answer).await;
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await?;
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-re"])
        .args(arguments.split_whitespace())
        .args(["-flush_packets", "1", "-f", "flv", "pipe:1"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut output = ffmpeg.stdout.take().expect("stdout is piped");
    let begun = tokio::time::Instant::now();
    let mut buffer = [0; 16 * 1024];
    let (mut reader, mut tags) = (Reader::new(), 0);
    loop {
        let tick = tokio::time::sleep(Duration::from_millis(50));
        let read = tokio::select! {
            read = output.read(&mut buffer) => read?,
            () = tick => usize::MAX,
        };
        let cut = cut_after.load(Ordering::SeqCst);
        if over.load(Ordering::SeqCst) || (cut > 0 && begun.elapsed() > Duration::from_millis(cut)) || read == 0 {
            return Ok(());
        }
        if read != usize::MAX {
            reader.push(&buffer[..read]);
            let mut out = Vec::new();
            while let Some(item) = reader.next().map_err(std::io::Error::other)? {
                let start = out.len();
                match item {
                    Item::Header(header) => header.write(&mut out),
                    Item::Tag(tag) => {
                        tag.write(&mut out);
                        tags += 1;
                        if tags == damaged_tag {
                            // The last byte of its size.
                            out[start + 3] ^= 1;
                        }
                    }
                }
            }
            stream.write_all(&out).await?;
        }
    }
}
