//! The seats of the priority levels, and who waits for one.
//!
//! A level may use its nominal seats (its part of all, by shares), and beyond them what others lend and do not
//! use. What waits, waits in its flow; flows take turns.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::classify::{Level, Limited};

/// Why a request was refused; upstream's `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
}

impl Refusal {
    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
        }
    }
}

/// All levels. Cheap to clone the handle.
#[derive(Clone)]
pub struct Levels(Arc<Mutex<State>>);

struct State {
    seats: u32,
    levels: BTreeMap<Arc<str>, Room>,
}

/// One level at work.
#[derive(Default)]
struct Room {
    limited: Option<Limited>,
    /// Its configuration is there; else it goes when nobody is in it any more.
    current: bool,
    nominal: u32,
    lendable: u32,
    /// Executing at most, with what is borrowed.
    most: u32,
    executing: u32,
    waiting: usize,
    /// Taken from the front, put back at the end while somebody waits in it.
    flows: VecDeque<Flow>,
    dispatched: BTreeMap<Arc<str>, u64>,
    rejected: BTreeMap<(Arc<str>, Refusal), u64>,
}

struct Flow {
    schema: Arc<str>,
    key: String,
    waiters: VecDeque<oneshot::Sender<()>>,
}

/// The right to be worked on. Given back when dropped.
pub struct Seat {
    levels: Levels,
    level: Arc<str>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.levels.lock();
        if let Some(room) = state.levels.get_mut(&self.level) {
            room.executing = room.executing.saturating_sub(1);
        }
        state.dispatch(&self.level);
    }
}

impl Levels {
    pub fn new(seats: u32) -> Self {
        Self(Arc::new(Mutex::new(State { seats, levels: BTreeMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes another configuration. Who is at work or waits in a level that is gone, stays until done.
    pub fn set<'a>(&self, levels: impl Iterator<Item = &'a Arc<Level>>) {
        self.lock().set(levels);
    }

    /// A seat in a level, now or when one is free.
    pub async fn enter(
        &self,
        level: &Arc<str>,
        schema: &Arc<str>,
        flow: String,
        patience: Duration,
    ) -> Result<Seat, Refusal> {
        let turn = {
            let mut state = self.lock();
            match state.enter(level, schema, flow) {
                Ok(turn) => turn,
                Err(refusal) => {
                    state.refuse(level, schema, refusal);
                    return Err(refusal);
                }
            }
        };
        let seat = || Seat { levels: self.clone(), level: level.clone() };
        let Some(mut turn) = turn else { return Ok(seat()) };
        // A request whose client goes away while it waits leaves a waiter that is skipped, or a seat that was
        // just given to it: `abandoned` gives that back.
        let abandoned = Abandoned { levels: self, level, turn: &mut turn };
        let waited = timeout(patience, &mut *abandoned.turn).await;
        match waited {
            Ok(Ok(())) => {
                std::mem::forget(abandoned);
                Ok(seat())
            }
            _ => {
                drop(abandoned);
                self.lock().refuse(level, schema, Refusal::TimeOut);
                Err(Refusal::TimeOut)
            }
        }
    }

    /// Upstream's names.
    pub fn write_metrics(&self, out: &mut String) {
        let state = self.lock();
        let mut family = |name: &str, kind: &str, help: &str, lines: Vec<String>| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            lines.iter().for_each(|line| {
                let _ = writeln!(out, "{name}{line}");
            });
        };
        let gauges = |value: &dyn Fn(&Room) -> Option<u64>| -> Vec<String> {
            let each = state.levels.iter();
            each.filter_map(|(name, room)| Some(format!("{{priority_level=\"{name}\"}} {}", value(room)?)))
                .collect()
        };
        const P: &str = "apiserver_flowcontrol_";
        let limits: [Limit; 3] = [
            (
                "nominal_limit_seats",
                "[BETA] Nominal number of execution seats configured for each priority level",
                |r| r.nominal,
            ),
            (
                "upper_limit_seats",
                "[BETA] Configured upper bound on number of execution seats available to each priority level",
                |r| r.most,
            ),
            (
                "lower_limit_seats",
                "[BETA] Configured lower bound on number of execution seats available to each priority level",
                |r| r.nominal - r.lendable,
            ),
        ];
        for (name, help, get) in limits {
            let lines = gauges(&|room| room.limited.is_some().then(|| u64::from(get(room))));
            family(&format!("{P}{name}"), "gauge", help, lines);
        }
        family(
            &format!("{P}current_executing_seats"),
            "gauge",
            "[BETA] Concurrency (number of seats) occupied by the currently executing requests in the API Priority and Fairness subsystem",
            gauges(&|room| Some(u64::from(room.executing))),
        );
        family(
            &format!("{P}current_inqueue_requests"),
            "gauge",
            "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
            gauges(&|room| Some(room.waiting as u64)),
        );
        let each = || state.levels.iter();
        let dispatched = each().flat_map(|(level, room)| {
            let line = move |(schema, n): (&Arc<str>, &u64)| {
                format!("{{flow_schema=\"{schema}\",priority_level=\"{level}\"}} {n}")
            };
            room.dispatched.iter().map(line)
        });
        family(
            &format!("{P}dispatched_requests_total"),
            "counter",
            "[BETA] Number of requests executed by API Priority and Fairness subsystem",
            dispatched.collect(),
        );
        let rejected = each().flat_map(|(level, room)| {
            let line = move |((schema, why), n): (&(Arc<str>, Refusal), &u64)| {
                let why = why.label();
                format!("{{flow_schema=\"{schema}\",priority_level=\"{level}\",reason=\"{why}\"}} {n}")
            };
            room.rejected.iter().map(line)
        });
        family(
            &format!("{P}rejected_requests_total"),
            "counter",
            "[BETA] Number of requests rejected by API Priority and Fairness subsystem",
            rejected.collect(),
        );
    }
}

/// A metric's name, what it says, and where it stands.
type Limit = (&'static str, &'static str, fn(&Room) -> u32);

/// A waiter that may be dropped while it waits.
struct Abandoned<'a> {
    levels: &'a Levels,
    level: &'a Arc<str>,
    turn: &'a mut oneshot::Receiver<()>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let mut state = self.levels.lock();
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            // It got its seat in the same moment.
            if let Some(room) = state.levels.get_mut(self.level) {
                room.executing = room.executing.saturating_sub(1);
            }
            state.dispatch(self.level);
        } else if let Some(room) = state.levels.get_mut(self.level) {
            room.forget_the_gone();
        }
    }
}

