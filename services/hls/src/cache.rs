//! Recent media in memory, bounded in bytes. Viewers who ask for the same object at once
//! cause one read, and share its failure.
//!
//! What has been asked for goes when it is the least recently used. What came by itself,
//! out of the parts, and nobody has asked for yet, goes in the order in which it came;
//! it may take half of the memory before anything else goes for it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::error::Problem;

/// What an entry weighs beyond its bytes: keys, table slots, the cell. Also what
/// bounds entries whose bytes are still on their way.
const OVERHEAD: u64 = 512;
/// An object may take this part of the whole cache; larger ones are not kept.
const LARGEST: u64 = 8;
/// What nobody has asked for may take this part of the whole cache from what somebody has.
const UNASKED: u64 = 2;

/// Why an object is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It has more bytes than an object may have there.
    TooLarge {
        /// How many.
        size: u64,
    },
    Problem(Problem),
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Problem(problem) => problem,
            Unread::TooLarge { .. } => Self::Store,
        }
    }
}

/// What has come of a read, once it has ended.
type Cell = Arc<OnceCell<Result<Bytes, Unread>>>;

#[derive(Debug)]
pub(crate) struct Cache {
    capacity: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<Arc<str>, Slot>,
    /// Keys by whether they were asked for and the time of their last use.
    order: BTreeMap<(bool, u64), Arc<str>>,
    clock: u64,
    weight: u64,
    /// Of that, what nobody has asked for.
    unasked: u64,
}

#[derive(Debug)]
struct Slot {
    cell: Cell,
    used: (bool, u64),
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

    /// The object `key`, which `load` reads if it is not here. Who waits for the same read
    /// shares its failure, which is not kept: whoever asks next tries again.
    pub(crate) async fn get<L>(&self, key: &str, load: impl FnOnce() -> L) -> Result<Bytes, Unread>
    where
        L: Future<Output = Result<Bytes, Unread>>,
    {
        let cell = self.lock().touch(key);
        let outcome = cell.get_or_init(load).await.clone();
        let size = outcome.as_ref().map_or(u64::MAX, |bytes| bytes.len() as u64);
        if size <= self.largest() {
            self.lock().keep(key, &cell, size, self.capacity);
        } else {
            self.lock().forget(key, &cell);
        }
        outcome
    }

    /// Takes in an object that came by itself, unless it is here. `make` puts it together.
    pub(crate) fn fill(&self, key: &str, size: u64, make: impl FnOnce() -> Bytes) {
        if size > self.largest() || self.lock().refresh(key) {
            return;
        }
        let bytes = make();
        self.lock().add(key, bytes, self.capacity);
    }

    /// Puts an object in the place of the one before; nobody has asked for it.
    pub(crate) fn replace(&self, key: &str, bytes: Bytes) {
        if bytes.len() as u64 > self.largest() {
            return;
        }
        let mut inner = self.lock();
        if let Some(used) = inner.slots.get(key).map(|slot| slot.used) {
            inner.remove(used);
        }
        inner.add(key, bytes, self.capacity);
    }

