//! [`Disk`]: a disk of one region that fails when it is told to and remembers everything, and
//! what would be on it after a power cut.
//!
//! The program under test is started with `tests/fault/disk.c` in front of the C library. What
//! it does to the files of the region goes into a log, in order; the test puts its own notes
//! between. The log can then be replayed up to any point, and the disk be built as it may look
//! when the power goes there: all that was synced, and any part of what was not.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Why the disk fails, by the system's own numbers.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    Broken = 5,
    Full = 28,
    ReadOnly = 30,
}

/// Where the shared bytes of `struct control` are.
const WRITES: u64 = 0;
const SYNCS: u64 = 1;
const PRETEND: u64 = 2;
const KILL: u64 = 3;
const FAILED: u64 = 8;
const CONTROL_BYTES: usize = 64;

/// The disk.
pub struct Disk {
    folder: TempDir,
    control: File,
    log: File,
}

impl Disk {
    /// A disk that works. Compiles the library that stands in for it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fault/disk.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o"])
            .arg(folder.path().join("disk.so"))
            .arg(source)
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{compiled:?}");
        let control_path = folder.path().join("control");
        fs::write(&control_path, [0; CONTROL_BYTES]).unwrap();
        let mut options = File::options();
        let control = options.read(true).write(true).open(control_path).unwrap();
        let mut options = File::options();
        let log = options.create(true).append(true);
        let log = log.open(folder.path().join("log")).unwrap();
        Self {
            folder,
            control,
            log,
        }
    }

    /// What makes a program use the disk for the files of a folder.
    pub fn environment(&self, region_folder: &Path) -> [(&'static str, OsString); 4] {
        let own = |name: &str| self.folder.path().join(name).into_os_string();
        [
            ("LD_PRELOAD", own("disk.so")),
            (
                "MERIDIAN_FAULT_FOLDER",
                region_folder.as_os_str().to_owned(),
            ),
            ("MERIDIAN_FAULT_CONTROL", own("control")),
            ("MERIDIAN_FAULT_LOG", own("log")),
        ]
    }

    fn set(&self, at: u64, value: u8) {
        self.control.write_all_at(&[value], at).unwrap();
    }

    /// From now on every change of a file fails.
    pub fn writes_fail(&self, why: Failure) {
        self.set(WRITES, why as u8);
    }

    /// From now on every sync fails.
    pub fn syncs_fail(&self) {
        self.set(SYNCS, Failure::Broken as u8);
    }

    /// From now on syncs do nothing and say that all is well.
    pub fn pretends_to_sync(&self) {
        self.set(PRETEND, 1);
    }

    /// The disk works again.
    pub fn works(&self) {
        for switch in [WRITES, SYNCS, PRETEND, KILL] {
            self.set(switch, 0);
        }
    }

    /// The process ends by itself, as by `kill -9`, when the next commit is on the disk and
    /// before anybody is told.
    pub fn kills_at_next_commit(&self) {
        self.set(KILL, 1);
    }

    /// How many calls were made to fail.
    pub fn failed(&self) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, FAILED).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// Puts a line of the test's own between what the disk has done and what it will do.
    pub fn note(&self, text: &str) {
        let mut record = Vec::with_capacity(HEAD + text.len());
        record.extend(NOTE.to_le_bytes());
        record.extend(0_u32.to_le_bytes());
        record.extend(0_u64.to_le_bytes());
        record.extend((text.len() as u64).to_le_bytes());
        record.extend(text.as_bytes());
        // One call, so that nothing comes between.
        let written = (&self.log).write(&record).unwrap();
        assert_eq!(written, record.len());
    }

    /// Everything up to now.
    pub fn records(&self) -> Vec<Record> {
        Record::all(&fs::read(self.log_path()).unwrap())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

const HEAD: usize = 24;
const NOTE: u32 = 8;

/// What happened.
#[derive(Clone, Debug)]
pub enum Record {
    Opened {
        file: u32,
        name: String,
    },
    Wrote {
        file: u32,
        offset: usize,
        data: Vec<u8>,
    },
    Truncated {
        file: u32,
        length: usize,
    },
    SyncBegan {
        file: u32,
        sync: u64,
    },
    SyncDone {
        file: u32,
        sync: u64,
    },
    SyncFailed {
        file: u32,
        sync: u64,
    },
    Unlinked {
        name: String,
    },
    Renamed {
        from: String,
        to: String,
    },
    Note(String),
}

impl Record {
    fn all(mut log: &[u8]) -> Vec<Self> {
        let mut records = Vec::new();
        while let Some((head, rest)) = log.split_at_checked(HEAD) {
            let four = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
            let eight = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
            let (kind, file, offset) = (four(0), four(4), eight(8));
            let length = usize::try_from(eight(16)).unwrap();
            let (data, rest) = rest.split_at(length);
            log = rest;
            let text = || String::from_utf8(data.to_vec()).unwrap();
            let at = usize::try_from(offset).unwrap();
            records.push(match kind {
                1 => Self::Opened { file, name: text() },
                2 => Self::Wrote {
                    file,
                    offset: at,
                    data: data.to_vec(),
                },
                3 => Self::Truncated { file, length: at },
                4 => Self::SyncBegan { file, sync: offset },
                5 => Self::SyncDone { file, sync: offset },
                6 => Self::SyncFailed { file, sync: offset },
                7 => Self::Unlinked { name: text() },
                9 => {
                    let names = text();
                    let (from, to) = names.split_once('/').unwrap();
                    let (from, to) = (from.to_owned(), to.to_owned());
                    Self::Renamed { from, to }
                }
                NOTE => Self::Note(text()),
                other => panic!("a record of kind {other}"),
            });
        }
        assert!(log.is_empty(), "half a record");
        records
    }
}

/// Numbers that look random and are the same every time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        // xorshift64*, by S. Vigna.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from((self.next() >> 11) % limit.max(1) as u64).unwrap()
    }

    /// Whether something with a chance of `percent` happens.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A change of a file's content.
