use castlog_service::{MediaStoreConfig, open_media_store};
use castlog_testkit::until;
use tempfile::TempDir;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &str = "b/s/source/0-0.m4s";

/// A media folder that can be away, and a spool.
struct Stage {
    folder: TempDir,
    health: Health,
}

impl Stage {
    fn new() -> Self {
        let stage = Self {
            folder: TempDir::new().unwrap(),
            health: Health::default(),
        };
        std::fs::create_dir(stage.media()).unwrap();
        stage
    }

    fn media(&self) -> PathBuf {
        self.folder.path().join("media")
    }

    /// A file is where the folder was: nothing can be written, whoever asks.
    fn go_away(&self) {
        std::fs::rename(self.media(), self.folder.path().join("away")).unwrap();
        std::fs::write(self.media(), b"").unwrap();
    }

    fn come_back(&self) {
        std::fs::remove_file(self.media()).unwrap();
        std::fs::rename(self.folder.path().join("away"), self.media()).unwrap();
    }

    fn open(&self, max_bytes: u64) -> Spool {
        let config = Config {
            path: self.folder.path().join("spool"),
            max_bytes,
        };
        // The store is opened while it is there, as a service does.
        let store = open_media_store(&MediaStoreConfig::folder(self.media())).unwrap();
        Spool::open(&config, 1, store, self.health.clone()).unwrap()
    }

    fn stored(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.media().join(key)).ok()
    }

    /// Files in the spool.
    fn files(&self) -> usize {
        let path = self.folder.path().join("spool/0");
        std::fs::read_dir(path).unwrap().count() - 1
    }
}

async fn put(spool: &Spool, key: &str, bytes: &'static [u8]) -> Kept {
    spool.put(key, Bytes::from_static(bytes), Size::Bounded).await
}

/// Uploads until nothing waits.
async fn drain(spool: &Spool) {
    let shutdown = Shutdown::new();
    let empty = until("an empty spool", PATIENCE, || async { spool.is_empty().then_some(()) });
    tokio::select! {
        () = spool.run(&shutdown) => unreachable!("it runs until the shutdown"),
        empty = empty => empty.unwrap(),
    }
}

fn losses(reason: &'static str) -> u64 {
    metrics().lost_objects.get_or_create(&Loss { reason }).get()
}

#[tokio::test]
async fn what_the_store_does_not_take_waits_for_it() {
    let stage = Stage::new();
    let spool = stage.open(1000);
    assert_eq!(put(&spool, KEY, b"zero").await, Kept::Stored);
    stage.go_away();
    let keys: Vec<String> = (1..10).map(|n| format!("b/s/source/{n}-0.m4s")).collect();
    for key in &keys {
        assert_eq!(put(&spool, key, b"waits").await, Kept::Spooled);
    }
    stage.come_back();
    // What comes now stands in line.
    assert_eq!(put(&spool, "b/s/source/10-0.m4s", b"ten").await, Kept::Spooled);
    // The oldest first.
    assert_eq!(spool.round(&mut None).await, Round::Progress);
    let there: Vec<bool> = keys.iter().map(|key| stage.stored(key).is_some()).collect();
    assert_eq!(there, [[true; 4].as_slice(), &[false; 5]].concat());
    drain(&spool).await;
    for key in &keys {
        assert_eq!(stage.stored(key).unwrap(), b"waits");
    }
    assert_eq!(stage.stored("b/s/source/10-0.m4s").unwrap(), b"ten");
    assert_eq!((stage.files(), spool.lock().bytes), (0, 0));
    assert_eq!(put(&spool, "b/s/source/11-0.m4s", b"eleven").await, Kept::Stored);
    assert!(stage.health.is_ready());
}