    /// An object that is in memory.
    pub(crate) fn held(&self, key: &str) -> Option<Bytes> {
        let inner = self.lock();
        inner.slots.get(key)?.cell.get()?.clone().ok()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn touch(&mut self, key: &str) -> Cell {
        if let Some(cell) = self.use_again(key, true) {
            return cell;
        }
        let cell = Cell::default();
        self.insert(key, &cell, true, OVERHEAD);
        cell
    }

    /// Whether `key` is here, or on its way; nobody has asked for it, but it is of use.
    fn refresh(&mut self, key: &str) -> bool {
        let asked = self.slots.get(key).is_some_and(|slot| slot.used.0);
        asked || self.use_again(key, false).is_some()
    }

    fn add(&mut self, key: &str, bytes: Bytes, capacity: u64) {
        if self.slots.contains_key(key) {
            return;
        }
        let weight = OVERHEAD + bytes.len() as u64;
        self.insert(key, &Arc::new(OnceCell::new_with(Some(Ok(bytes)))), false, weight);
        self.make_room(capacity);
    }

    fn use_again(&mut self, key: &str, asked: bool) -> Option<Cell> {
        let slot = self.slots.get_mut(key)?;
        self.clock += 1;
        let used = (asked, self.clock);
        if let Some(key) = self.order.remove(&slot.used) {
            self.order.insert(used, key);
        }
        if asked && !slot.used.0 {
            self.unasked -= slot.weight;
        }
        slot.used = used;
        Some(Arc::clone(&slot.cell))
    }

    fn insert(&mut self, key: &str, cell: &Cell, asked: bool, weight: u64) {
        self.clock += 1;
        let (key, used): (Arc<str>, _) = (key.into(), (asked, self.clock));
        let slot = Slot {
            cell: Arc::clone(cell),
            used,
            weight,
        };
        self.slots.insert(Arc::clone(&key), slot);
        self.order.insert(used, key);
        self.weight += weight;
        self.unasked += if asked { 0 } else { weight };
    }

    fn remove(&mut self, used: (bool, u64)) {
        let slot = self.order.remove(&used).and_then(|key| self.slots.remove(&key));
        if let Some(slot) = slot {
            self.weight -= slot.weight;
            self.unasked -= if slot.used.0 { 0 } else { slot.weight };
        }
    }

    /// Counts the bytes of a loaded object, and makes room.
    fn keep(&mut self, key: &str, cell: &Cell, bytes: u64, capacity: u64) {
        if let Some(slot) = self.slots.get_mut(key)
            && Arc::ptr_eq(&slot.cell, cell)
        {
            // It was asked for.
            self.weight = self.weight - slot.weight + OVERHEAD + bytes;
            slot.weight = OVERHEAD + bytes;
        }
        self.make_room(capacity);
    }

    fn make_room(&mut self, capacity: u64) {
        while self.weight > capacity {
            let asked = self.order.range((true, 0)..).next();
            let goes = match asked {
                Some(asked) if self.unasked <= capacity / UNASKED => Some(asked),
                _ => self.order.first_key_value(),
            };
            let Some((&used, _)) = goes else { return };
            self.remove(used);
        }
    }

    /// Lets go of a read that has failed, or of an object that is too large.
    fn forget(&mut self, key: &str, cell: &Cell) {
        let same = |slot: &&Slot| Arc::ptr_eq(&slot.cell, cell);
        if let Some(used) = self.slots.get(key).filter(same).map(|slot| slot.used) {
            self.remove(used);
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
            Ok::<_, Unread>(Bytes::from(vec![0; size]))
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
        let (cache, loads) = (Cache::new(3 * (100 + OVERHEAD)), AtomicUsize::new(0));
        for key in ["a", "b", "c", "a", "d"] {
            load(&cache, key, 100, &loads).await;
        }
        assert_eq!(loads.load(Ordering::Relaxed), 4);
        load(&cache, "a", 100, &loads).await;
        assert_eq!(loads.load(Ordering::Relaxed), 4, "a was used after b");
        load(&cache, "b", 100, &loads).await;
        assert_eq!(loads.load(Ordering::Relaxed), 5);
        let inner = cache.lock();
        assert!(inner.weight <= cache.capacity);
        assert_eq!(inner.slots.len(), inner.order.len());
        assert_eq!(inner.weight, inner.slots.values().map(|s| s.weight).sum::<u64>());
    }

    fn fill(cache: &Cache, key: &str, size: usize) -> bool {
        let mut made = false;
        cache.fill(key, size as u64, || {
            made = true;
            vec![1; size].into()
        });
        made
    }

    #[tokio::test]
    async fn what_came_by_itself_is_there_before_it_is_asked_for() {
        let (cache, loads) = (Cache::new(10 * (1000 + OVERHEAD)), AtomicUsize::new(0));
        assert!(fill(&cache, "a", 1000));
        assert!(!fill(&cache, "a", 1000), "it is put together once");
        assert!(!fill(&cache, "large", 10_000), "it is too large to be kept");
        assert_eq!(load(&cache, "a", 1000, &loads).await, vec![1; 1000]);
        assert_eq!(load(&cache, "b", 1000, &loads).await, vec![0; 1000]);
        assert!(!fill(&cache, "b", 1000));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_replaced_is_held_as_it_was_last() {
        let cache = Cache::new(1 << 20);
        assert_eq!(cache.held("a"), None);
        for bytes in ["first", "second"] {
            cache.replace("a", bytes.into());
            assert_eq!(cache.held("a").unwrap(), bytes);
        }
        let inner = cache.lock();
        assert_eq!((inner.weight, inner.unasked), (OVERHEAD + 6, OVERHEAD + 6));
    }

    #[tokio::test]
    async fn what_nobody_asks_for_leaves_half_to_what_somebody_has() {
        let (cache, loads) = (Cache::new(10 * (1000 + OVERHEAD)), AtomicUsize::new(0));
        for key in 0..10 {
            load(&cache, &format!("asked {key}"), 1000, &loads).await;
        }
        for key in 0..20 {
            assert!(fill(&cache, &format!("came {key}"), 1000));
            // It is of use, as a section is while there are segments of it.
            fill(&cache, "section", 10);
        }
        let held: Vec<bool> = {
            let inner = cache.lock();
            assert!(inner.weight <= cache.capacity);
            let slots = inner.slots.values();
            assert_eq!(inner.weight, slots.clone().map(|s| s.weight).sum::<u64>());
            assert_eq!(
                inner.unasked,
                slots.filter(|s| !s.used.0).map(|s| s.weight).sum::<u64>()
            );
            let held = |key: &str| inner.slots.contains_key(key);
            [
                "asked 4", "asked 5", "asked 9", "came 15", "came 16", "came 19", "section",
            ]
            .map(held)
            .into()
        };
        assert_eq!(held, [false, true, true, false, true, true, true]);
        // Asked for, they stay; and where nothing comes, they may have all of it.
        for key in (16..20)
            .map(|n| format!("came {n}"))
            .chain((0..5).map(|n| format!("new {n}")))
        {
            load(&cache, &key, 1000, &loads).await;
        }
        assert_eq!(loads.load(Ordering::Relaxed), 15);
        assert!(cache.lock().slots.contains_key("came 16"));
    }

    #[tokio::test]
    async fn a_failure_is_shared_by_who_waits_and_not_kept() {
        const LOST: Unread = Unread::Problem(Problem::Store);
        let (cache, loads) = (Cache::new(1 << 20), AtomicUsize::new(0));
        let read = || async {
            loads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err::<Bytes, _>(LOST)
        };
        let outcomes = futures::future::join_all((0..50).map(|_| cache.get("a", read))).await;
        assert_eq!(outcomes, vec![Err(LOST); 50]);
        assert_eq!(loads.load(Ordering::Relaxed), 1, "one read for all");
        assert_eq!(cache.held("a"), None);
        assert_eq!(cache.lock().weight, 0);
        assert_eq!(load(&cache, "a", 10, &loads).await.len(), 10);
        assert_eq!(loads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_read_that_was_broken_off_is_made_again() {
        let (cache, loads) = (Cache::new(1 << 20), AtomicUsize::new(0));
        let left = castlog_testkit::cut_off(load(&cache, "a", 10, &loads), 0).await;
        assert_eq!(left, None);
        assert_eq!(load(&cache, "a", 10, &loads).await.len(), 10);
        assert_eq!(loads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_is_too_large_is_passed_on_and_leaves_the_rest_in_place() {
        let (cache, loads) = (Cache::new(1 << 20), AtomicUsize::new(0));
        load(&cache, "small", 10, &loads).await;
        for _ in 0..2 {
            assert_eq!(load(&cache, "large", 1 << 19, &loads).await.len(), 1 << 19);
        }
        assert_eq!(loads.load(Ordering::Relaxed), 3);
        assert_eq!((cache.held("small").is_some(), cache.held("large")), (true, None));
        assert_eq!(cache.lock().weight, OVERHEAD + 10);
    }
}
