//! A sink that writes into a folder, in the layout of the object store: what
//! tests, benches and a look at a recording need.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use castlog_cmaf as cmaf;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    flv::Packets,
    gst::Sheet,
    media::{Micros, Packet},
    segmenter::{Output, PartInfo},
    transcode::{self, Epoch, Settings, Sink},
};

/// Packets between the reader and the core.
const PACKETS: usize = 64;

/// Transcodes an FLV stream as fast as it comes, into a folder.
///
/// # Errors
/// The stream is no FLV or cannot be read, or the transcode fails.
pub async fn transcode(settings: Settings, mut flv: impl AsyncRead + Unpin, root: &Path) -> anyhow::Result<Folder> {
    let (packets, mut receiver) = mpsc::channel(PACKETS);
    let read = async move {
        let mut reader = Packets::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = flv.read(&mut buffer).await.context("cannot read the stream")?;
            if count == 0 {
                return anyhow::Ok(());
            }
            reader.push(&buffer[..count]);
            while let Some(packet) = reader.next()? {
                if packets.send(packet).await.is_err() {
                    return Ok(());
                }
            }
        }
    };
    let mut folder = Folder::new(root);
    let (result, read) = tokio::join!(deliver(settings, &mut receiver, &mut folder), read);
    read?;
    result?;
    Ok(folder)
}

async fn deliver(
    settings: Settings,
    packets: &mut mpsc::Receiver<Packet>,
    folder: &mut Folder,
) -> Result<(), transcode::Error> {
    let result = transcode::run(settings, packets, &CancellationToken::new(), folder).await;
    // The reader ends when nobody takes its packets.
    packets.close();
    result
}

/// A segment that was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Name of the rendition.
    pub rendition: String,
    /// Media sequence number.
    pub media_sequence: u64,
    /// Discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// Presentation time of its first access unit.
    pub start: Micros,
    /// Its parts.
    pub parts: Vec<PartInfo>,
    /// Where it is.
    pub path: PathBuf,
}

/// The sink, and a record of what it was given.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// The epochs in order.
    pub epochs: Vec<Epoch>,
    /// The segments in order of completion.
    pub segments: Vec<Written>,
    /// Parts by rendition, media sequence number and index, in order.
    pub parts: Vec<(String, u64, u32, PartInfo)>,
    /// Number of thumbnails.
    pub thumbnails: usize,
    /// Start and number of pictures of each sheet.
    pub sheets: Vec<(Micros, u32)>,
}

impl Folder {
    /// A sink that writes below `root`, which is made when missing.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            epochs: Vec::new(),
            segments: Vec::new(),
            parts: Vec::new(),
            thumbnails: 0,
            sheets: Vec::new(),
        }
    }

    async fn write(&self, folder: &str, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let folder = self.root.join(folder);
        tokio::fs::create_dir_all(&folder)
            .await
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(name);
        tokio::fs::write(&path, bytes)
            .await
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Sink for Folder {
    async fn start(&mut self, epoch: &Epoch) -> anyhow::Result<()> {
        for rendition in &epoch.renditions {
            let name = format!("init-{}.mp4", epoch.discontinuity_sequence);
            let init = cmaf::init_section(&rendition.config)?;
            self.write(&rendition.name, &name, &init).await?;
        }
        self.epochs.push(epoch.clone());
        Ok(())
    }

    async fn output(&mut self, epoch: &Epoch, output: Output) -> anyhow::Result<()> {
        match output {
            Output::Part {
                track,
                media_sequence,
                index,
                info,
                ..
            } => {
                let rendition = epoch.renditions[track].name.clone();
                self.parts.push((rendition, media_sequence, index, info));
            }
            Output::Segment {
                track,
                media_sequence,
                start,
                parts,
                bytes,
            } => {
                let rendition = epoch.renditions[track].name.clone();
                let name = format!("{media_sequence}.m4s");
                let path = self.write(&rendition, &name, &bytes).await?;
                self.segments.push(Written {
                    rendition,
                    media_sequence,
                    discontinuity_sequence: epoch.discontinuity_sequence,
                    start,
                    parts,
                    path,
                });
            }
        }
        Ok(())
    }

    async fn thumbnail(&mut self, jpeg: Bytes) -> anyhow::Result<()> {
        self.thumbnails += 1;
        self.write("thumb", "latest.jpg", &jpeg).await?;
        Ok(())
    }

    async fn sheet(&mut self, _: &Epoch, sheet: Sheet) -> anyhow::Result<()> {
        self.sheets.push((sheet.start, sheet.tiles));
        self.write("thumb", "sheet.jpg", &sheet.jpeg).await?;
        Ok(())
    }

    async fn end(&mut self, _: &Epoch) -> anyhow::Result<()> {
        Ok(())
    }
}