#[tokio::test]
async fn what_the_store_never_takes_does_not_hold_up_the_rest() {
    let stage = Stage::new();
    let spool = stage.open(1000);
    stage.go_away();
    // As many as go there at a time, and more.
    let refused: Vec<String> = (0..6).map(|n| format!("b/s/source/{n}-0.m4s")).collect();
    let others: Vec<String> = (6..16).map(|n| format!("b/s/source/{n}-0.m4s")).collect();
    for key in refused.iter().chain(&others) {
        assert_eq!(put(&spool, key, b"waits").await, Kept::Spooled);
    }
    stage.come_back();
    // In their places are folders, over which no object can be written.
    for key in &refused {
        std::fs::create_dir_all(stage.media().join(key).join("in the way")).unwrap();
    }
    let shutdown = Shutdown::new();
    let stored = until("the others are stored", PATIENCE, || async {
        (spool.lock().waiting.len() == refused.len()).then_some(())
    });
    tokio::select! {
        () = spool.run(&shutdown) => unreachable!("it runs until the shutdown"),
        stored = stored => stored.unwrap(),
    }
    assert!(others.iter().all(|key| stage.stored(key).is_some()));
    for key in &refused {
        std::fs::remove_dir_all(stage.media().join(key)).unwrap();
    }
    drain(&spool).await;
    assert!(refused.iter().all(|key| stage.stored(key).is_some()));
}

