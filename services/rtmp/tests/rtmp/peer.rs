//! Peers as bytes on a socket, for what real encoders cannot be made to send.

use std::net::SocketAddr;

use castlog_log::PublishKey;
use castlog_rtmp_core::{Message, amf0::Value, chunk::Writer, type_id};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::common::SOON;

pub(crate) fn message(type_id: u8, stream_id: u32, payload: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    let message = Message {
        timestamp: 0,
        type_id,
        stream_id,
        payload: payload.into(),
    };
    Writer::default().write(3, &message, &mut out);
    out
}

pub(crate) fn handshake() -> Vec<u8> {
    let mut out = vec![3];
    out.extend([7; 3072]);
    out
}

pub(crate) fn command(stream_id: u32, values: &[Value]) -> Vec<u8> {
    let mut payload = Vec::new();
    for value in values {
        value.write(&mut payload);
    }
    message(type_id::COMMAND_AMF0, stream_id, payload)
}

pub(crate) fn connect() -> Vec<u8> {
    let app = Value::Object(vec![("app".into(), "live".into())]);
    command(0, &["connect".into(), 1.0.into(), app])
}

pub(crate) fn create_stream() -> Vec<u8> {
    command(0, &["createStream".into(), 2.0.into(), Value::Null])
}

/// Everything up to and including `publish`.
pub(crate) fn publish(key: &PublishKey) -> Vec<u8> {
    let publish = ["publish".into(), 3.0.into(), Value::Null, key.expose().into()];
    [handshake(), connect(), create_stream(), command(1, &publish)].concat()
}

/// An encoder that is on air.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    /// # Errors
    /// It is refused; the error holds what the server said.
    pub(crate) async fn publish(address: SocketAddr, key: &PublishKey) -> anyhow::Result<Self> {
        let mut peer = Self(TcpStream::connect(address).await?);
        peer.0.write_all(&publish(key)).await?;
        let said = peer.hear("NetStream.Publish.Start").await?;
        anyhow::ensure!(said.contains("NetStream.Publish.Start"), "refused: {said}");
        Ok(peer)
    }

    /// Sends a message on the stream that it publishes.
    pub(crate) async fn send(&mut self, type_id: u8, payload: &[u8]) -> anyhow::Result<()> {
        Ok(self.0.write_all(&message(type_id, 1, payload.to_vec())).await?)
    }

    /// What the server says until it has said `word`, or has closed.
    pub(crate) async fn hear(&mut self, word: &str) -> anyhow::Result<String> {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&said);
            if text.contains(word) {
                return Ok(text.into_owned());
            }
            match timeout(SOON, self.0.read(&mut buffer)).await? {
                Ok(0) | Err(_) => return Ok(text.into_owned()),
                Ok(read) => said.extend_from_slice(&buffer[..read]),
            }
        }
    }
}
