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
        let connection = Connection {
            stream,
            idle: self.idle,
            end: Box::pin(tokio::time::sleep(self.idle)),
            _place: self.place.take(),
        };
        Poll::Ready(Ok((connection, address)))
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
pub struct Connection {
    stream: TcpStream,
    idle: Duration,
    /// When it is cut, unless something moves.
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
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

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.watch(cx, polled)
    }
}

impl AsyncWrite for Connection {
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
