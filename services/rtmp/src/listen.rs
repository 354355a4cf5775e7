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

use crate::{Code, Refused, connection, server::Server, threads::Threads};

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

    fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refused> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = present.values().sum();
        let from_here = present.get(&address).copied().unwrap_or(0);
        let within = |whose: &str, count: usize, limit: usize| {
            if count <= limit {
                return Ok(());
            }
            let reason = format!("number of connections {whose} of {count} is over the limit of {limit}");
            Err(Refused::new(Code::LimitExceeded, reason))
        };
        within("in all", total + 1, self.max)?;
        within("from one address", from_here + 1, self.max_per_address)?;
        present.insert(address, from_here + 1);
        Ok(Place {
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
        let place = match guests.admit(peer.ip()) {
            Ok(place) => place,
            Err(refused) => {
                // There is no RTMP yet to answer in.
                tracing::warn!(%peer, refused = %refused, "too many connections, one closed");
                refused.count();
                continue;
            }
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
        Err(_) => {
            let reason = format!("no TLS handshake for {} s", server.config.handshake_timeout_s);
            let refused = Refused::new(Code::TimedOut, reason);
            refused.count();
            tracing::info!(%peer, refused = %refused, "connection broken off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_per_address() {
        let guests = Guests::new(3, 2);
        let admit = |last: u8| guests.admit(IpAddr::from([10, 0, 0, last]));
        let said = |last: u8| admit(last).unwrap_err().to_string();
        let first = admit(1).unwrap();
        let _second = admit(1).unwrap();
        let per_address = "R06: number of connections from one address of 3 is over the limit of 2";
        assert_eq!(said(1), per_address);
        let _third = admit(2).unwrap();
        let in_all = "R06: number of connections in all of 4 is over the limit of 3";
        assert_eq!(said(3), in_all);
        drop(first);
        assert!(admit(3).is_ok());
    }
}
