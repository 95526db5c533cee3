//! [`Lines`]: standard error for a log, written by a thread of its own.
//!
//! Whoever logs only appends to memory: a call of the system for each line, and waiting for each
//! other while it lasts, would cost a request more than its look-up does. When nobody reads the
//! log, whoever has something to say waits for a moment, and then goes on without being heard: a
//! program whose log is stuck serves, and ends when it is told to. What was lost is counted, and
//! told when there is somebody to tell.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long lines are gathered before they are written, after a silence or with a warning.
const GATHER: Duration = Duration::from_millis(10);
/// How long they are gathered while there is always something to write: the thread takes a processor
/// from whoever logs, and waking it costs more than a line does.
const GATHER_MORE: Duration = Duration::from_millis(200);
/// So many bytes are written without waiting for more.
const ENOUGH: usize = 256 * 1024;
/// So many bytes may wait, so that memory stays bounded when nobody reads the log.
const MOST: usize = 4 * 1024 * 1024;
/// So long lines wait, all of them together, for a log that takes nothing; then they are lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// A log that can take nothing at the moment is asked again after so long.
const PAUSE: Duration = Duration::from_millis(10);

/// The line that says how many were lost, with its end.
pub(super) type LostLine = fn(u64) -> String;

/// Takes whole lines and sees to it that they reach standard error in their order, within moments.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    filled: Condvar,
    /// What waited has been taken, or the thread has ended.
    taken: Condvar,
    lost_line: LostLine,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Until when lines wait for room; set by the first that has to.
    patience_ends: Option<Instant>,
    /// Lines that found no room, or could not be written.
    lost: u64,
    /// The thread waits for a line, for as long as it takes.
    asleep: bool,
    /// Something waits that should be read soon.
    urgent: bool,
    stopped: bool,
    ended: bool,
}

/// Writes what is left when it is dropped, in as long as a log may take that nobody reads; later
/// lines are written at once.
pub struct LinesGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        lost_line: LostLine,
    ) -> io::Result<(Self, LinesGuard)> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            taken: Condvar::new(),
            lost_line,
        });
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                writing.write_all(output);
                writing.lock().ended = true;
                writing.taken.notify_all();
            })?;
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

    fn append(&self, line: &[u8], is_urgent: bool) -> io::Result<()> {
        let mut waiting = self.lock();
        while waiting.bytes.len() >= MOST && !waiting.stopped {
            let now = Instant::now();
            let ends = *waiting.patience_ends.get_or_insert(now + PATIENCE);
            if now >= ends {
                waiting.lost += 1;
                return Ok(());
            }
            let woken = self.taken.wait_timeout(waiting, ends - now);
            (waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.stopped {
            // A thread that has not ended hangs at standard error, and so would we.
            if !waiting.ended {
                return Ok(());
            }
            drop(waiting);
            return io::stderr().write_all(line);
        }
        let before = waiting.bytes.len();
        waiting.bytes.extend_from_slice(line);
        // The thread is woken once for what gathers, not for each line.
        let is_enough = before < ENOUGH && waiting.bytes.len() >= ENOUGH;
        let is_first_urgent = is_urgent && !std::mem::replace(&mut waiting.urgent, true);
        if std::mem::take(&mut waiting.asleep) || is_enough || is_first_urgent {
            self.filled.notify_one();
        }
        Ok(())
    }

    fn write_all(&self, mut output: impl Write) {
        let mut bytes = Vec::new();
        let mut has_written = false;
        let more = |waiting: &Waiting| waiting.bytes.len() < ENOUGH && !waiting.stopped;
        loop {
            let mut waiting = self.lock();
            if has_written {
                // Also where nothing waits yet: nobody has to wake a thread that is not asleep.
                let more = |waiting: &Waiting| more(waiting) && !waiting.urgent;
                waiting = self.gather(waiting, GATHER_MORE, more);
            }
            let is_idle = waiting.bytes.is_empty();
            while waiting.bytes.is_empty() && !waiting.stopped {
                waiting.asleep = true;
                waiting = self
                    .filled
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            waiting.asleep = false;
            if is_idle || waiting.urgent {
                waiting = self.gather(waiting, GATHER, more);
            }
            std::mem::swap(&mut bytes, &mut waiting.bytes);
            waiting.patience_ends = None;
            waiting.urgent = false;
            let (stopped, lost) = (waiting.stopped, std::mem::take(&mut waiting.lost));
            drop(waiting);
            self.taken.notify_all();
            // Whatever waited came before what found no room.
            let lines = count_lines(&bytes);
            has_written = true;
            if lost > 0 {
                bytes.extend_from_slice((self.lost_line)(lost).as_bytes());
            }
            let unwritten = self.write(&mut output, &bytes);
            let unwritten = count_lines(unwritten);
            if unwritten > 0 {
                // The last of them was ours, where there was one.
                let unsaid = if lost > 0 { unwritten - 1 } else { unwritten };
                self.lock().lost += unsaid.min(lines) + lost;
            }
            bytes.clear();
            bytes.shrink_to(2 * ENOUGH);
            if stopped {
                return;
            }
        }
    }

    /// Waits until there is no more to gather, or for so long.
    fn gather<'w>(
        &self,
        waiting: MutexGuard<'w, Waiting>,
        time: Duration,
        more: impl Fn(&Waiting) -> bool,
    ) -> MutexGuard<'w, Waiting> {
        let gathered = self
            .filled
            .wait_timeout_while(waiting, time, |waiting| more(waiting));
        gathered.unwrap_or_else(PoisonError::into_inner).0
    }

    /// What could not be written. A log that can take nothing at the moment is waited for.
    fn write<'b>(&self, output: &mut impl Write, bytes: &'b [u8]) -> &'b [u8] {
        let mut rest = bytes;
        while !rest.is_empty() {
            match output.write(rest) {
                Ok(0) => return rest,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Nobody wakes us: this is a pause. Lines that gather meanwhile wait.
                    let paused = self.filled.wait_timeout(self.lock(), PAUSE);
                    drop(paused.unwrap_or_else(PoisonError::into_inner));
                }
                // If standard error is closed there is nobody to tell.
                Err(_) => return rest,
            }
        }
        let _unheard = output.flush();
        rest
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(lines).unwrap_or(u64::MAX)
}

