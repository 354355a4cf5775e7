//! Recent media in memory, bounded in bytes; the least recently used goes
//! first. Viewers who ask for the same object at once cause one read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::OnceCell;

/// What an entry weighs beyond its bytes: keys, table slots, the cell. Also what
/// bounds entries whose bytes are still on their way.
const OVERHEAD: u64 = 512;
/// An object may take this part of the whole cache; larger ones are not kept.
const LARGEST: u64 = 8;

#[derive(Debug)]
pub(crate) struct Cache {
    capacity: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<Arc<str>, Slot>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, Arc<str>>,
    clock: u64,
    weight: u64,
}

#[derive(Debug)]
struct Slot {
    cell: Arc<OnceCell<Bytes>>,
    used: u64,
    weight: u64,
}

impl Cache {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            inner: Mutex::default(),
        }
    }

    /// Size in bytes over which an object is not kept.
    pub(crate) const fn largest(&self) -> u64 {
        self.capacity / LARGEST
    }

    /// The object `key`, which `load` reads if it is not here. A failure is not kept.
    pub(crate) async fn get<E, L>(&self, key: &str, load: impl FnOnce() -> L) -> Result<Bytes, E>
    where
        L: Future<Output = Result<Bytes, E>>,
    {
        let cell = self.lock().touch(key);
        match cell.get_or_try_init(load).await {
            Ok(bytes) => {
                self.lock().keep(key, &cell, bytes.len() as u64, self.capacity);
                Ok(bytes.clone())
            }
            Err(error) => {
                self.lock().drop_empty(key, &cell);
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn touch(&mut self, key: &str) -> Arc<OnceCell<Bytes>> {
        self.clock += 1;
        let clock = self.clock;
        if let Some((key, _)) = self.slots.get_key_value(key) {
            let key = Arc::clone(key);
            if let Some(slot) = self.slots.get_mut(&key) {
                self.order.remove(&slot.used);
                slot.used = clock;
                self.order.insert(clock, key);
                return Arc::clone(&slot.cell);
            }
        }
        let key: Arc<str> = key.into();
        let cell = Arc::<OnceCell<Bytes>>::default();
        self.slots.insert(
            Arc::clone(&key),
            Slot {
                cell: Arc::clone(&cell),
                used: clock,
                weight: OVERHEAD,
            },
        );
        self.order.insert(clock, key);
        self.weight += OVERHEAD;
        cell
    }

    /// Counts the bytes of a loaded object, and makes room.
    fn keep(&mut self, key: &str, cell: &Arc<OnceCell<Bytes>>, bytes: u64, capacity: u64) {
        if let Some(slot) = self.slots.get_mut(key)
            && Arc::ptr_eq(&slot.cell, cell)
        {
            self.weight = self.weight - slot.weight + OVERHEAD + bytes;
            slot.weight = OVERHEAD + bytes;
        }
        while self.weight > capacity {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            if let Some(slot) = self.slots.remove(&oldest) {
                self.weight -= slot.weight;
            }
        }
    }

    fn drop_empty(&mut self, key: &str, cell: &Arc<OnceCell<Bytes>>) {
        let empty = |slot: &Slot| Arc::ptr_eq(&slot.cell, cell) && !slot.cell.initialized();
        if self.slots.get(key).is_some_and(empty)
            && let Some(slot) = self.slots.remove(key)
        {
            self.order.remove(&slot.used);
            self.weight -= slot.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn load(cache: &Cache, key: &str, size: usize, loads: &AtomicUsize) -> Bytes {
        let read = || async {
            loads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, ()>(Bytes::from(vec![0; size]))
        };
        cache.get(key, read).await.unwrap()
    }

    #[tokio::test]
    async fn many_readers_cause_one_read() {
        let (cache, loads) = (Cache::new(1 << 20), AtomicUsize::new(0));
        futures::future::join_all((0..50).map(|_| load(&cache, "a", 100, &loads))).await;
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first() {
        let (cache, loads) = (Cache::new(3 * (1000 + OVERHEAD)), AtomicUsize::new(0));
        for key in ["a", "b", "c", "a", "d"] {
            load(&cache, key, 1000, &loads).await;
        }
        assert_eq!(loads.load(Ordering::Relaxed), 4);
        load(&cache, "a", 1000, &loads).await;
        assert_eq!(loads.load(Ordering::Relaxed), 4, "a was used after b");
        load(&cache, "b", 1000, &loads).await;
        assert_eq!(loads.load(Ordering::Relaxed), 5);
        let inner = cache.lock();
        assert!(inner.weight <= cache.capacity);
        assert_eq!(inner.slots.len(), inner.order.len());
        assert_eq!(inner.weight, inner.slots.values().map(|s| s.weight).sum::<u64>());
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let (cache, loads) = (Cache::new(1 << 20), AtomicUsize::new(0));
        assert_eq!(cache.get("a", || async { Err::<Bytes, _>("lost") }).await, Err("lost"));
        assert_eq!(cache.lock().weight, 0);
        assert_eq!(load(&cache, "a", 10, &loads).await.len(), 10);
    }
}
