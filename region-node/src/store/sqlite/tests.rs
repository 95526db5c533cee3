//! The stories on this engine, and what is this engine's own: the file, the lock, the commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::store::story::{at, on_every_story, resource_id, tenant, user, written};

const USER: ResourceKind = ResourceKind::User;

fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(&file(folder), SqliteOptions::default()).unwrap()
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("us").join("meridian.db")
}

fn subject() -> (Arc<dyn Store>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(open(&folder)), folder)
}

on_every_story!(subject());

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let access = tenant(&store).await;
    let created = store
        .create(&access, USER, resource_id(1), user("ann"), written(1))
        .await
        .unwrap();
    drop(store);
    let store = open(&folder);
    let read = store.get(&access, USER, created.id).await.unwrap();
    assert_eq!(read, Some(created));
}

/// What kill -9 leaves is the file and its log as they are at that moment.
#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let access = tenant(&store).await;
    for number in 0..50 {
        let content = user(&format!("u{number}"));
        store
            .create(&access, USER, resource_id(number), content, written(1))
            .await
            .unwrap();
    }
    let after = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(file(&after).parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        let name = |folder| format!("{}{suffix}", file(folder).display());
        std::fs::copy(name(&folder), name(&after)).unwrap();
    }
    let survivor = open(&after);
    assert_eq!(survivor.head(&access).await.unwrap().users, 50);
    let page = survivor
        .page(&access, USER, PageStart::Offset(0), 100)
        .await
        .unwrap();
    assert_eq!((page.total, page.resources.len()), (50, 50));
}

#[test]
fn a_second_opener_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let second = SqliteStore::open(&file(&folder), SqliteOptions::default());
    let error = second.err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(error.to_string().contains("one region-node at a time"));
    drop(store);
    open(&folder);
}

#[cfg(unix)]
#[test]
fn the_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let _store = open(&folder);
    for entry in std::fs::read_dir(file(&folder).parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[test]
fn every_connection_has_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(&folder);
    for role in [Role::Writer, Role::Reader, Role::Checkpointer] {
        let connection = connection::open(&file(&folder), role, 1024).unwrap();
        let pragma = |name: &str| -> String {
            connection
                .pragma_query_value(None, name, |row| {
                    row.get_ref(0).map(|value| match value {
                        rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                        other => other.as_str().unwrap().to_owned(),
                    })
                })
                .unwrap()
        };
        assert_eq!(pragma("journal_mode"), "wal");
        assert_eq!(pragma("synchronous"), "2");
        assert_eq!(pragma("page_size"), "4096");
        assert_eq!(pragma("wal_autocheckpoint"), "0");
        assert_eq!(
            pragma("query_only"),
            if role == Role::Reader { "1" } else { "0" }
        );
        assert!(
            connection
                .db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG)
                .unwrap()
        );
    }
}

/// Holds the writer in a job until the sender is used, so that what is sent meanwhile shares one
/// batch.
fn hold(store: &SqliteStore) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, released) = channel();
    let (begun, beginning) = channel();
    let writer = Arc::clone(&store.writer);
    let held = tokio::spawn(async move {
        writer
            .write(move |_connection| {
                begun.send(()).unwrap();
                released.recv().unwrap();
                Ok(())
            })
            .await
            .unwrap();
    });
    tokio::task::block_in_place(|| beginning.recv().unwrap());
    (release, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_takes_back_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&folder));
    let access = tenant(&*store).await;
    let (release, held) = hold(&store);
    let names = ["ann", "bob", "ann", "eve"];
    let mut writes = Vec::new();
    for (number, name) in (0..).zip(names) {
        let (store, access) = (Arc::clone(&store), access.clone());
        writes.push(Box::pin(async move {
            store
                .create(&access, USER, resource_id(number), user(name), written(1))
                .await
        }));
    }
    // Polled in order before the writer goes on: one batch, in this order.
    let mut writes = futures_util::future::join_all(writes);
    assert!(futures_util::poll!(&mut writes).is_pending());
    release.send(()).unwrap();
    let answers = writes.await;
    held.await.unwrap();
    assert!(matches!(
        answers[2],
        Err(StoreError::Taken {
            attribute: "userName"
        })
    ));
    let versions: Vec<i64> = answers
        .iter()
        .flatten()
        .map(|created| created.version.0)
        .collect();
    assert_eq!(versions, [1, 2, 3]);
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_write_that_was_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&folder));
    let access = tenant(&*store).await;
    let (release, held) = hold(&store);
    {
        let mut write = store.create(&access, USER, resource_id(1), user("ann"), written(1));
        assert!(futures_util::poll!(&mut write).is_pending());
    }
    release.send(()).unwrap();
    held.await.unwrap();
    store.check().await.unwrap();
    assert_eq!(store.head(&access).await.unwrap().seq, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions {
        write_queue: 1,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&file(&folder), options).unwrap();
    let (release, held) = hold(&store);
    let mut waiting = Box::pin(store.check());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert!(matches!(
        store.check().await,
        Err(StoreError::Unavailable(_))
    ));
    release.send(()).unwrap();
    waiting.await.unwrap();
    held.await.unwrap();
}

