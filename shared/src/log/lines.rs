//! [`Lines`]: standard error for a log, written by a thread of its own.
//!
//! Whoever logs only appends to memory: a call of the system for each line, and waiting for each
//! other while it lasts, would cost a request more than its look-up does.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(10);
/// So many bytes are written without waiting for more.
const ENOUGH: usize = 64 * 1024;
/// So many bytes may wait; whoever has more to say waits too, so that nothing is lost and memory
/// stays bounded when nobody reads the log.
const MOST: usize = 4 * 1024 * 1024;

/// Takes whole lines and sees to it that they reach standard error in their order, within moments.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    filled: Condvar,
    /// What waited has been taken.
    taken: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    stopped: bool,
}

/// Writes what is left when it is dropped; later lines are written at once.
pub struct LinesGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<(Self, LinesGuard)> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            taken: Condvar::new(),
        });
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writing.write_all(output))?;
        let guard = LinesGuard {
            shared: Arc::clone(&shared),
            thread: Some(thread),
        };
        Ok((Self(shared), guard))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut waiting = self.lock();
        while waiting.bytes.len() >= MOST && !waiting.stopped {
            waiting = self
                .taken
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.stopped {
            drop(waiting);
            return io::stderr().write_all(line);
        }
        let before = waiting.bytes.len();
        waiting.bytes.extend_from_slice(line);
        // The thread is woken once for what gathers, not for each line.
        if before == 0 || (before < ENOUGH && waiting.bytes.len() >= ENOUGH) {
            self.filled.notify_one();
        }
        Ok(())
    }

    fn write_all(&self, mut output: impl Write) {
        let mut bytes = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.bytes.is_empty() && !waiting.stopped {
                waiting = self
                    .filled
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let more = |waiting: &mut Waiting| waiting.bytes.len() < ENOUGH && !waiting.stopped;
            let gathered = self.filled.wait_timeout_while(waiting, GATHER, more);
            let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut bytes, &mut waiting.bytes);
            let stopped = waiting.stopped;
            drop(waiting);
            self.taken.notify_all();
            // If standard error is closed there is nobody to tell.
            let _unheard = output.write_all(&bytes).and_then(|()| output.flush());
            bytes.clear();
            bytes.shrink_to(2 * ENOUGH);
            if stopped {
                return;
            }
        }
    }
}

impl Drop for LinesGuard {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.filled.notify_one();
        self.shared.taken.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Takes one line with each `write`.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.append(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = &'l Self;

    fn make_writer(&'l self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_lines_are_there_in_order_when_the_guard_is_gone() {
        let output = Output::default();
        let (lines, guard) = Lines::start(output.clone()).unwrap();
        // More than may wait, from several threads.
        const LINES: usize = 20_000;
        let padding = "x".repeat(100);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (lines, padding) = (&lines, &padding);
                scope.spawn(move || {
                    for number in 0..LINES {
                        let line = format!("{thread} {number} {padding}\n");
                        lines.make_writer().write_all(line.as_bytes()).unwrap();
                    }
                });
            }
        });
        drop(guard);
        let written = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        let mut next = [0; 4];
        for line in written.lines() {
            let mut parts = line.split(' ');
            let mut number = || parts.next().unwrap().parse::<usize>().unwrap();
            let (thread, at) = (number(), number());
            assert_eq!(at, next[thread]);
            assert_eq!(parts.next(), Some(padding.as_str()));
            next[thread] += 1;
        }
        assert_eq!(next, [LINES; 4]);
    }
}
