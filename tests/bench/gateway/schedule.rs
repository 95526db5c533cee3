//! When calls arrive at a fixed rate, whether or not the ones before have been answered: a late
//! answer does not make the load wait for it.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe;
use tokio::sync::Semaphore;

/// A timer of the kernel, because the runtime's own counts in whole milliseconds.
pub(crate) struct Schedule {
    /// To be read as a pipe is.
    timer: pipe::Receiver,
    began: Instant,
    interval: Duration,
    /// Calls that have arrived and were not sent yet. Whoever waits for one gets it in turn.
    arrived: Semaphore,
}

impl Schedule {
    /// Begins now, with the first arrival after one interval.
    pub(crate) fn begin(rate: u64) -> Self {
        let interval = Duration::from_nanos(1_000_000_000 / rate);
        let every = Timespec {
            tv_sec: interval.as_secs() as i64,
            tv_nsec: interval.subsec_nanos().into(),
        };
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .expect("a timer");
        let began = Instant::now();
        let times = Itimerspec {
            it_interval: every,
            it_value: every,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).expect("a timer of our own");
        Self {
            timer: pipe::Receiver::from_owned_fd_unchecked(timer).expect("a timer of our own"),
            began,
            interval,
            arrived: Semaphore::new(0),
        }
    }

    /// Lets calls arrive, until so many have.
    pub(crate) async fn run(&self, count: usize) {
        let mut arrived = 0;
        while arrived < count {
            self.timer.readable().await.expect("a timer of our own");
            let mut times = [0; 8];
            match self.timer.try_read(&mut times) {
                Ok(_) => {
                    let times = u64::from_ne_bytes(times) as usize;
                    let times = times.min(count - arrived);
                    self.arrived.add_permits(times);
                    arrived += times;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    /// Waits for the arrival of call `number`; answers when it was to arrive.
    pub(crate) async fn arrival(&self, number: usize) -> Instant {
        let arrived = self.arrived.acquire().await;
        arrived.expect("it is never closed").forget();
        self.began + self.interval * (number as u32 + 1)
    }
}