#[tokio::test]
async fn a_panic_in_a_write_is_its_own_affair() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let access = tenant(&store).await;
    let moved = access.clone();
    let panicked: Result<(), _> = store
        .writer
        .write(move |connection| {
            resources::create(
                connection,
                &moved,
                USER,
                resource_id(1),
                user("a"),
                written(1),
            )?;
            panic!("a bug");
        })
        .await;
    assert!(matches!(panicked, Err(StoreError::Corrupt(_))));
    assert_eq!(store.head(&access).await.unwrap().seq, 0);
    store
        .create(&access, USER, resource_id(1), user("a"), written(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let access = tenant(&store).await;
    // SQLite's own limit on the file gives the error of a full disk.
    store
        .writer
        .write(|connection| {
            connection.pragma_update(None, "max_page_count", 1)?;
            Ok(())
        })
        .await
        .unwrap();
    let mut content = user("big");
    content.document = "x".repeat(100_000);
    let full = store
        .create(&access, USER, resource_id(1), content.clone(), written(1))
        .await;
    assert!(matches!(full, Err(StoreError::Unavailable(_))), "{full:?}");
    assert_eq!(store.head(&access).await.unwrap().seq, 0);
    store
        .writer
        .write(|connection| {
            connection.pragma_update(None, "max_page_count", 1_000_000)?;
            Ok(())
        })
        .await
        .unwrap();
    store
        .create(&access, USER, resource_id(1), content, written(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lost_transaction_is_acknowledged_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let access = tenant(&store).await;
    let moved = access.clone();
    let lost = store
        .writer
        .write(move |connection| {
            let created = resources::create(
                connection,
                &moved,
                USER,
                resource_id(1),
                user("a"),
                written(1),
            )?;
            // As SQLite does by itself after some I/O errors.
            execute(connection, "ROLLBACK", [])?;
            Ok(created)
        })
        .await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(store.head(&access).await.unwrap().seq, 0);
    store.check().await.unwrap();
}

#[tokio::test]
async fn an_erasure_that_was_cut_short_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let access = tenant(&store).await;
    store
        .create(&access, USER, resource_id(1), user("ann"), written(1))
        .await
        .unwrap();
    let moved = access.tenant.clone();
    store
        .writer
        .write(move |connection| tenants::begin_erasure(connection, &moved))
        .await
        .unwrap();
    assert_eq!(store.get_tenant(&access.tenant).await.unwrap(), None);
    assert!(store.list_tenants().await.unwrap().is_empty());
    drop(store);

    let store = open(&folder);
    let rows = || {
        store.writer.write(|connection| {
            Ok(connection.query_row(
                "SELECT (SELECT count(*) FROM resource) + (SELECT count(*) FROM tenant)",
                [],
                |row| row.get::<_, i64>(0),
            )?)
        })
    };
    while rows().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
}

/// How many rows of any table belong to no tenant that is served.
fn stray_rows(connection: &Connection) -> i64 {
    let served = "SELECT tenant FROM tenant WHERE state IN ('active', 'suspended')";
    let of_tenant = [
        "tenant",
        "api_token",
        "access_token",
        "resource",
        "attribute_index",
        "change",
        "idempotency",
        "activity",
        "sync_cycle",
        "activity_hour",
        "finding",
    ]
    .map(|table| format!("SELECT count(*) FROM {table} WHERE tenant NOT IN ({served})"));
    let by_position = [
        ("resource", "position"),
        ("member", "group_position"),
        ("member", "member_position"),
    ]
    .map(|(table, column)| {
        format!("SELECT count(*) FROM {table} WHERE {column} >> 41 NOT IN ({served})")
    });
    of_tenant
        .iter()
        .chain(&by_position)
        .map(|sql| {
            connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .unwrap()
        })
        .sum()
}

async fn backup_of(store: &SqliteStore) -> Vec<BackupRow> {
    let (sender, mut rows) = mpsc::channel(10_000);
    store.backup(sender).await.unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.recv().await {
        all.push(row);
    }
    all
}

/// What kill -9 leaves in the middle of a restore: the region as it was, and rows that go with
/// the next start.
#[tokio::test]
async fn a_restore_that_was_killed_leaves_the_region_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&folder));
    let access = tenant(&*store).await;
    let (token, digest) = crate::store::story::new_token(None);
    store
        .create_token(&access.tenant, &token, None, at(0))
        .await
        .unwrap();
    for number in 0..600 {
        let content = user(&format!("u{number}"));
        store
            .create(&access, USER, resource_id(number), content, written(1))
            .await
            .unwrap();
    }
    let rows = backup_of(&store).await;
    let (sender, received) = mpsc::channel(1);
    let writing = Arc::clone(&store);
    let how = RestoreHow {
        replace: true,
        revoke_tokens: false,
        version_jump: 10,
        now: at(9),
    };
    let restoring = tokio::spawn(async move { writing.restore(received, how).await });
    for row in rows {
        sender.send(RestoreStep::Row(row)).await.unwrap();
    }
    let outside = Connection::open(file(&folder)).unwrap();
    // Two steps are written, and the third waits for more rows: the files are at rest.
    while stray_rows(&outside) < 1600 {
        tokio::task::yield_now().await;
    }

    let after = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(file(&after).parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        let name = |folder| format!("{}{suffix}", file(folder).display());
        std::fs::copy(name(&folder), name(&after)).unwrap();
    }
    let survivor = open(&after);
    assert_eq!(survivor.head(&access).await.unwrap().users, 600);
    assert!(survivor.find_token(&digest).await.unwrap().is_some());
    assert_eq!(survivor.list_tenants().await.unwrap().len(), 1);
    let survivors = Connection::open(file(&after)).unwrap();
    while stray_rows(&survivors) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(survivor.head(&access).await.unwrap().users, 600);

    drop(sender);
    assert!(restoring.await.unwrap().is_err());
    assert_eq!(stray_rows(&outside), 0);
}

