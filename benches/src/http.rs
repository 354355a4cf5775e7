//! As little of an HTTP/1.1 client as it takes to put load on a server: one request
//! at a time over a connection that stays.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Longest head of an answer that is read, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// A connection.
pub(crate) struct Http {
    stream: TcpStream,
    server: SocketAddr,
    buffer: BytesMut,
}

impl Http {
    pub(crate) async fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            server,
            buffer: BytesMut::with_capacity(64 * 1024),
        })
    }

    /// Asks for a path; the status, and the body.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<(u16, BytesMut)> {
        let (status, length) = self.ask(path).await?;
        while self.buffer.len() < length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "cut off in a body");
        }
        Ok((status, self.buffer.split_to(length)))
    }

    /// Asks for a path, and throws the body away as it comes; the status, and its length.
    pub(crate) async fn drain(&mut self, path: &str) -> anyhow::Result<(u16, usize)> {
        let (status, length) = self.ask(path).await?;
        let mut left = length.saturating_sub(self.buffer.len());
        self.buffer.clear();
        while left > 0 {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "cut off in a body");
            left = left.saturating_sub(read);
            self.buffer.clear();
        }
        Ok((status, length))
    }

    async fn ask(&mut self, path: &str) -> anyhow::Result<(u16, usize)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.server);
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            ensure!(self.buffer.len() < MAX_HEAD, "an endless head");
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "cut off in a head");
        };
        let head = self.buffer.split_to(end + 4);
        let head = std::str::from_utf8(&head).context("a head that is no text")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|(_, value)| value.trim().parse().ok());
        Ok((status.context("no status")?, length.context("no content-length")?))
    }
}
