//! A pipeline as the server sees it: a reader of HTTP-FLV.

use anyhow::Context as _;
use castlog_flv::{Item, Reader, TagKind};

use crate::common::SOON;

/// Reads an HTTP-FLV response as tags.
pub(crate) struct Viewer {
    response: reqwest::Response,
    flv: Reader,
}

impl Viewer {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let response = reqwest::get(url).await?.error_for_status()?;
        anyhow::ensure!(response.headers()["content-type"] == "video/x-flv");
        Ok(Self {
            response,
            flv: Reader::new(),
        })
    }

    /// The next tag; `None` at the end of the stream.
    pub(crate) async fn tag(&mut self) -> anyhow::Result<Option<castlog_flv::Tag>> {
        loop {
            match self.flv.next()? {
                Some(Item::Tag(tag)) => return Ok(Some(tag)),
                Some(Item::Header(_)) => continue,
                None => {}
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk())
                .await
                .context("the stream stands still")??;
            match chunk {
                Some(bytes) => self.flv.push(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// Reads on to the next video sequence header.
    pub(crate) async fn video_header(&mut self) -> anyhow::Result<()> {
        while let Some(tag) = self.tag().await? {
            if tag.kind == TagKind::Video && castlog_flv::Video::parse(&tag.data)?.is_sequence_header() {
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended")
    }
}