/// Not only the rows are gone: nothing of them is left in the file or in its log.
#[tokio::test]
async fn what_was_erased_is_not_in_the_files_any_more() {
    const CANARY: &str = "canary-7d1f";
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let (gone, stays) = (tenant(&store).await, tenant(&store).await);
    for number in 0..300 {
        let mut content = user(&format!("{CANARY}-{number}"));
        // Long enough for overflow pages, which are given free as a whole.
        content.document = format!(r#"{{"x":"{}"}}"#, CANARY.repeat(number * 5));
        content
            .keys
            .attributes
            .push(("emails.value".into(), format!("{CANARY}-{number}")));
        let id = resource_id(u32::try_from(number).unwrap());
        store
            .create(&gone, USER, id, content, written(1))
            .await
            .unwrap();
        let other = user(&format!("stays-{number}"));
        store
            .create(&stays, USER, id, other, written(1))
            .await
            .unwrap();
    }
    let found = || -> usize {
        ["", "-wal"]
            .iter()
            .map(|suffix| std::fs::read(format!("{}{suffix}", file(&folder).display())).unwrap())
            .map(|bytes| {
                let needle = CANARY.as_bytes();
                bytes
                    .windows(needle.len())
                    .filter(|bytes| *bytes == needle)
                    .count()
            })
            .sum()
    };
    assert!(found() > 1000, "the scan finds what is there");
    let erased = store.delete_tenant(&gone.tenant).await.unwrap();
    assert_eq!(
        (erased.users, erased.index_rows, erased.left),
        (300, 300, 0)
    );
    assert_eq!(found(), 0);
    assert_eq!(stray_rows(&Connection::open(file(&folder)).unwrap()), 0);
    assert_eq!(store.head(&stays).await.unwrap().users, 300);
}

/// Every look-up must be an index look-up, whatever the planner thinks of an empty table.
#[test]
fn look_ups_are_planned_on_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(&folder);
    let connection = Connection::open(file(&folder)).unwrap();
    let mut plans = vec![
        (
            "SELECT position FROM resource WHERE tenant = ?1 AND id = ?2",
            "COVERING INDEX resource_id (tenant=? AND id=?)",
        ),
        (
            "SELECT document FROM resource r WHERE r.position > ?1 AND r.position <= ?2
              ORDER BY r.position LIMIT ?3 OFFSET ?4",
            "INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        ),
    ];
    plans.extend(candidates::look_ups());
    for (sql, expected) in plans {
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let count = statement.parameter_count();
        let plan: Vec<String> = statement
            .query_map(rusqlite::params_from_iter(vec![1; count]), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let plan = plan.join("; ");
        assert!(plan.contains(expected), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[tokio::test]
async fn a_look_up_reads_no_more_of_an_index_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let access = tenant(&store).await;
    for number in 0..20 {
        let content = user(&format!("u{number}"));
        store
            .create(&access, USER, resource_id(number), content, written(1))
            .await
            .unwrap();
    }
    let connection = Connection::open(file(&folder)).unwrap();
    let head = tenants::held(&connection, &access).unwrap();
    let contains = |part: &str| {
        let test = crate::store::TextTest::Contains(part.to_owned());
        Narrowing::Text(crate::store::TextIndex::UserName, test)
    };
    let asks = Arc::new(());
    let asker = Arc::downgrade(&asks);
    let found = |narrowing: &Narrowing, most_rows: u32| {
        let plan = candidates::plan(USER, narrowing);
        let found = plan.run(&connection, &head, USER, None, 100, most_rows, &asker);
        found.map(|found| found.resources.len())
    };
    let one = contains("u1");
    assert_eq!(found(&one, 20).unwrap(), 11);
    assert!(matches!(found(&one, 19), Err(StoreError::OverBudget)));
    // Several look-ups share what one call may read.
    let two = Narrowing::AnyOf(vec![contains("u1"), contains("u2")]);
    assert_eq!(found(&two, 40).unwrap(), 12);
    assert!(matches!(found(&two, 39), Err(StoreError::OverBudget)));
    // Nobody waits any longer.
    assert_eq!(found(&one, 10_001).unwrap(), 11);
    drop(asks);
    assert!(matches!(
        found(&one, 10_001),
        Err(StoreError::Unavailable(_))
    ));
}
