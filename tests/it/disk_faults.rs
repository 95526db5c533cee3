//! A disk that is full, read-only or broken: writes are told to come again, reads go on, and when
//! it works again so does the node, by itself. Nothing that was acknowledged is lost, and nothing
//! is there by half.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use crate::support::disk::{Disk, Failure};
use crate::support::history::Load;
use crate::support::{Answer, Store, World, path, plain_client};

const CLIENTS: usize = 8;
/// Refused writes that are enough to believe that all are.
const ENOUGH: usize = 40;

/// Readiness and life, as a load balancer asks for them.
async fn health(world: &World) -> [u16; 2] {
    let management = world.ready["regions"]["us"]["management"].as_str().unwrap();
    let ask = |what| Answer::of(plain_client().get(format!("{management}/{what}")));
    [ask("readyz").await.status, ask("livez").await.status]
}

async fn a_disk_fails(fault: impl Fn(&Disk)) {
    let disk = Arc::new(Disk::new());
    let mut world = World::on(Store::Disk(disk.clone()));
    let load = Load::on(world.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    assert_eq!(health(&world).await, [200, 200]);
    // Twice: the second time finds what the first has left.
    for round in 0..2 {
        let clients = load.start(round, CLIENTS);
        told.wait_for(40).await;
        let (failed, refused) = (disk.failed(), told.refused());
        fault(&disk);
        told.store_fails();
        told.wait_until(|| told.refused() > refused + ENOUGH).await;
        assert!(disk.failed() > failed);

        let acme = &load.tenant;
        for _ in 0..20 {
            let list = acme.get("/Users?count=3&filter=userName%20pr").await;
            assert_eq!(list.status, 200, "{list:?}");
            let user = list.json()["Resources"][0].clone();
            let read = acme.get(&path(&user)).await;
            // It may have been deleted just before the fault, not since.
            assert_eq!(read.status, 200, "{read:?}");
            assert_eq!(acme.get(&load.group).await.status, 200);
        }
        assert_eq!(health(&world).await, [503, 200]);
        let more = told.refused();
        told.wait_until(|| told.refused() > more + ENOUGH).await;

        told.store_works();
        disk.works();
        told.wait_for(40).await;
        assert_eq!(health(&world).await, [200, 200]);
        told.enough(clients).await;
        told.history().check_service(acme, &load.group).await;
    }
    world.kill();
    told.history().check_stored(&world, &load.tenant.id);
    world.restart();
    let acme = load.tenant.reconnected();
    told.history().check_service(&acme, &load.group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_no_writes_until_there_is_room() {
    a_disk_fails(|disk| disk.writes_fail(Failure::Full)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_takes_no_writes_until_it_is_writable() {
    a_disk_fails(|disk| disk.writes_fail(Failure::ReadOnly)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_to_write_is_tried_again() {
    a_disk_fails(|disk| disk.writes_fail(Failure::Broken)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_to_sync_is_tried_again() {
    a_disk_fails(Disk::syncs_fail).await;
}

/// Nothing can be written to the log, and while that is so the store's disk fills up as well:
/// nobody may end over what he cannot say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("stderr.log")).unwrap();
    let disk = Arc::new(Disk::new());
    let world = World::in_folder(folder, Store::Disk(disk.clone()));
    let load = Load::on(world.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    told.wait_for(40).await;
    disk.writes_fail(Failure::Full);
    told.wait_until(|| told.refused() > ENOUGH).await;
    disk.works();
    told.wait_for(40).await;
    told.enough(clients).await;
    told.history()
        .check_service(&load.tenant, &load.group)
        .await;
}

/// A small file system of its own, in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self, String> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "meridian-test"])
            .arg(at)
            .output()
            .map_err(|error| error.to_string())?;
        if mount.status.success() {
            Ok(Self(at.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).into_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: at the end of a test that failed the process may still hold files.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_mebibytes_can_fill_up_and_be_freed() {
    let folder = tempfile::tempdir().unwrap();
    let region = folder.path().join("us");
    fs::create_dir(&region).unwrap();
    let _small = match SmallDisk::mount(&region) {
        Ok(small) => small,
        Err(why) => {
            println!("left out: a file system cannot be mounted here: {why}");
            return;
        }
    };
    let filler = region.join("filler");
    fs::write(&filler, vec![1; 3 << 20]).unwrap();
    let mut world = World::in_folder(folder, Store::File);
    let load = Load::on(world.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    // Large users fill it, small ones tell what becomes of them.
    let clients = load.start(0, CLIENTS);
    let filling = world.tenant("filling", "us").await;
    let large = "A".repeat(60_000);
    let mut n = 0;
    while told.refused() < ENOUGH {
        let name = format!("large{n}");
        let user = json!({ "userName": name, "x509Certificates": [{ "value": large }] });
        let answer = filling.post("/Users", &user).await;
        if answer.status != 201 {
            answer.scim_error(503, None);
        }
        told.nothing_wrong();
        n += 1;
        assert!(n < 10_000, "it never fills up");
    }
    assert_eq!(load.tenant.get(&load.group).await.status, 200);

    fs::remove_file(filler).unwrap();
    told.wait_for(60).await;
    assert_eq!(health(&world).await, [200, 200]);
    told.enough(clients).await;
    told.history()
        .check_service(&load.tenant, &load.group)
        .await;
    world.kill();
    told.history().check_stored(&world, &load.tenant.id);
}
