//! Acknowledged writes survive a power cut, wherever it falls. `MERIDIAN_TEST_CUTS` asks for the
//! number of the promise.
//!
//! One run of the real program is recorded, and then the disk is built as the cut may leave it,
//! over and over. The controls show that a loss would be seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::support::disk::{Dice, Disk, Record, Replay};
use crate::support::history::{History, Load, Present};
use crate::support::{Store, World, scale};

const CLIENTS: usize = 8;
/// So many of the cuts are not only looked at as a file: the program is started on it.
const STARTED_EVERY: usize = 50;

struct Recorded {
    world: World,
    disk: Arc<Disk>,
    load: Load,
    /// How many records are older than the load.
    before: usize,
}

impl Recorded {
    async fn begin() -> Self {
        let disk = Arc::new(Disk::new());
        let world = World::on(Store::Disk(disk.clone()));
        let load = Load::on(world.tenant("acme", "us").await, Some(disk.clone())).await;
        let before = disk.records().len();
        Self {
            world,
            disk,
            load,
            before,
        }
    }

    /// Lets clients work until this many changes are acknowledged.
    async fn some_load(&mut self, round: usize, changes: usize) {
        let clients = self.load.start(round, CLIENTS);
        self.load.told.wait_for(changes).await;
        self.load.told.enough(clients).await;
    }

    fn restart(&mut self) {
        self.world.restart();
        self.load = self.load.reconnected();
    }

    /// Waits until what was committed has been moved into the file, so that the log begins anew.
    async fn checkpointed(&self) {
        let syncs = || {
            let records = self.disk.records();
            synced(&records, "meridian.db")
        };
        let (before, told) = (syncs(), &self.load.told);
        told.wait_until(|| syncs() > before).await;
    }
}

/// How often a file was synced.
fn synced(records: &[Record], wanted: &str) -> usize {
    let mut files: BTreeMap<u32, &str> = BTreeMap::new();
    let mut count = 0;
    for record in records {
        match record {
            Record::Opened { file, name } => {
                files.insert(*file, name);
            }
            Record::SyncDone { file, .. } if files.get(file) == Some(&wanted) => count += 1,
            _ => {}
        }
    }
    count
}

/// Where the power goes: anywhere, and often just after somebody was told that something is done.
fn points(records: &[Record], before: usize, count: usize, dice: &mut Dice) -> Vec<usize> {
    let told: Vec<usize> = (before..records.len())
        .filter(|at| matches!(&records[*at], Record::Note(note) if note.ends_with("has it")))
        .collect();
    let mut points: Vec<usize> = (0..count)
        .map(|n| match n % 2 {
            0 => told[dice.below(told.len())] + 1,
            _ => before + 1 + dice.below(records.len() - before),
        })
        .collect();
    points.sort_unstable();
    points
}

fn write_files(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
}

/// Cuts the power at many points, and calls `look` with what is there then: the history up to
/// the point, the files, and how the cut was decided.
async fn cut_at<F>(
    recorded: &Recorded,
    count: usize,
    mut look: impl FnMut(History, BTreeMap<String, Vec<u8>>, String) -> F,
) where
    F: Future<Output = ()>,
{
    let records = recorded.disk.records();
    let mut dice = Dice::new(count as u64);
    let (mut replay, mut history, mut at) = (Replay::new(), History::default(), 0);
    for point in points(&records, recorded.before, count, &mut dice) {
        while at < point {
            if let Record::Note(note) = &records[at] {
                history.read_note(note);
            }
            replay.step(&records[at]);
            at += 1;
        }
        let (files, story) = replay.cut(&mut dice);
        let story = format!("cut at {point} of {}, {story}", records.len());
        look(history.clone(), files, story).await;
    }
}

/// What is wrong with the files after a cut.
fn wrong_with(
    recorded: &Recorded,
    history: &History,
    files: &BTreeMap<String, Vec<u8>>,
) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path(), files);
    let present = Present::of_file(&folder.path().join("meridian.db"), &recorded.load.tenant.id);
    history.check(&present)
}

async fn nothing_is_lost(recorded: &Recorded) {
    let cuts = scale("MERIDIAN_TEST_CUTS", 60);
    let mut n = 0;
    cut_at(recorded, cuts, |history, files, story| {
        n += 1;
        let start = n % STARTED_EVERY == 0;
        async move {
            let wrong = wrong_with(recorded, &history, &files);
            if !wrong.is_empty() {
                let kept = tempfile::tempdir().unwrap().keep();
                write_files(&kept, &files);
                panic!("{story}; see {}:\n{}", kept.display(), wrong.join("\n"));
            }
            if start {
                let world = recorded.world.with_files(&files);
                let tenant = recorded.load.tenant.in_world(&world);
                history.check_service(&tenant, &recorded.load.group).await;
                tenant
                    .create_user(serde_json::json!({ "userName": "afterwards" }))
                    .await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_power_cut() {
    let mut recorded = Recorded::begin().await;
    recorded.some_load(0, 100).await;
    recorded.checkpointed().await;
    recorded.some_load(1, 100).await;
    recorded.world.kill();
    recorded.restart();
    recorded.some_load(2, 100).await;
    recorded.world.stop();
    recorded.restart();
    recorded.some_load(3, 100).await;
    recorded.world.kill();
    let records = recorded.disk.records();
    assert!(synced(&records, "meridian.db") > 1);
    assert!(synced(&records, "meridian.db-wal") > 50);
    nothing_is_lost(&recorded).await;
}

/// The control: a disk that does not do what it says loses something, and it is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_pretends_to_sync_is_found_out() {
    let mut recorded = Recorded::begin().await;
    recorded.some_load(0, 50).await;
    recorded.disk.pretends_to_sync();
    recorded.some_load(1, 100).await;
    recorded.world.kill();
    recorded
        .load
        .told
        .history()
        .check_stored(&recorded.world, &recorded.load.tenant.id);
    let mut lost = 0;
    cut_at(&recorded, 20, |history, files, _story| {
        lost += usize::from(!wrong_with(&recorded, &history, &files).is_empty());
        std::future::ready(())
    })
    .await;
    assert!(lost > 0, "a loss would not be seen");
}

/// When a sync fails, the system may drop what was to be synced and call the pages clean. Who
/// reads them back and builds on them loses what is built.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_built_on_what_a_failed_sync_left() {
    let mut recorded = Recorded::begin().await;
    for round in 0..4 {
        recorded.some_load(2 * round, 20).await;
        let clients = recorded.load.start(2 * round + 1, CLIENTS);
        let told = recorded.load.told.clone();
        told.wait_for(10).await;
        let failed = recorded.disk.failed();
        recorded.disk.syncs_fail();
        told.wait_until(|| recorded.disk.failed() > failed + 2)
            .await;
        if round % 2 == 0 {
            // The same process goes on.
            recorded.disk.works();
            told.wait_for(20).await;
            told.enough(clients).await;
        } else {
            // Another one finds what is in the system's memory.
            recorded.world.kill();
            recorded.disk.works();
            told.ended(clients).await;
            recorded.restart();
        }
    }
    recorded.some_load(9, 60).await;
    recorded.world.kill();
    assert!(recorded.load.told.refused() > 0);
    nothing_is_lost(&recorded).await;
}
