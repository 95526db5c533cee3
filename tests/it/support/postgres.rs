//! [`Postgres`]: a PostgreSQL server of a test's own, in a temporary folder, on a free port.
//!
//! It needs nothing but the standard library and `tempfile`, so that the tests of other crates
//! can include this file by its path; SQL it leaves to PostgreSQL's own programs.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tempfile::TempDir;

/// A start takes well under a second, and longer on a busy machine and after a crash.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What the server logs when it takes connections.
const READY: &str = "database system is ready to accept connections";
/// Whose server it is.
const USER: &str = "meridian";

/// A running server. It is stopped and its folder removed when this is dropped.
pub(crate) struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    settings: Vec<String>,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it, with every promise of durability kept.
    ///
    /// # Panics
    /// If PostgreSQL is not installed (`MERIDIAN_TEST_POSTGRES_BIN` names the folder of its
    /// programs, if that is an unusual one) or does not start.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// The same with settings of its own (`ssl=on`), and files that only the server may read.
    pub(crate) fn start_with(settings: &[&str], files: &[(&str, &str)]) -> Self {
        let mut this = Self {
            folder: tempfile::tempdir().unwrap(),
            programs: programs(),
            settings: settings.iter().map(|one| (*one).to_owned()).collect(),
            port: 0,
            server: None,
        };
        if let Some((user, group)) = owner() {
            chown(this.folder.path(), Some(user), Some(group)).unwrap();
        }
        // Collation by language: whoever leaves a comparison to the database will be noticed.
        let made = this
            .program("initdb")
            .args(["--username", USER, "--auth", "trust", "--no-sync"])
            .args(["--encoding", "UTF8", "--locale", "C.UTF-8"])
            .args(["--locale-provider", "icu", "--icu-locale", "en-US"])
            .arg("--pgdata")
            .arg(this.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {made:?}");
        for (name, content) in files {
            let path = this.data().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = owner() {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        this.start_again();
        this
    }

    /// Where the server listens, with a database that is always there. The address stays the same
    /// when it is started again.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server on its data, after it has been stopped.
    pub(crate) fn start_again(&mut self) {
        assert!(self.server.is_none(), "the server runs");
        if self.port != 0 {
            self.server = Some(self.serve(self.port).unwrap());
            return;
        }
        // Between the look at a port and its use another program may take it.
        for port in free_ports().take(20) {
            if let Ok(server) = self.serve(port) {
                self.port = port;
                self.server = Some(server);
                return;
            }
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// Stops the server as a crash would: nothing is finished and nothing is tidied up.
    pub(crate) fn stop_immediately(&mut self) {
        self.stop("-QUIT");
    }

    /// Stops the server as its service manager would: transactions are broken off, the rest is
    /// left in order.
    pub(crate) fn stop_orderly(&mut self) {
        self.stop("-INT");
    }

    /// Halts all processes of the server: connections stay open and nobody answers.
    pub(crate) fn freeze(&self) {
        self.signal_all("-STOP");
    }

    /// Lets the processes go on.
    pub(crate) fn thaw(&self) {
        self.signal_all("-CONT");
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// One of PostgreSQL's programs; none of them runs as root.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts the server and waits until it says that it is ready; the log, if it does not.
    fn serve(&self, port: u16) -> Result<Child, String> {
        let mut server = self
            .program("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .arg("-k")
            .arg(self.folder.path())
            .args(["-c", "max_connections=200"])
            .args(self.settings.iter().flat_map(|one| ["-c", one]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, hear) = channel();
        let stderr = server.stderr.take().unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        std::thread::spawn(move || keep_log(stderr, log, &say));
        if hear.recv_timeout(READY_WITHIN).is_ok() {
            return Ok(server);
        }
        let _ = server.kill();
        let _ = server.wait();
        Err(self.log())
    }

    fn stop(&mut self, signal: &str) {
        let mut server = self.server.take().unwrap();
        send(signal, &[server.id()]);
        server.wait().unwrap();
    }

    fn signal_all(&self, signal: &str) {
        let server = self.server.as_ref().unwrap().id();
        let mut all = children(server);
        all.push(server);
        send(signal, &all);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // One that is frozen does not hear.
            let mut all = children(server.id());
            all.push(server.id());
            send("-CONT", &all);
            send("-QUIT", &[server.id()]);
            let _ = server.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("---- the last lines of PostgreSQL's log ----");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// Everything that a database holds, as text.
pub(crate) fn dump(url: &str) -> Vec<u8> {
    let dumped = Command::new(programs().join("pg_dump")).arg(url).output();
    let dumped = dumped.unwrap();
    assert!(dumped.status.success(), "pg_dump: {dumped:?}");
    dumped.stdout
}

/// What a statement finds in our tables: a line for each row, `|` between columns.
pub(crate) fn query(url: &str, sql: &str) -> String {
    let found = Command::new(programs().join("psql"))
        .env("PGOPTIONS", "-c search_path=meridian")
        .args([
            "--no-psqlrc",
            "--no-align",
            "--tuples-only",
            "--command",
            sql,
            url,
        ])
        .output()
        .unwrap();
    assert!(found.status.success(), "{sql}: {found:?}");
    String::from_utf8(found.stdout).unwrap()
}

/// Copies the log to its file, and says when the server is ready. Ends with the server, and so
/// does the channel.
fn keep_log(from: impl Read, mut to: File, ready: &Sender<()>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        let _ = writeln!(to, "{line}");
        if line.contains(READY) {
            let _ = ready.send(());
        }
    }
}

fn send(signal: &str, processes: &[u32]) {
    let processes = processes.iter().map(u32::to_string);
    // One that has ended meanwhile is no reason to complain.
    let _ = Command::new("kill")
        .arg(signal)
        .args(processes)
        .stderr(Stdio::null())
        .status();
}

/// The processes that this one has started and that are still there.
fn children(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name, which is in parentheses and may hold anything: state, parent.
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(of.to_string().as_str()) {
            found.push(process);
        }
    }
    found
}

/// Whom the server runs as, if this test runs as root: PostgreSQL refuses to.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let (user, group) = (fields.nth(1)?, fields.next()?);
            (name == wanted).then(|| Some((user.parse().ok()?, group.parse().ok()?)))?
        })
    };
    Some(find("postgres").or_else(|| find("nobody")).unwrap())
}

/// Where PostgreSQL's programs are: as told, on the path, or where Debian keeps the newest.
fn programs() -> PathBuf {
    if let Some(told) = std::env::var_os("MERIDIAN_TEST_POSTGRES_BIN") {
        return told.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<u32> = versions
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let debian = Path::new("/usr/lib/postgresql");
    folders.extend(
        versions
            .iter()
            .map(|version| debian.join(version.to_string()).join("bin")),
    );
    let found = folders
        .into_iter()
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .expect("PostgreSQL is not installed: tests/run installs it");
    // What is on the path may be a link to one program; the others are where it leads to.
    let server = fs::canonicalize(found.join("postgres")).unwrap();
    server.parent().unwrap().to_owned()
}

/// Free ports below those that the system gives to connections, so that none of them is taken
/// while the server is stopped. The process's id keeps tests that run side by side apart.
fn free_ports() -> impl Iterator<Item = u16> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 2_000;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() + 7 * ASKED.fetch_add(1, Ordering::Relaxed);
    (0..COUNT)
        .map(move |n| FIRST + (start + 31 * n) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
