//! The RTMP and RTMPS listeners, with their bounds on connections.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use crate::{connection, server::Server, threads::Threads};

/// Wait after the system refuses to accept, as it does when descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Who is connected. Shared by all listeners.
#[derive(Debug)]
pub(crate) struct Guests {
    max: usize,
    max_per_address: usize,
    present: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; leaves with it.
#[derive(Debug)]
struct Place {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_address,
            present: Mutex::default(),
        })
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = present.values().sum();
        let from_here = present.get(&address).copied().unwrap_or(0);
        if total >= self.max || from_here >= self.max_per_address {
            return None;
        }
        present.insert(address, from_here + 1);
        Some(Place {
            guests: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut present = self.guests.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = present.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                present.remove(&self.address);
            }
        }
    }
}

/// Accepts connections until the shutdown.
pub(crate) async fn listen(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
    guests: Arc<Guests>,
    threads: Arc<Threads>,
) -> anyhow::Result<()> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.shutdown.cancelled() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(place) = guests.admit(peer.ip()) else {
            tracing::warn!(%peer, "too many connections, one closed");
            continue;
        };
        let (tls, accepting) = (tls.clone(), server.clone());
        let serving = async move {
            // Another thread will wait for its bytes.
            match stream.into_std().and_then(TcpStream::from_std) {
                Ok(stream) => serve(stream, peer, tls, accepting).await,
                Err(error) => tracing::warn!(%peer, error = %error, "cannot serve a connection"),
            }
            drop(place);
        };
        server.tasks.spawn_on(serving, threads.next());
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, server: Arc<Server>) {
    let accepted_at = Instant::now();
    // Answers are small and awaited.
    stream.set_nodelay(true).ok();
    let Some(tls) = tls else {
        return connection::serve(stream, peer, server, accepted_at).await;
    };
    let deadline = accepted_at + server.config.handshake_timeout();
    let shaken = tokio::select! {
        shaken = timeout_at(deadline, tls.accept(stream)) => shaken,
        () = server.shutdown.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => connection::serve(stream, peer, server, accepted_at).await,
        Ok(Err(error)) => tracing::debug!(%peer, error = %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_per_address() {
        let guests = Guests::new(3, 2);
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let first = guests.admit(address(1)).unwrap();
        let _second = guests.admit(address(1)).unwrap();
        assert!(guests.admit(address(1)).is_none(), "two from one address");
        let _third = guests.admit(address(2)).unwrap();
        assert!(guests.admit(address(3)).is_none(), "three in all");
        drop(first);
        assert!(guests.admit(address(3)).is_some());
    }
}
