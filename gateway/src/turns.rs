//! [`Turns`]: who may send a call to a region now, and who waits.
//!
//! A region gets no more calls at a time than its nodes do well with; the others wait here, where
//! waiting costs nothing. Each tenant has a line of its own and the lines are served in turn, so
//! that one tenant's full cycle makes another wait for one call and not for all of them (failure
//! class 93), or for none if the other has few under way. When more wait than can be served soon,
//! the newest call of the longest line goes (class 94): it has waited least, and its client has the
//! others to wait for anyway. How many that are follows from how long calls take.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::TenantId;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// No more calls wait than can be served in about so long: a client that is refused at once can
/// come again, and one that waits for longer may have given up.
const SOON: Duration = Duration::from_millis(100);
/// Of how many turns the time of a call is the average, about.
const TURNS_IN_AVERAGE: u32 = 32;

/// There is no turn for this call: too many wait, or it has waited for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many calls are under way or waiting")]
pub struct Busy;

/// Turns at one region.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most_at_a_node: usize,
    most_waiting: usize,
    longest_wait: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// How many may be: as the last call that came found the nodes.
    most_under_way: usize,
    /// Calls in all lines, those included whose clients have gone since.
    waiting: usize,
    /// How long a call takes, of late.
    average: Duration,
    lines: HashMap<TenantId, VecDeque<Waiter>>,
    /// The tenants that have a line, in the order in which they are served.
    order: VecDeque<TenantId>,
}

type Waiter = oneshot::Sender<Turn>;

/// A call's turn. It ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    /// Gone when it has ended.
    turns: Option<Arc<Shared>>,
    since: Instant,
}

impl Turns {
    /// Turns for so many calls at a time at each node, while so many others may wait for so long.
    #[must_use]
    pub fn new(most_at_a_node: usize, most_waiting: usize, longest_wait: Duration) -> Self {
        Self(Arc::new(Shared {
            most_at_a_node: most_at_a_node.max(1),
            most_waiting,
            longest_wait,
            state: Mutex::default(),
        }))
    }

    /// Waits for the turn of a tenant's call, at a region of which so many nodes are up: those that
    /// are left get no more than their own share when others are away.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn take(&self, tenant: &TenantId, nodes: usize) -> Result<Turn, Busy> {
        let waiting = {
            let mut state = self.0.lock();
            state.most_under_way = self.0.most_under_way(nodes);
            if state.under_way < state.most_under_way && state.waiting == 0 {
                state.under_way += 1;
                return Ok(Turn::begin(&self.0));
            }
            if state.waiting >= self.0.most_waiting(&state) && !state.make_room(tenant) {
                return Err(Busy);
            }
            state.queue(tenant)
        };
        match timeout(self.0.longest_wait, waiting).await {
            Ok(Ok(turn)) => Ok(turn),
            // Waited for too long, or another one's call was given the place.
            _ => Err(Busy),
        }
    }

    /// A turn for a call whose tenant has few under way, this one included: where few tenants have made
    /// the others wait, an eighth more calls than else may be under way for such. Calls that began
    /// together end together, and whoever comes in between would wait for as long as one takes.
    #[must_use]
    pub fn at_once(&self, of_tenant: u32, nodes: usize) -> Option<Turn> {
        let most = self.0.most_under_way(nodes);
        let more = most / 8;
        if of_tenant as usize > (more / 2).max(1) {
            return None;
        }
        let mut state = self.0.lock();
        if state.under_way >= most + more || state.order.len() > more {
            return None;
        }
        state.most_under_way = most;
        state.under_way += 1;
        Some(Turn::begin(&self.0))
    }

    /// How many calls are under way, and how many wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.under_way, state.waiting)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many may be under way where so many nodes are up.
    fn most_under_way(&self, nodes: usize) -> usize {
        self.most_at_a_node.saturating_mul(nodes.max(1))
    }

    /// How many may wait at the moment: as many as can be served soon, and at least one for each
    /// call that is under way.
    fn most_waiting(&self, state: &State) -> usize {
        let rounds = SOON.as_micros() / state.average.as_micros().max(1);
        let rounds = usize::try_from(rounds).unwrap_or(usize::MAX).max(1);
        state
            .most_under_way
            .saturating_mul(rounds)
            .min(self.most_waiting)
    }

    /// Gives free turns to those who wait.
    fn serve(self: &Arc<Self>) {
        loop {
            let waiter = {
                let mut state = self.lock();
                if state.under_way >= state.most_under_way {
                    return;
                }
                let Some(waiter) = state.next() else {
                    return;
                };
                state.under_way += 1;
                waiter
            };
            // Out of the lock: a turn that nobody waits for any more ends at once, and takes it.
            if let Err(turn) = waiter.send(Turn::begin(self)) {
                turn.end();
            }
        }
    }
}