#[derive(Clone)]
enum Edit {
    Write { offset: usize, data: Vec<u8> },
    Truncate(usize),
}

impl Edit {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => put(content, *offset, data),
            Self::Truncate(length) => content.resize(*length, 0),
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

/// What the disk knows of one file, or of the names in the folder (edits of type `E`): what is
/// safe, and what is only asked for, in order.
struct Waiting<E> {
    edits: Vec<E>,
    /// How many edits are not in the list any more.
    settled: usize,
    /// Where the list ended when a sync began.
    syncs: HashMap<u64, usize>,
}

impl<E> Waiting<E> {
    fn new() -> Self {
        Self {
            edits: Vec::new(),
            settled: 0,
            syncs: HashMap::new(),
        }
    }

    fn begin(&mut self, sync: u64) {
        self.syncs.insert(sync, self.settled + self.edits.len());
    }

    /// Takes out what a sync was about.
    fn end(&mut self, sync: u64) -> Vec<E> {
        let until = self.syncs.remove(&sync).unwrap();
        let count = until.saturating_sub(self.settled);
        self.settled += count;
        self.edits.drain(..count).collect()
    }
}

struct Inode {
    safe: Vec<u8>,
    waiting: Waiting<Edit>,
    /// What a failed sync was about. The system may have thrown it away or not, and later syncs
    /// say nothing about it.
    doubtful: Vec<Edit>,
}

impl Inode {
    fn synced(&mut self, sync: u64) {
        for edit in self.waiting.end(sync) {
            edit.apply(&mut self.safe);
            // What is safe now lies over what is in doubt.
            for doubtful in &mut self.doubtful {
                overlay(doubtful, &edit);
            }
        }
    }
}

/// Makes an older edit agree with a newer one where they meet.
fn overlay(older: &mut Edit, newer: &Edit) {
    let Edit::Write { offset, data } = older else {
        return;
    };
    match newer {
        Edit::Truncate(length) => data.truncate(length.saturating_sub(*offset)),
        Edit::Write {
            offset: at,
            data: new,
        } => {
            let from = (*offset).max(*at);
            let until = (*offset + data.len()).min(at + new.len());
            if from < until {
                data[from - *offset..until - *offset].copy_from_slice(&new[from - at..until - at]);
            }
        }
    }
}

#[derive(Clone)]
enum Naming {
    Add(String, usize),
    Remove(String),
    /// From which name to which, whatever had that one: all of it or nothing.
    Move(String, String, usize),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, inode) => names.insert(name.clone(), *inode),
            Self::Remove(name) => names.remove(name),
            Self::Move(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode)
            }
        };
    }
}

/// The folder as the disk has it, moved on record by record.
pub struct Replay {
    inodes: Vec<Inode>,
    /// Which file the running process means.
    handles: HashMap<u32, usize>,
    /// Names as programs see them, and as they are safe.
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    namings: Waiting<Naming>,
}

/// The number of the folder itself in the records.
const FOLDER: u32 = 1;
const SECTOR: usize = 512;

/// Which part of what was not synced is on the disk after the cut.
#[derive(Clone, Copy, Debug)]
enum Luck {
    Nothing,
    Everything,
    /// The first part, and a piece of the next write.
    Prefix,
    /// Each write with this chance in percent; of those, each sector with that chance; and what
    /// did not get there whole may be anything at all.
    Some {
        writes: usize,
        sectors: usize,
        garbage: bool,
    },
}

impl Replay {
    pub fn new() -> Self {
        Self {
            inodes: Vec::new(),
            handles: HashMap::new(),
            names: BTreeMap::new(),
            safe_names: BTreeMap::new(),
            namings: Waiting::new(),
        }
    }

    fn edit(&mut self, file: u32, edit: Edit) {
        let inode = &mut self.inodes[self.handles[&file]];
        inode.waiting.edits.push(edit);
    }

