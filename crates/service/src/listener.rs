//! A listener for HTTP servers that has an upper bound on connections: past it,
//! newcomers wait in the kernel's queue. A connection on which nothing moves for
//! a while is cut, so that silent peers cannot hold the places of others.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tls_listener::{AsyncAccept, AsyncListener};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tokio_util::sync::PollSemaphore;

/// Wait after a connection could not be accepted, for want of file descriptors as a rule.
const ACCEPT_DELAY: Duration = Duration::from_secs(1);

/// Places for connections, which listeners may share.
#[derive(Debug, Clone)]
pub struct Places(Arc<Semaphore>);

impl Places {
    /// So many at a time.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new(connections)))
    }
}

/// A listener with a bound on its connections.
#[derive(Debug)]
pub struct Bounded {
    listener: TcpListener,
    places: PollSemaphore,
    /// The place of the next connection.
    place: Option<OwnedSemaphorePermit>,
    idle: Duration,
}

impl Bounded {
    /// As many connections at a time as there are `places`; one is cut when no byte has
    /// come or gone for `idle`, which must be longer than any answer takes.
    #[must_use]
    pub fn new(listener: TcpListener, places: Places, idle: Duration) -> Self {
        Self {
            listener,
            places: PollSemaphore::new(places.0),
            place: None,
            idle,
        }
    }
}

impl AsyncAccept for Bounded {
    type Connection = Connection;
    type Address = SocketAddr;
    type Error = io::Error;

    fn poll_accept(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<(Connection, SocketAddr)>> {
        if self.place.is_none() {
            // The semaphore is never closed, so there is always a place in the end.
            self.place = ready!(self.places.poll_acquire(cx));
        }
        let (stream, address) = ready!(self.listener.poll_accept(cx))?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "cannot set TCP_NODELAY");
        }
        Poll::Ready(Ok((Connection::new(stream, self.idle, self.place.take()), address)))
    }
}

impl AsyncListener for Bounded {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match poll_fn(|cx| Pin::new(&mut *self).poll_accept(cx)).await {
                Ok(accepted) => return accepted,
                Err(error) => refused(&error).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// After a connection could not be accepted.
pub(crate) async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // The peer was gone before its turn came.
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::warn!(error = %error, "cannot accept a connection, trying again");
    tokio::time::sleep(ACCEPT_DELAY).await;
}

/// A connection, which counts until it is dropped.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    stream: S,
    idle: Duration,
    /// When it is cut, unless something moves.
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Connection<S> {
    fn new(stream: S, idle: Duration, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            idle,
            end: Box::pin(tokio::time::sleep(idle)),
            _place: place,
        }
    }

    /// Passes on what the stream says; the time starts again when it has moved.
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.end.as_mut().reset(Instant::now() + self.idle);
            return polled;
        }
        self.end.as_mut().poll(cx).map(|()| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nothing moved on the connection",
            ))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.watch(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);
    /// More than the buffers on the way hold.
    const LARGE: usize = 64 << 20;

    /// A connection with a buffer of 64 KiB on the way, and its peer.
    fn connection() -> (Connection<DuplexStream>, DuplexStream) {
        let (stream, peer) = tokio::io::duplex(64 << 10);
        (Connection::new(stream, IDLE, None), peer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_whom_nothing_moves_is_cut() {
        let (mut connection, _peer) = connection();
        let begun = Instant::now();
        let read = tokio::time::timeout(IDLE * 2, connection.read_u8()).await;
        assert_eq!(read.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), IDLE.as_secs());
        let large = vec![0; LARGE];
        let written = tokio::time::timeout(IDLE * 2, connection.write_all(&large)).await;
        assert_eq!(written.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        // From the last byte that the buffer took.
        assert_eq!(begun.elapsed().as_secs(), 2 * IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_or_writes_slowly_is_not() {
        let (mut connection, mut peer) = connection();
        let begun = Instant::now();
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
                peer.read_u8().await?;
            }
            for _ in 0..10 {
                tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
                peer.write_u8(1).await?;
            }
            peer.read_exact(&mut vec![0; LARGE - 10]).await
        };
        let both = async {
            let large = vec![0; (64 << 10) + 10];
            connection.write_all(&large).await?;
            let mut piece = [0; 10];
            connection.read_exact(&mut piece).await?;
            connection.write_all(&vec![0; LARGE - large.len()]).await
        };
        let both = tokio::try_join!(slow, both);
        assert!(both.is_ok(), "{both:?}");
        assert!(begun.elapsed() > IDLE * 19);
    }

    #[tokio::test(start_paused = true)]
    async fn the_place_of_who_reads_nothing_is_free_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = Bounded::new(listener, Places::new(1), IDLE);
        let (_peer, (mut connection, _)) = tokio::join!(TcpStream::connect(address), listener.accept());
        let written = tokio::time::timeout(IDLE * 100, connection.write_all(&vec![0; LARGE])).await;
        assert_eq!(written.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);

        let newcomer = TcpStream::connect(address).await.unwrap();
        let accepted = tokio::time::timeout(IDLE, listener.accept()).await;
        assert!(accepted.is_err(), "there is one place");
        drop(connection);
        let (_, from) = listener.accept().await;
        assert_eq!(from, newcomer.local_addr().unwrap());
    }
}