#[tokio::test]
async fn a_full_spool_keeps_what_it_has_and_says_what_it_does_not_keep() {
    let stage = Stage::new();
    let spool = stage.open(10);
    let before = losses("spool_full");
    stage.go_away();
    assert_eq!(put(&spool, KEY, b"12345678").await, Kept::Spooled);
    assert!(stage.health.is_ready());
    let late = "b/s/source/1-0.m4s";
    assert_eq!(put(&spool, late, b"12345678").await, Kept::Lost);
    assert_eq!(put(&spool, late, b"12345678").await, Kept::Lost);
    assert_eq!(losses("spool_full"), before + 2);
    assert!(!stage.health.is_ready());
    let init = "b/s/source/init-1.mp4";
    let small = spool.put(init, Bytes::from_static(b"section"), Size::Small);
    assert_eq!(small.await, Kept::Spooled);
    stage.come_back();
    drain(&spool).await;
    assert_eq!(stage.stored(KEY).unwrap(), b"12345678");
    assert_eq!(stage.stored(init).unwrap(), b"section");
    assert_eq!(stage.stored(late), None);
    assert_eq!(put(&spool, late, b"again").await, Kept::Stored);
    assert!(stage.health.is_ready());
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_stops_nothing() {
    let stage = Stage::new();
    let spool = stage.open(1000);
    let before = losses("spool_failed");
    stage.go_away();
    std::fs::remove_dir_all(stage.folder.path().join("spool")).unwrap();
    assert_eq!(put(&spool, KEY, b"lost").await, Kept::Lost);
    assert_eq!(losses("spool_failed"), before + 1);
    assert_eq!(spool.lock().bytes, 0);
    stage.come_back();
    // Not at once on a busy machine: there is no disk to wait on for a store that takes long.
    let stored = until("the store takes it", PATIENCE, || async {
        (put(&spool, KEY, b"kept").await == Kept::Stored).then_some(())
    });
    stored.await.unwrap();
    assert_eq!(stage.stored(KEY).unwrap(), b"kept");
}

#[tokio::test]
async fn what_a_dead_process_left_goes_to_the_store_and_replaces_nothing() {
    let stage = Stage::new();
    let spool = stage.open(1000);
    stage.go_away();
    let anew = "b/s/source/init-0.mp4";
    assert_eq!(put(&spool, KEY, b"old").await, Kept::Spooled);
    assert_eq!(put(&spool, anew, b"old").await, Kept::Spooled);
    drop(spool);
    stage.come_back();
    // Its successor elsewhere has made one of them anew.
    let store = open_media_store(&MediaStoreConfig::folder(stage.media())).unwrap();
    let mode = PutOptions::from(PutMode::Create);
    store.put_opts(&Path::from(anew), "new".into(), mode).await.unwrap();
    let spool = stage.open(1000);
    assert_eq!(spool.lock().bytes, 6);
    drain(&spool).await;
    assert_eq!(stage.stored(KEY).unwrap(), b"old");
    assert_eq!(stage.stored(anew).unwrap(), b"new");
    assert_eq!(stage.files(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_dies_on_this_machine_is_taken_over_by_who_is_left() {
    let stage = Stage::new();
    let (dies, stays) = (stage.open(1000), stage.open(1000));
    stage.go_away();
    assert_eq!(put(&dies, KEY, b"left").await, Kept::Spooled);
    drop(dies);
    stage.come_back();
    let shutdown = Shutdown::new();
    let stored = async {
        while stage.stored(KEY).is_none() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = stays.run(&shutdown) => unreachable!("it runs until the shutdown"),
        stored = timeout(10 * ADOPT, stored) => stored.unwrap(),
    }
    assert_eq!(stage.files(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_dies_is_taken_over_also_by_who_is_busy() {
    let stage = Stage::new();
    let (dies, stays) = (stage.open(1000), stage.open(1000));
    stage.go_away();
    assert_eq!(put(&dies, KEY, b"left").await, Kept::Spooled);
    drop(dies);
    stage.come_back();
    // All that it makes goes by the disk, and more of it comes before ten seconds are over.
    stays.lock().detour = Some(Instant::now() + 100 * ADOPT);
    let busy = async {
        while stage.stored(KEY).is_none() {
            assert_eq!(put(&stays, "b/s/source/1-1.m4s", b"busy").await, Kept::Spooled);
            sleep(ADOPT / 2).await;
        }
    };
    let shutdown = Shutdown::new();
    tokio::select! {
        () = stays.run(&shutdown) => unreachable!("it runs until the shutdown"),
        busy = timeout(10 * ADOPT, busy) => busy.unwrap(),
    }
    assert_eq!(stage.stored(KEY).unwrap(), b"left");
    assert_eq!(stage.files(), 0);
}

#[tokio::test]
async fn what_cannot_be_read_now_is_not_forgotten() {
    let stage = Stage::new();
    let spool = stage.open(1000);
    stage.go_away();
    assert_eq!(put(&spool, KEY, b"waits").await, Kept::Spooled);
    stage.come_back();
    // A folder is in the place of its file: something is there, and cannot be read.
    let files = std::fs::read_dir(stage.folder.path().join("spool/0")).unwrap();
    let mut objects = files
        .map(|file| file.unwrap())
        .filter(|file| file.file_name().to_string_lossy().contains('+'));
    let file = objects.next().unwrap().path();
    let aside = stage.folder.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(spool.round(&mut None).await, Round::Failed);
    assert_eq!((spool.is_empty(), spool.lock().lost), (false, 0));
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    drain(&spool).await;
    assert_eq!(stage.stored(KEY).unwrap(), b"waits");
}

#[tokio::test]
async fn of_one_key_the_newest_object_counts() {
    let stage = Stage::new();
    let spool = stage.open(1000);
    stage.go_away();
    let key = "b/s/thumb/latest.jpg";
    for picture in [&b"first"[..], b"second", b"third"] {
        assert_eq!(put(&spool, key, picture).await, Kept::Spooled);
    }
    assert_eq!((stage.files(), spool.lock().bytes), (1, 5));
    stage.come_back();
    drain(&spool).await;
    assert_eq!(stage.stored(key).unwrap(), b"third");
}

#[tokio::test]
async fn an_orderly_end_brings_away_what_it_can() {
    let stage = Stage::new();
    let spool = stage.open(1000);
    stage.go_away();
    assert_eq!(put(&spool, KEY, b"waits").await, Kept::Spooled);
    spool.finish().await;
    assert!(!spool.is_empty());
    stage.come_back();
    spool.finish().await;
    assert!(spool.is_empty());
    assert_eq!(stage.stored(KEY).unwrap(), b"waits");
}