    /// Takes in the next record.
    pub fn step(&mut self, record: &Record) {
        match record {
            Record::Opened { file, name } => {
                let inode = self.names.get(name).copied().unwrap_or_else(|| {
                    self.inodes.push(Inode {
                        safe: Vec::new(),
                        waiting: Waiting::new(),
                        doubtful: Vec::new(),
                    });
                    let inode = self.inodes.len() - 1;
                    self.namings.edits.push(Naming::Add(name.clone(), inode));
                    inode
                });
                self.names.insert(name.clone(), inode);
                self.handles.insert(*file, inode);
            }
            Record::Unlinked { name } => {
                self.names.remove(name);
                self.namings.edits.push(Naming::Remove(name.clone()));
            }
            Record::Renamed { from, to } => {
                let inode = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), inode);
                let naming = Naming::Move(from.clone(), to.clone(), inode);
                self.namings.edits.push(naming);
            }
            Record::Wrote { file, offset, data } => {
                let data = data.clone();
                let offset = *offset;
                self.edit(*file, Edit::Write { offset, data });
            }
            Record::Truncated { file, length } => self.edit(*file, Edit::Truncate(*length)),
            Record::SyncBegan { file: FOLDER, sync } => self.namings.begin(*sync),
            Record::SyncDone { file: FOLDER, sync } => {
                for naming in self.namings.end(*sync) {
                    naming.apply(&mut self.safe_names);
                }
            }
            // Names are journalled: a failed sync leaves them for the next one.
            Record::SyncFailed { file: FOLDER, .. } | Record::Note(_) => {}
            Record::SyncBegan { file, sync } => {
                self.inodes[self.handles[file]].waiting.begin(*sync);
            }
            Record::SyncDone { file, sync } => self.inodes[self.handles[file]].synced(*sync),
            Record::SyncFailed { file, sync } => {
                let inode = &mut self.inodes[self.handles[file]];
                let lost = inode.waiting.end(*sync);
                inode.doubtful.extend(lost);
            }
        }
    }

    /// The files of the folder as they may be found after the power goes now, and how that was
    /// decided.
    pub fn cut(&self, dice: &mut Dice) -> (BTreeMap<String, Vec<u8>>, String) {
        let luck = match dice.below(8) {
            0 => Luck::Nothing,
            1 => Luck::Everything,
            2 | 3 => Luck::Prefix,
            _ => Luck::Some {
                writes: [10, 50, 90][dice.below(3)],
                sectors: [30, 80, 100][dice.below(3)],
                garbage: dice.percent(30),
            },
        };
        let mut names = self.safe_names.clone();
        for naming in &self.namings.edits {
            if kept(luck, dice) {
                naming.apply(&mut names);
            }
        }
        let files = names
            .iter()
            .map(|(name, inode)| (name.clone(), self.inodes[*inode].cut(luck, dice)));
        let files: BTreeMap<_, _> = files.collect();
        let sizes: Vec<_> = files.iter().map(|(n, c)| (n, c.len())).collect();
        let story = format!("{luck:?}: {sizes:?}");
        (files, story)
    }
}

fn kept(luck: Luck, dice: &mut Dice) -> bool {
    match luck {
        Luck::Nothing => false,
        Luck::Everything => true,
        Luck::Prefix => dice.percent(50),
        Luck::Some { writes, .. } => dice.percent(writes),
    }
}

impl Inode {
    fn cut(&self, luck: Luck, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.safe.clone();
        for edit in &self.doubtful {
            if kept(luck, dice) {
                edit.apply(&mut content);
            }
        }
        let waiting = &self.waiting.edits;
        match luck {
            Luck::Nothing => {}
            Luck::Everything => waiting.iter().for_each(|edit| edit.apply(&mut content)),
            Luck::Prefix => {
                let whole = dice.below(waiting.len() + 1);
                for edit in &waiting[..whole] {
                    edit.apply(&mut content);
                }
                if let Some(edit) = waiting.get(whole) {
                    torn(edit, &mut content, 50, false, dice);
                }
            }
            Luck::Some {
                writes,
                sectors,
                garbage,
            } => {
                for edit in waiting {
                    if dice.percent(writes) {
                        torn(edit, &mut content, sectors, garbage, dice);
                    }
                }
            }
        }
        content
    }
}

/// Applies some sectors of a write.
fn torn(edit: &Edit, content: &mut Vec<u8>, sectors: usize, garbage: bool, dice: &mut Dice) {
    let Edit::Write { offset, data } = edit else {
        edit.apply(content);
        return;
    };
    let mut at = 0;
    while at < data.len() {
        let end = (at + SECTOR - (offset + at) % SECTOR).min(data.len());
        if dice.percent(sectors) {
            put(content, offset + at, &data[at..end]);
        } else if garbage && dice.percent(50) {
            let noise: Vec<u8> = (at..end).map(|_| dice.next() as u8).collect();
            put(content, offset + at, &noise);
        }
        at = end;
    }
}
