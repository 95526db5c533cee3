//! [`Redis`]: a Redis server of a test's own, in a temporary folder, on a free port.
//!
//! It needs nothing but the standard library and `tempfile`, so that the tests of other crates
//! can include this file by its path. It never looks at a server that is there already.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tempfile::TempDir;

/// A start takes well under a second, and longer on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What the server logs when it takes connections.
const READY: &str = "Ready to accept connections";

/// A running server. It is stopped and its folder removed when this is dropped.
pub(crate) struct Redis {
    folder: TempDir,
    settings: Vec<String>,
    port: u16,
    server: Option<Child>,
}

/// What the server answers to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(String),
    Error(String),
    Number(i64),
    Bytes(Option<Vec<u8>>),
    List(Vec<Reply>),
}

impl Redis {
    /// Starts an empty server that keeps nothing on the disk.
    ///
    /// # Panics
    /// If `redis-server` is not installed or does not start.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// The same with settings of its own (`--requirepass`, `secret`), and files in its folder.
    pub(crate) fn start_with(settings: &[&str], files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let mut this = Self {
            folder,
            settings: settings.iter().map(|one| (*one).to_owned()).collect(),
            port: 0,
            server: None,
        };
        this.start_again();
        this
    }

    /// Where the server listens. The port stays the same when it is started again.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The server's URL, without a password.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A file that [`Redis::start_with`] was given.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the server, empty, after it has been stopped.
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
        panic!("redis-server does not start:\n{}", self.log());
    }

    /// Ends the server as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Halts the server: connections stay open and nobody answers.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Sends a command over a connection of its own.
    pub(crate) fn command(&self, words: &[&[u8]]) -> Reply {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).bytes());
            command.extend(*word);
            command.extend(b"\r\n");
        }
        socket.write_all(&command).unwrap();
        read_reply(&mut BufReader::new(socket))
    }

    /// The keys that there are.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        match self.command(&[b"KEYS", b"*"]) {
            Reply::List(keys) => keys.into_iter().map(Reply::bytes).collect(),
            other => panic!("no list of keys: {other:?}"),
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.command(&[b"GET", key]) {
            Reply::Bytes(value) => value,
            other => panic!("no value: {other:?}"),
        }
    }

    /// Sets a value that does not end.
    pub(crate) fn set(&self, key: &[u8], value: &[u8]) {
        let reply = self.command(&[b"SET", key, value]);
        assert_eq!(reply, Reply::Status("OK".to_owned()));
    }

    /// All keys and values, one after the other.
    pub(crate) fn dump(&self) -> Vec<u8> {
        let keys = self.keys().into_iter();
        keys.flat_map(|key| [self.get(&key).unwrap_or_default(), key].concat())
            .collect()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Starts the server and waits until it says that it is ready; the log, if it does not.
    fn serve(&self, port: u16) -> Result<Child, String> {
        let mut server = Command::new("redis-server")
            .current_dir(self.folder.path())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .args(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is not installed: tests/run installs it");
        let (say, hear) = channel();
        let stdout = server.stdout.take().unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        std::thread::spawn(move || keep_log(stdout, log, &say));
        if hear.recv_timeout(READY_WITHIN).is_ok() {
            return Ok(server);
        }
        let _ = server.kill();
        let _ = server.wait();
        Err(self.log())
    }

    fn signal(&self, signal: &str) {
        let server = self.server.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([signal, &server]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // One that is frozen ends by this too.
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Reply {
    /// The bytes of a value that is there.
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(Some(bytes)) => bytes,
            other => panic!("no bytes: {other:?}"),
        }
    }
}

/// One answer of the protocol (RESP 2).
fn read_reply(from: &mut impl std::io::BufRead) -> Reply {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let line = line.trim_end();
    let (kind, rest) = line.split_at(1);
    let length = || usize::try_from(rest.parse::<i64>().unwrap()).ok();
    match kind {
        "+" => Reply::Status(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(rest.parse().unwrap()),
        "$" => Reply::Bytes(length().map(|length| {
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes).unwrap();
            bytes.truncate(length);
            bytes
        })),
        "*" => Reply::List(
            (0..length().unwrap_or(0))
                .map(|_| read_reply(from))
                .collect(),
        ),
        _ => panic!("not a reply: {line:?}"),
    }
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

/// Free ports below those that the system gives to connections, so that none of them is taken
/// while the server is stopped. The process's id keeps tests that run side by side apart.
pub(crate) fn free_ports() -> impl Iterator<Item = u16> {
    const FIRST: u32 = 8_200;
    const COUNT: u32 = 1_800;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() + 7 * ASKED.fetch_add(1, Ordering::Relaxed);
    (0..COUNT)
        .map(move |n| FIRST + (start + 31 * n) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