impl Drop for LinesGuard {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        waiting.stopped = true;
        self.shared.filled.notify_one();
        self.shared.taken.notify_all();
        let ended = self
            .shared
            .taken
            .wait_timeout_while(waiting, PATIENCE, |waiting| !waiting.ended);
        let has_ended = ended.unwrap_or_else(PoisonError::into_inner).0.ended;
        // One that hangs ends with the process.
        if let Some(thread) = self.thread.take()
            && has_ended
        {
            let _ended = thread.join();
        }
    }
}

/// Takes one line with each `write`.
pub(super) struct LineWriter<'l> {
    lines: &'l Lines,
    is_urgent: bool,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.0.append(line, self.is_urgent)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = LineWriter<'l>;

    fn make_writer(&'l self) -> Self::Writer {
        LineWriter {
            lines: self,
            is_urgent: false,
        }
    }

    fn make_writer_for(&'l self, event: &Metadata<'_>) -> Self::Writer {
        LineWriter {
            lines: self,
            is_urgent: *event.level() <= Level::WARN,
        }
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

    fn lost_line(lost: u64) -> String {
        format!("{lost} lines were lost\n")
    }

    /// Takes nothing until it is opened.
    #[derive(Clone, Default)]
    struct Gate {
        is_open: Arc<(Mutex<bool>, Condvar)>,
        output: Output,
    }

    impl Gate {
        fn open(&self) {
            *self.is_open.0.lock().unwrap() = true;
            self.is_open.1.notify_all();
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (is_open, opened) = &*self.is_open;
            let waiting = opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open);
            drop(waiting.unwrap());
            self.output.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn when_nobody_reads_lines_are_lost_and_counted_and_nobody_is_held() {
        let gate = Gate::default();
        let (lines, guard) = Lines::start(gate.clone(), lost_line).unwrap();
        // More than is taken and may wait together.
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let sent = 3 * MOST / line.len();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..sent / 2 {
                        lines.make_writer().write_all(&line).unwrap();
                    }
                });
            }
        });
        gate.open();
        drop(guard);
        let written = String::from_utf8(gate.output.0.lock().unwrap().clone()).unwrap();
        let (lines, last) = written.trim_end().rsplit_once('\n').unwrap();
        let lost = last.strip_suffix(" lines were lost").unwrap();
        let lost: usize = lost.parse().unwrap();
        assert!(lost > 0);
        assert_eq!(lines.lines().count() + lost, sent);
    }

    #[test]
    fn the_end_does_not_wait_for_a_log_that_nobody_reads() {
        let gate = Gate::default();
        let (lines, guard) = Lines::start(gate.clone(), lost_line).unwrap();
        lines.make_writer().write_all(b"first\n").unwrap();
        drop(guard);
        // Nor does what is said after it.
        lines.make_writer().write_all(b"second\n").unwrap();
        assert!(gate.output.0.lock().unwrap().is_empty());
        gate.open();
    }

    /// Takes a few bytes, then none for a while, and so on.
    struct Halting(Output, bool);

    impl Write for Halting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.write(&bytes[..bytes.len().min(10)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_takes_nothing_at_the_moment_is_asked_again() {
        let output = Output::default();
        let halting = Halting(output.clone(), false);
        let (lines, guard) = Lines::start(halting, lost_line).unwrap();
        let line = b"a line that needs more than one piece\n";
        lines.make_writer().write_all(line).unwrap();
        drop(guard);
        assert_eq!(*output.0.lock().unwrap(), line);
    }

    /// Refuses once, as a log does whose reader is exchanged.
    struct Refusing(Output, bool);

    impl Write for Refusing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.1, true) {
                return self.0.write(bytes);
            }
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted_too() {
        let output = Output::default();
        let (lines, guard) = Lines::start(Refusing(output.clone(), false), lost_line).unwrap();
        lines.make_writer().write_all(b"first\n").unwrap();
        while lines.0.lock().lost == 0 {
            std::thread::yield_now();
        }
        lines.make_writer().write_all(b"second\n").unwrap();
        drop(guard);
        let written = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written, "second\n1 lines were lost\n");
    }

    #[test]
    fn a_line_is_written_whether_or_not_another_follows() {
        let output = Output::default();
        let (lines, guard) = Lines::start(output.clone(), lost_line).unwrap();
        let mut said = Vec::new();
        // The first finds the thread asleep, the others while it gathers or between.
        for number in 0..5 {
            writeln!(said, "{number}").unwrap();
            writeln!(lines.make_writer(), "{number}").unwrap();
            while *output.0.lock().unwrap() != said {
                std::thread::yield_now();
            }
        }
        drop(guard);
    }

    #[test]
    fn all_lines_are_there_in_order_when_the_guard_is_gone() {
        let output = Output::default();
        let (lines, guard) = Lines::start(output.clone(), lost_line).unwrap();
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
