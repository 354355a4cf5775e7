//! How many people watch: clients that have asked for a playlist or for media of what
//! is shown of a broadcast within the last seconds. A client is told by its address and
//! what it calls itself, so people behind one address count once per kind of
//! player, and who comes back from another port is the same. Those behind a cache count
//! when it asks on their behalf whether they may watch.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use castlog_log::{BroadcastId, Draft, Publisher, pb};
use castlog_metrics::metrics;
use castlog_service::Shutdown;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::http::ACCESS_S;

/// A player asks at least once per target duration, which is at most 10 s; a cache in front
/// asks on its behalf when the answer that it has is [`ACCESS_S`] old.
const PRESENCE: Duration = Duration::from_secs(15 + ACCESS_S);
/// How often the counts are published.
const INTERVAL: Duration = Duration::from_secs(10);
/// Most clients that are told apart, over all broadcasts: about 16 MB.
const MAX_CLIENTS: usize = 200_000;
/// Counts that are published at a time.
const IN_FLIGHT: usize = 32;

/// Who watches what.
#[derive(Debug, Default)]
pub(crate) struct Audience(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    broadcasts: HashMap<BroadcastId, HashMap<u64, Instant>>,
    clients: usize,
}

impl Audience {
    /// A client has asked for something of a broadcast.
    pub(crate) fn seen(&self, broadcast: BroadcastId, address: IpAddr, agent: &[u8], now: Instant) {
        let mut hasher = DefaultHasher::new();
        (address, agent).hash(&mut hasher);
        let client = hasher.finish();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = seen.clients >= MAX_CLIENTS;
        if let Some(last) = seen
            .broadcasts
            .get_mut(&broadcast)
            .and_then(|clients| clients.get_mut(&client))
        {
            *last = now;
        } else if !full {
            seen.broadcasts.entry(broadcast).or_default().insert(client, now);
            seen.clients += 1;
        }
    }

    /// The counts of all broadcasts that are watched or were so at the last
    /// count: a broadcast that everyone has left is counted once with 0.
    pub(crate) fn count(&self, now: Instant) -> Vec<(BroadcastId, u32)> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = Vec::with_capacity(seen.broadcasts.len());
        seen.broadcasts.retain(|&broadcast, clients| {
            clients.retain(|_, last| now.duration_since(*last) < PRESENCE);
            counts.push((broadcast, u32::try_from(clients.len()).unwrap_or(u32::MAX)));
            !clients.is_empty()
        });
        seen.clients = seen.broadcasts.values().map(HashMap::len).sum();
        counts
    }
}

/// Publishes the counts until the shutdown. A count that cannot be published is
/// dropped: the next one takes its place.
pub(crate) async fn publish(audience: &Audience, publisher: &Publisher, edge: &str, shutdown: &Shutdown) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        let counts = audience.count(Instant::now());
        let viewers = counts.iter().map(|(_, viewers)| i64::from(*viewers)).sum();
        metrics().hls_viewers.set(viewers);
        let counts = futures::stream::iter(counts);
        let published = counts.for_each_concurrent(IN_FLIGHT, |(broadcast, concurrent)| async move {
            let counted = pb::viewers::Counted {
                edge: edge.to_owned(),
                concurrent,
            };
            let event = pb::Viewers {
                event: Some(pb::viewers::Event::Counted(counted)),
            };
            if let Err(error) = publisher.publish(Draft::new(broadcast, event)).await {
                tracing::warn!(broadcast_id = %broadcast, error = %error, "cannot publish the number of viewers");
            }
        });
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = published => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_count_once_and_leave() {
        let (audience, broadcast) = (Audience::default(), BroadcastId::generate());
        let (here, there): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let start = Instant::now();
        for (address, agent) in [(here, "a"), (here, "b"), (here, "a"), (there, "a")] {
            audience.seen(broadcast, address, agent.as_bytes(), start);
        }
        assert_eq!(audience.count(start), [(broadcast, 3)]);
        audience.seen(broadcast, here, b"a", start + PRESENCE / 2);
        assert_eq!(audience.count(start + PRESENCE), [(broadcast, 1)]);
        assert_eq!(audience.count(start + PRESENCE * 2), [(broadcast, 0)]);
        assert_eq!(audience.count(start + PRESENCE * 2), []);
        assert_eq!(audience.0.lock().unwrap().clients, 0);
    }
}