impl State {
    fn queue(&mut self, tenant: &TenantId) -> oneshot::Receiver<Turn> {
        let (waiter, waiting) = oneshot::channel();
        let line = self.lines.entry(tenant.clone()).or_default();
        if line.is_empty() {
            self.order.push_back(tenant.clone());
        }
        line.push_back(waiter);
        self.waiting += 1;
        waiting
    }

    /// The oldest call of the line whose turn it is.
    fn next(&mut self) -> Option<Waiter> {
        let tenant = self.order.pop_front()?;
        let line = self.lines.get_mut(&tenant)?;
        let waiter = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        self.waiting -= usize::from(waiter.is_some());
        waiter
    }

    /// Makes room for a tenant's call at the cost of the longest line; `false` where the tenant's
    /// own is as long.
    fn make_room(&mut self, tenant: &TenantId) -> bool {
        self.forget_the_gone();
        let own = self.lines.get(tenant).map_or(0, VecDeque::len);
        let longest = self.lines.iter_mut().max_by_key(|(_, line)| line.len());
        match longest {
            Some((_, line)) if line.len() > own + 1 => {
                drop(line.pop_back());
                self.waiting -= 1;
                true
            }
            _ => false,
        }
    }

    fn forget_the_gone(&mut self) {
        for line in self.lines.values_mut() {
            line.retain(|waiter| !waiter.is_closed());
        }
        self.lines.retain(|_, line| !line.is_empty());
        self.order.retain(|tenant| self.lines.contains_key(tenant));
        self.waiting = self.lines.values().map(VecDeque::len).sum();
    }
}

impl Turn {
    fn begin(turns: &Arc<Shared>) -> Self {
        Self {
            turns: Some(Arc::clone(turns)),
            since: Instant::now(),
        }
    }