impl Room {
    fn forget_the_gone(&mut self) {
        for flow in &mut self.flows {
            flow.waiters.retain(|waiter| !waiter.is_closed());
        }
        self.flows.retain(|flow| !flow.waiters.is_empty());
        self.waiting = self.flows.iter().map(|flow| flow.waiters.len()).sum();
    }

    fn idle_lendable(&self) -> u32 {
        self.lendable.min(self.nominal.saturating_sub(self.executing))
    }
}

impl State {
    fn set<'a>(&mut self, levels: impl Iterator<Item = &'a Arc<Level>>) {
        self.levels.values_mut().for_each(|room| room.current = false);
        let mut total: u64 = 0;
        for level in levels {
            let room = self.levels.entry(level.name.clone()).or_default();
            (room.current, room.limited) = (true, level.limited);
            total += level.limited.map_or(0, |limited| u64::from(limited.shares));
        }
        self.levels.retain(|_, room| room.current || room.executing > 0 || room.waiting > 0);
        let seats = u64::from(self.seats);
        for room in self.levels.values_mut().filter(|room| room.current) {
            let Some(limited) = room.limited else { continue };
            // Rounded up, so that a level with shares has a seat.
            room.nominal = (seats * u64::from(limited.shares)).div_ceil(total.max(1)) as u32;
            room.lendable = (u64::from(room.nominal) * u64::from(limited.lendable_percent) / 100) as u32;
            let borrowed = |percent: u32| u64::from(room.nominal) * u64::from(percent) / 100;
            let most = limited
                .borrowing_percent
                .map_or(seats, |percent| u64::from(room.nominal) + borrowed(percent));
            room.most = u32::try_from(most).unwrap_or(u32::MAX).max(room.nominal);
        }
        let names: Vec<Arc<str>> = self.levels.keys().cloned().collect();
        for name in names {
            self.dispatch(&name);
        }
    }

    /// Whether a level may have one more at work.
    fn has_room(&self, level: &str) -> bool {
        let Some(room) = self.levels.get(level) else { return true };
        if room.limited.is_none() || room.executing < room.nominal {
            return true;
        }
        if room.executing >= room.most {
            return false;
        }
        let borrowed: u32 = self.levels.values().map(|r| r.executing.saturating_sub(r.nominal)).sum();
        let lent: u32 =
            self.levels.iter().filter(|(n, _)| &***n != level).map(|(_, r)| r.idle_lendable()).sum();
        borrowed < lent
    }

    /// `Some`: wait for this.
    fn enter(
        &mut self,
        level: &Arc<str>,
        schema: &Arc<str>,
        flow: String,
    ) -> Result<Option<oneshot::Receiver<()>>, Refusal> {
        let free = self.has_room(level);
        let room = self.levels.entry(level.clone()).or_default();
        if free && room.waiting == 0 {
            room.executing += 1;
            *room.dispatched.entry(schema.clone()).or_default() += 1;
            return Ok(None);
        }
        let Some((in_flow, in_level)) = room.limited.and_then(|limited| limited.queue) else {
            return Err(Refusal::ConcurrencyLimit);
        };
        let at = room.flows.iter().position(|f| f.schema == *schema && f.key == flow);
        let length = at.map_or(0, |at| room.flows[at].waiters.len());
        if length >= in_flow || room.waiting >= in_level {
            return Err(Refusal::QueueFull);
        }
        let (sender, receiver) = oneshot::channel();
        match at {
            Some(at) => room.flows[at].waiters.push_back(sender),
            None => {
                room.flows.push_back(Flow { schema: schema.clone(), key: flow, waiters: [sender].into() })
            }
        }
        room.waiting += 1;
        // With room for the first of those who waited, it is their turn.
        self.dispatch(level);
        Ok(Some(receiver))
    }

    fn refuse(&mut self, level: &Arc<str>, schema: &Arc<str>, refusal: Refusal) {
        if let Some(room) = self.levels.get_mut(level) {
            *room.rejected.entry((schema.clone(), refusal)).or_default() += 1;
        }
    }

    /// Gives free seats to those who wait: in this level first, then where seats were lent from it.
    fn dispatch(&mut self, level: &Arc<str>) {
        self.dispatch_in(level);
        let others: Vec<Arc<str>> =
            self.levels.iter().filter(|(_, room)| room.waiting > 0).map(|(name, _)| name.clone()).collect();
        for other in others {
            self.dispatch_in(&other);
        }
    }

    fn dispatch_in(&mut self, level: &Arc<str>) {
        while self.levels.get(level).is_some_and(|room| room.waiting > 0) && self.has_room(level) {
            let Some(room) = self.levels.get_mut(level) else { return };
            let Some(mut flow) = room.flows.pop_front() else { return };
            if let Some(waiter) = flow.waiters.pop_front() {
                room.waiting -= 1;
                if waiter.send(()).is_ok() {
                    room.executing += 1;
                    *room.dispatched.entry(flow.schema.clone()).or_default() += 1;
                }
            }
            if !flow.waiters.is_empty() {
                room.flows.push_back(flow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn level(name: &str, shares: u32, lendable_percent: u32, queue: Option<(usize, usize)>) -> Arc<Level> {
        let limited = Limited { shares, lendable_percent, borrowing_percent: None, queue };
        Arc::new(Level { name: name.into(), uid: None, limited: Some(limited) })
    }

    fn counts(levels: &Levels, name: &str) -> (u32, usize) {
        let state = levels.lock();
        let room = &state.levels[name];
        (room.executing, room.waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn seats_and_queues() {
        let levels = Levels::new(4);
        let (busy, lender) = (level("busy", 1, 0, Some((2, 3))), level("lender", 1, 50, None));
        levels.set([&busy, &lender].into_iter());
        let schema: Arc<str> = "s".into();
        let enter = |name: &str, flow: &str| {
            let (levels, level, schema, flow) =
                (levels.clone(), Arc::from(name), schema.clone(), flow.to_owned());
            tokio::spawn(async move { levels.enter(&level, &schema, flow, PATIENCE).await })
        };
        // Two of its own, one borrowed.
        let mut seats = Vec::new();
        for _ in 0..3 {
            seats.push(enter("busy", "a").await.unwrap().ok().unwrap());
        }
        // The lender has the other half, and refuses beyond it.
        let lent = enter("lender", "x").await.unwrap().ok().unwrap();
        let own = enter("lender", "x").await.unwrap().ok().unwrap();
        assert_eq!(enter("lender", "x").await.unwrap().err(), Some(Refusal::ConcurrencyLimit));
        // Two of one flow may wait, three in all.
        let waiting = [enter("busy", "a"), enter("busy", "a")];
        tokio::task::yield_now().await;
        assert_eq!(enter("busy", "a").await.unwrap().err(), Some(Refusal::QueueFull));
        let other = enter("busy", "b");
        tokio::task::yield_now().await;
        assert_eq!(enter("busy", "c").await.unwrap().err(), Some(Refusal::QueueFull));
        assert_eq!(counts(&levels, "busy"), (3, 3));
        // Nothing is left to borrow, so the first seat given back is not given on; the second is.
        drop(seats.pop());
        assert_eq!(counts(&levels, "busy"), (2, 3));
        drop(seats.pop());
        let [first, second] = waiting;
        let first = first.await.unwrap().ok().unwrap();
        assert_eq!(counts(&levels, "busy"), (2, 2));
        // Flows take turns: b, though a's second came before it.
        drop(seats.pop());
        let turn = other.await.unwrap().ok().unwrap();
        assert!(!second.is_finished());
        // Who goes away while waiting leaves nothing behind.
        second.abort();
        let _ = second.await;
        assert_eq!(counts(&levels, "busy"), (2, 0));
        // The end of patience.
        let late = enter("busy", "a");
        assert_eq!(late.await.unwrap().err(), Some(Refusal::TimeOut));
        drop((first, turn, lent, own));
        assert_eq!((counts(&levels, "busy"), counts(&levels, "lender")), ((0, 0), (0, 0)));
        let mut text = String::new();
        levels.write_metrics(&mut text);
        for line in [
            "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"busy\"} 2\n",
            "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"s\",priority_level=\"busy\"} 5\n",
            "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"s\",priority_level=\"busy\",reason=\"queue-full\"} 2\n",
            "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"s\",priority_level=\"busy\",reason=\"time-out\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        // A level without a configuration goes.
        levels.set([&lender].into_iter());
        assert!(!levels.lock().levels.contains_key("busy"));
    }
}
