//! What a spool promises, on a real folder and on a disk in memory that fails or is full.

use std::path::PathBuf;

use super::*;
use crate::log::segment_table::file_number;
use crate::tests::memory_storage::MemoryStorage;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("broker-spool-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        Self(folder)
    }

    fn open(&self) -> Spool {
        Spool::open(&self.0, OPTIONS).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const OPTIONS: SpoolOptions =
    SpoolOptions { max_messages: 1_000, max_bytes: 1 << 20, segment_bytes: 64 << 10, disk_free_min_bytes: 0 };

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn in_memory(storage: MemoryStorage, options: SpoolOptions) -> (Arc<MemoryStorage>, Spool) {
    let storage = Arc::new(storage);
    let shared: Arc<dyn Storage> = storage.clone();
    let spool = Spool::recover(shared, options, None).unwrap();
    spool.start().unwrap();
    (storage, spool)
}

fn ids(messages: &[SpooledMessage]) -> Vec<&str> {
    messages.iter().map(|message| message.id.as_str()).collect()
}

/// Everything that waits, in order.
fn contents(spool: &Spool) -> Vec<String> {
    let messages = spool.take(usize::MAX).unwrap();
    spool.give_back(&messages);
    ids(&messages).into_iter().map(str::to_owned).collect()
}

#[test]
fn what_is_published_is_given_out_in_order_until_it_is_acknowledged() {
    let folder = Folder::new("order");
    let spool = folder.open();
    let before = SystemTime::now() - Duration::from_secs(1);
    for number in 0..10 {
        spool.publish(&number.to_string(), &[number], soon()).unwrap();
    }
    assert_eq!(spool.count(), 10);
    let oldest = spool.oldest().unwrap().unwrap();
    assert!(before <= oldest && oldest <= SystemTime::now(), "{oldest:?}");
    let taken = spool.take(4).unwrap();
    assert_eq!(ids(&taken), ["0", "1", "2", "3"]);
    assert_eq!(taken[3].body, [3]);
    spool.acknowledge(&taken[1..3]);
    spool.give_back(&taken[3..]);
    assert_eq!(ids(&spool.take(2).unwrap()), ["3", "4"], "0 is still out");
    assert_eq!(spool.count(), 8);
    spool.close().unwrap();
    assert!(matches!(spool.publish("x", b"", soon()), Err(PublishError::Closed { .. })));
    drop(spool);
    // What was out and not acknowledged comes again.
    let spool = folder.open();
    assert_eq!(contents(&spool), ["0", "3", "4", "5", "6", "7", "8", "9"]);
    spool.acknowledge(&spool.take(100).unwrap());
    assert_eq!((spool.count(), spool.oldest().unwrap()), (0, None));
}

#[test]
fn callers_share_one_sync() {
    const CALLERS: usize = 16;
    let (storage, spool) = in_memory(MemoryStorage::default(), OPTIONS);
    std::thread::scope(|scope| {
        let (syncs_wait, deadline) = (storage.fuse.hold_syncs(), soon());
        for caller in 0..CALLERS {
            let spool = &spool;
            scope.spawn(move || spool.publish(&caller.to_string(), b"body", soon()).unwrap());
        }
        while lock(&spool.usage).messages < CALLERS as u64 {
            assert!(Instant::now() < deadline, "they do not come");
            std::thread::yield_now();
        }
        drop(syncs_wait);
    });
    let mut found = contents(&spool);
    found.sort_by_key(|id| id.parse::<usize>().unwrap());
    assert_eq!(found, (0..CALLERS).map(|caller| caller.to_string()).collect::<Vec<_>>());
    let mut text = foundation::metrics::Exposition::new();
    text.histogram("syncs", "", &spool.store.segment_table.sync_time);
    let text = text.finish();
    let syncs = text.lines().find_map(|line| line.strip_prefix("syncs_count ")).unwrap();
    // One for the first, and one for those that came meanwhile; few may have been on their way.
    assert!(syncs.parse::<usize>().unwrap() < CALLERS / 2, "{syncs} syncs for {CALLERS} messages");
}

#[test]
fn a_limit_is_told_and_acknowledging_makes_room() {
    let folder = Folder::new("full");
    let options = SpoolOptions { max_messages: 3, max_bytes: 4_000, ..OPTIONS };
    let spool = Spool::open(&folder.0, options).unwrap();
    for id in ["a", "b", "c"] {
        assert_eq!(spool.refusal(), None);
        spool.publish(id, &[0; 900], soon()).unwrap();
    }
    let full = spool.refusal().unwrap();
    assert_eq!(full, PublishError::Full { reason: "it holds as many messages as are allowed" });
    assert_eq!(spool.publish("d", b"", soon()), Err(full));
    drop(spool);
    let spool = Spool::open(&folder.0, options).unwrap();
    assert!(
        matches!(spool.publish("d", b"", soon()), Err(PublishError::Full { .. })),
        "after a restart, too"
    );
    spool.acknowledge(&spool.take(1).unwrap());
    assert_eq!(spool.refusal(), None);
    let large = spool.publish("d", &[0; 2_000], soon()).unwrap_err();
    assert_eq!(large, PublishError::Full { reason: "it holds as many bytes as are allowed" });
    spool.publish("d", &[0; 900], soon()).unwrap();
    assert_eq!(contents(&spool), ["b", "c", "d"]);
    let long = "x".repeat(256);
    assert_eq!(spool.publish(&long, b"", soon()), Err(PublishError::TooLarge));
}

#[test]
fn a_nearly_full_disk_means_refusal_until_there_is_room() {
    let options = SpoolOptions { disk_free_min_bytes: 1_000, ..OPTIONS };
    let storage = MemoryStorage::default();
    *storage.free.lock().unwrap() = Some(10);
    let (storage, spool) = in_memory(storage, options);
    let full = PublishError::Full { reason: "the disk is nearly full" };
    assert_eq!(spool.publish("a", b"", soon()), Err(full.clone()), "from the beginning");
    assert_eq!(spool.refusal(), Some(full));
    *storage.free.lock().unwrap() = None;
    let deadline = soon();
    while spool.publish("a", b"", soon()).is_err() {
        assert!(Instant::now() < deadline, "it never took anything again");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(contents(&spool), ["a"]);
}

#[test]
fn after_a_failed_sync_the_outcome_is_unknown_and_then_nothing_is_taken() {
    let mut unknown = 0;
    for nth in 1..12 {
        let (storage, spool) = in_memory(MemoryStorage::default(), OPTIONS);
        storage.fuse.arm(nth, std::io::ErrorKind::Other);
        let mut stored = Vec::new();
        for number in 0..20 {
            let id = number.to_string();
            match spool.publish(&id, b"body", soon()) {
                Ok(()) => stored.push(id),
                Err(PublishError::Unknown) => unknown += 1,
                Err(PublishError::Closed { reason }) => assert!(reason.contains("log failed"), "{reason}"),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(stored.len() < 20 && spool.closed().is_some());
        assert!(spool.close().is_err());
        for lucky in [false, true] {
            let (_, spool) = in_memory(storage.after_power_failure(|| lucky), OPTIONS);
            assert!(contents(&spool).starts_with(&stored), "call {nth}: {stored:?} were stored");
        }
    }
    assert!(unknown > 5, "{unknown} outcomes were unknown");
}

#[test]
fn a_panic_of_its_threads_is_a_failure_of_the_log_for_which_nobody_waits() {
    let (storage, spool) = in_memory(MemoryStorage::default(), OPTIONS);
    spool.publish("a", b"", soon()).unwrap();
    storage.fuse.arm_panic(1);
    let started = Instant::now();
    assert_eq!(spool.publish("b", b"", soon()), Err(PublishError::Unknown));
    let Err(PublishError::Closed { reason }) = spool.publish("c", b"", soon()) else {
        panic!("it was taken")
    };
    assert!(reason.contains("a thread panicked"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(10), "somebody waited: {:?}", started.elapsed());
    assert!(spool.close().is_err());
}

#[test]
fn a_deadline_ends_the_wait_and_leaves_the_outcome_open() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::default());
    // Nobody writes what is published: the disk hangs.
    let options = SpoolOptions { max_bytes: 1 << 30, ..OPTIONS };
    let spool = Spool::recover(storage, options, None).unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    assert_eq!(spool.publish("a", b"", deadline), Err(PublishError::Unknown));
    // Once as much waits as is allowed to, the next message is not even accepted.
    let body = vec![0; 600 << 10];
    let outcomes = [(); 3].map(|()| spool.publish("b", &body, Instant::now() + Duration::from_millis(20)));
    let slow = Err(PublishError::Full { reason: "the disk is too slow" });
    assert_eq!(outcomes, [Err(PublishError::Unknown), Err(PublishError::Unknown), slow]);
}

#[test]
fn a_folder_has_one_user() {
    let folder = Folder::new("locked");
    let spool = folder.open();
    let Err(second) = Spool::open(&folder.0, OPTIONS) else { panic!("it was opened twice") };
    assert!(matches!(second, Error::Locked { .. }), "{second}");
    drop(spool);
    folder.open();
}

#[test]
fn damage_and_the_folder_of_a_broker_are_refused_and_stay_as_they_are() {
    let folder = Folder::new("damage");
    let spool = folder.open();
    for number in 0..300 {
        spool.publish(&number.to_string(), &[7; 500], soon()).unwrap();
    }
    let all = contents(&spool);
    drop(spool);
    let names = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        names.filter(|path| file_number(path.file_name().unwrap().to_str().unwrap()).is_some()).collect();
    segments.sort();
    assert!(segments.len() > 2, "{segments:?}");
    let bytes = std::fs::read(&segments[1]).unwrap();
    let garbled = vec![0xaa; bytes.len()];
    std::fs::write(&segments[1], &garbled).unwrap();
    let Err(refused) = Spool::open(&folder.0, OPTIONS) else { panic!("damage was not noticed") };
    assert!(refused.to_string().contains("put the file back"), "{refused}");
    assert_eq!(std::fs::read(&segments[1]).unwrap(), garbled);
    std::fs::write(&segments[1], bytes).unwrap();
    assert_eq!(contents(&folder.open()), all);

    let (storage, spool) = in_memory(MemoryStorage::default(), OPTIONS);
    spool.close().unwrap();
    let settings = StoreSettings { segment_bytes: 64 << 10, max_queues: 9, disk_free_min_bytes: 0 };
    let shared: Arc<dyn Storage> = storage.clone();
    let store = Store::recover(settings, shared, Shutdown::new()).unwrap();
    let attributes = QueueAttributes { durable: true, ..QueueAttributes::default() };
    store.topology.declare_queue("orders", attributes, 1).unwrap();
    let refused = Spool::recover(storage, OPTIONS, None).map(drop).unwrap_err();
    assert!(refused.to_string().contains("a folder of its own"), "{refused}");
}