    /// Ends without serving the next one: for whoever is doing that already.
    fn end(mut self) {
        if let Some(turns) = self.turns.take() {
            turns.lock().under_way -= 1;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            {
                let mut state = turns.lock();
                state.under_way -= 1;
                let others = state.average * (TURNS_IN_AVERAGE - 1);
                state.average = (others + self.since.elapsed()) / TURNS_IN_AVERAGE;
            }
            turns.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn tenant() -> TenantId {
        TenantId::generate().unwrap()
    }

    #[tokio::test]
    async fn a_tenant_waits_for_one_call_of_another_and_not_for_all() {
        let turns = Turns::new(1, 100, LONG);
        let (busy, other) = (tenant(), tenant());
        let first = turns.take(&busy, 1).await.unwrap();
        let mut line: Vec<_> = (0..10).map(|_| Box::pin(turns.take(&busy, 1))).collect();
        for waiting in &mut line {
            assert!(waiting.now_or_never().is_none());
        }
        let mut late = Box::pin(turns.take(&other, 1));
        assert!((&mut late).now_or_never().is_none());
        assert_eq!(turns.load(), (1, 11));
        drop(first);
        let second = line.remove(0).now_or_never().unwrap().unwrap();
        assert!((&mut late).now_or_never().is_none());
        drop(second);
        assert!((&mut late).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn when_too_many_wait_the_newest_of_the_longest_line_goes() {
        let turns = Turns::new(1, 3, LONG);
        let (busy, other) = (tenant(), tenant());
        let _first = turns.take(&busy, 1).await.unwrap();
        let mut line: Vec<_> = (0..3).map(|_| Box::pin(turns.take(&busy, 1))).collect();
        for waiting in &mut line {
            assert!(waiting.now_or_never().is_none());
        }
        // Its own next call is the newest of the longest line.
        assert_eq!(
            turns.take(&busy, 1).now_or_never().unwrap().unwrap_err(),
            Busy
        );
        let mut late = Box::pin(turns.take(&other, 1));
        assert!((&mut late).now_or_never().is_none());
        let [oldest, middle, newest] = line.as_mut_slice() else {
            panic!()
        };
        assert_eq!(newest.now_or_never().unwrap().unwrap_err(), Busy);
        assert!(oldest.now_or_never().is_none() && middle.now_or_never().is_none());
        assert_eq!(turns.load(), (1, 3));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_takes_no_turn_with_it() {
        let turns = Turns::new(1, 10, LONG);
        let (one, other) = (tenant(), tenant());
        let first = turns.take(&one, 1).await.unwrap();
        let mut gone: Vec<_> = (0..5).map(|_| Box::pin(turns.take(&one, 1))).collect();
        for waiting in &mut gone {
            assert!(waiting.now_or_never().is_none());
        }
        let mut patient = Box::pin(turns.take(&other, 1));
        assert!((&mut patient).now_or_never().is_none());
        drop(gone);
        drop(first);
        let turn = patient.now_or_never().unwrap().unwrap();
        assert_eq!(turns.load().0, 1);
        drop(turn);
        assert_eq!(turns.load(), (0, 0));
    }

    #[tokio::test]
    async fn where_calls_take_long_few_may_wait() {
        let turns = Turns::new(2, 1_000, LONG);
        let most = |average: Duration| {
            let mut state = turns.0.lock();
            (state.average, state.most_under_way) = (average, 2);
            turns.0.most_waiting(&state)
        };
        assert_eq!(most(Duration::ZERO), 1_000);
        assert_eq!(most(Duration::from_micros(100)), 1_000);
        assert_eq!(most(Duration::from_millis(10)), 20);
        assert_eq!(most(Duration::from_secs(5)), 2);
    }

    #[tokio::test]
    async fn a_quiet_tenant_does_not_wait_where_few_tenants_made_it_busy() {
        let turns = Turns::new(16, 100, LONG);
        let busy = tenant();
        let mut under_way = Vec::new();
        for _ in 0..16 {
            under_way.push(turns.take(&busy, 1).await.unwrap());
        }
        let mut waiting = Box::pin(turns.take(&busy, 1));
        assert!((&mut waiting).now_or_never().is_none());
        let only = [turns.at_once(1, 1), turns.at_once(1, 1)];
        assert!(only.iter().all(Option::is_some) && turns.at_once(1, 1).is_none());
        // What was let in besides is made up for before a line goes on.
        under_way.truncate(14);
        assert!((&mut waiting).now_or_never().is_none());
        drop(only);
        assert!(turns.at_once(2, 1).is_none());
        assert!((&mut waiting).now_or_never().unwrap().is_ok());

        // Where many tenants wait, all wait in turn.
        while turns.load().0 < 16 {
            under_way.push(turns.take(&busy, 1).await.unwrap());
        }
        let tenants = [(); 3].map(|()| tenant());
        let mut lines: Vec<_> = tenants
            .iter()
            .map(|tenant| Box::pin(turns.take(tenant, 1)))
            .collect();
        for line in &mut lines {
            assert!(line.now_or_never().is_none());
        }
        assert!(turns.at_once(1, 1).is_none());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let turns = Turns::new(1, 10, Duration::ZERO);
        let _first = turns.take(&tenant(), 1).await.unwrap();
        assert_eq!(turns.take(&tenant(), 1).await.unwrap_err(), Busy);
    }

    #[tokio::test]
    async fn many_tenants_and_clients_that_leave_lose_no_turn() {
        let turns = Turns::new(4, 50, LONG);
        let tenants: Vec<_> = (0..7).map(|_| tenant()).collect();
        let calls = (0..2_000_usize).map(|number| {
            let (turns, tenant) = (turns.clone(), tenants[number % 7].clone());
            tokio::spawn(async move {
                for _ in 0..number % 5 {
                    tokio::task::yield_now().await;
                }
                let taking = turns.take(&tenant, 1);
                if number % 3 == 0 {
                    // Polled once and dropped.
                    drop(taking.now_or_never());
                } else if let Ok(turn) = taking.await {
                    assert!(turns.load().0 <= 4);
                    tokio::task::yield_now().await;
                    drop(turn);
                }
            })
        });
        futures_util::future::join_all(calls).await;
        assert_eq!(turns.load().0, 0);
    }
}
