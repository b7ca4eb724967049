//! The seats of the priority levels, and who waits for one.
//!
//! A level may use its nominal seats (its part of all, by shares), and beyond them what others lend and do not
//! use. What waits, waits in the level's [`Queues`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::classify::{Level, Limited};
use super::dump::heads;
use super::queues::{Queues, Waiter};

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
    /// Seats.
    executing: u32,
    requests: u32,
    waiting: usize,
    queues: Queues,
    dispatched: BTreeMap<Arc<str>, u64>,
    rejected: BTreeMap<(Arc<str>, Refusal), u64>,
    /// Their clients went away while they waited.
    cancelled: u64,
}

/// The right to be worked on: one or more seats. Given back when dropped.
pub struct Seat {
    levels: Levels,
    level: Arc<str>,
    width: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.levels.lock();
        if let Some(room) = state.levels.get_mut(&self.level) {
            room.leave(self.width);
        }
        state.dispatch(&self.level);
    }
}

/// Who asks for seats.
pub struct Claim<'a> {
    pub level: &'a Arc<str>,
    pub schema: &'a Arc<str>,
    pub flow: String,
    /// How many seats; a level may give less.
    pub width: u32,
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

    /// Seats in a level, now or when they are free.
    pub async fn enter(&self, claim: Claim<'_>, patience: Duration) -> Result<Seat, Refusal> {
        let (level, schema) = (claim.level, claim.schema);
        let (turn, width) = {
            let mut state = self.lock();
            match state.enter(claim) {
                Ok(turn) => turn,
                Err(refusal) => {
                    state.refuse(level, schema, refusal);
                    return Err(refusal);
                }
            }
        };
        let seat = || Seat { levels: self.clone(), level: level.clone(), width };
        let Some(mut turn) = turn else { return Ok(seat()) };
        // A request whose client goes away while it waits leaves a waiter that is skipped, or seats that were
        // just given to it: `abandoned` gives those back.
        let mut abandoned = Abandoned { levels: self, level, width, turn: &mut turn, late: false };
        let waited = timeout(patience, &mut *abandoned.turn).await;
        match waited {
            Ok(Ok(())) => {
                std::mem::forget(abandoned);
                Ok(seat())
            }
            _ => {
                abandoned.late = true;
                drop(abandoned);
                self.lock().refuse(level, schema, Refusal::TimeOut);
                Err(Refusal::TimeOut)
            }
        }
    }

    /// One of upstream's debugging tables.
    pub fn dump(&self, what: &str) -> Option<Vec<Vec<String>>> {
        let state = self.lock();
        let levels = || state.levels.iter();
        Some(match what {
            "dump_priority_levels" => {
                let names = [
                    "PriorityLevelName",
                    "ActiveQueues",
                    "IsIdle",
                    "IsQuiescing",
                    "WaitingRequests",
                    "ExecutingRequests",
                    "DispatchedRequests",
                    "RejectedRequests",
                    "TimedoutRequests",
                    "CancelledRequests",
                ];
                let row = |(name, room): (&Arc<str>, &Room)| {
                    let refused = |late: bool| -> u64 {
                        let counts =
                            room.rejected.iter().filter(|((_, why), _)| (*why == Refusal::TimeOut) == late);
                        counts.map(|(_, n)| n).sum()
                    };
                    vec![
                        name.to_string(),
                        room.queues.iter().filter(|queue| !queue.waiters.is_empty()).count().to_string(),
                        (room.requests == 0 && room.waiting == 0).to_string(),
                        (!room.current).to_string(),
                        room.waiting.to_string(),
                        room.requests.to_string(),
                        room.dispatched.values().sum::<u64>().to_string(),
                        refused(false).to_string(),
                        refused(true).to_string(),
                        room.cancelled.to_string(),
                    ]
                };
                std::iter::once(heads(&names)).chain(levels().map(row)).collect()
            }
            "dump_queues" => {
                let names = [
                    "PriorityLevelName",
                    "Index",
                    "PendingRequests",
                    "NextDispatchR",
                    "InitialSeatsSum",
                    "MaxSeatsSum",
                ];
                let rows = levels().flat_map(|(name, room)| {
                    room.queues.iter().enumerate().map(move |(at, queue)| {
                        let seats = queue.seats().to_string();
                        vec![
                            name.to_string(),
                            at.to_string(),
                            queue.waiters.len().to_string(),
                            format!("{}ss", queue.next()),
                            seats.clone(),
                            seats,
                        ]
                    })
                });
                std::iter::once(heads(&names)).chain(rows).collect()
            }
            "dump_requests" => {
                let names = [
                    "PriorityLevelName",
                    "FlowSchemaName",
                    "QueueIndex",
                    "RequestIndexInQueue",
                    "FlowDistingsher",
                    "InitialSeats",
                ];
                let rows = levels().flat_map(|(name, room)| {
                    room.queues.iter().enumerate().flat_map(move |(at, queue)| {
                        queue.waiters.iter().enumerate().map(move |(place, waiter)| {
                            vec![
                                name.to_string(),
                                waiter.schema.to_string(),
                                at.to_string(),
                                place.to_string(),
                                waiter.flow.clone(),
                                waiter.width.to_string(),
                            ]
                        })
                    })
                });
                std::iter::once(heads(&names)).chain(rows).collect()
            }
            _ => return None,
        })
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
            &format!("{P}current_limit_seats"),
            "gauge",
            "[ALPHA] current derived number of execution seats available to each priority level",
            gauges(&|room| room.limited.is_some().then(|| u64::from(room.nominal))),
        );
        family(
            &format!("{P}current_executing_requests"),
            "gauge",
            "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
            gauges(&|room| Some(u64::from(room.requests))),
        );
        family(
            &format!("{P}current_inqueue_seats"),
            "gauge",
            "[ALPHA] Number of seats currently pending in queues of the API Priority and Fairness subsystem",
            gauges(&|room| Some(room.queues.iter().map(|queue| u64::from(queue.seats())).sum())),
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
    width: u32,
    turn: &'a mut oneshot::Receiver<()>,
    /// It waited to the end of its patience.
    late: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let mut state = self.levels.lock();
        self.turn.close();
        let given = self.turn.try_recv().is_ok();
        let Some(room) = state.levels.get_mut(self.level) else { return };
        if !self.late {
            room.cancelled += 1;
        }
        if given {
            // It got its seats in the same moment.
            room.leave(self.width);
            state.dispatch(self.level);
        } else {
            room.queues.forget_the_gone();
            room.waiting = room.queues.waiting();
        }
    }
}

impl Room {
    fn leave(&mut self, width: u32) {
        self.executing = self.executing.saturating_sub(width);
        self.requests = self.requests.saturating_sub(1);
    }

    fn begin(&mut self, schema: &Arc<str>, width: u32) {
        self.executing += width;
        self.requests += 1;
        *self.dispatched.entry(schema.clone()).or_default() += 1;
    }

    /// What one request may take at most: 15 % of the nominal seats, and not more than its part of a hand
    /// (upstream's `MaxSeatsTracker`).
    fn widest(&self) -> u32 {
        let Some(limited) = self.limited else { return 1 };
        let hand = limited.queue.map_or(1, |queuing| u32::try_from(queuing.hand).unwrap_or(u32::MAX).max(1));
        (self.nominal * 15).div_ceil(100).min(self.nominal / hand).max(1)
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

    /// Whether a level may have one more request of so many seats at work.
    fn has_room(&self, level: &str, width: u32) -> bool {
        let Some(room) = self.levels.get(level) else { return true };
        let wanted = room.executing.saturating_add(width);
        if room.limited.is_none() || wanted <= room.nominal {
            return true;
        }
        if wanted > room.most {
            // Who asks for more than there is gets it alone, but where nothing is there is nothing.
            return room.most > 0 && room.executing == 0;
        }
        let borrowed: u32 = self.levels.values().map(|r| r.executing.saturating_sub(r.nominal)).sum();
        let lent: u32 =
            self.levels.iter().filter(|(n, _)| &***n != level).map(|(_, r)| r.idle_lendable()).sum();
        borrowed + (wanted - room.nominal.max(room.executing)) <= lent
    }

    /// How many seats, and what to wait for if it is not at once.
    fn enter(&mut self, claim: Claim<'_>) -> Result<(Option<oneshot::Receiver<()>>, u32), Refusal> {
        let (level, schema) = (claim.level, claim.schema);
        let width = match claim.width {
            0 | 1 => 1,
            wide => wide.min(self.levels.get(level).map_or(1, Room::widest)),
        };
        let free = self.has_room(level, width);
        let room = self.levels.entry(level.clone()).or_default();
        if free && room.waiting == 0 {
            room.begin(schema, width);
            return Ok((None, width));
        }
        let Some(queuing) = room.limited.and_then(|limited| limited.queue) else {
            return Err(Refusal::ConcurrencyLimit);
        };
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { schema: schema.clone(), flow: claim.flow, width, turn: sender };
        room.queues.push(&queuing, waiter).map_err(|_| Refusal::QueueFull)?;
        room.waiting += 1;
        // With room for the first of those who waited, it is their turn.
        self.dispatch(level);
        Ok((Some(receiver), width))
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
        loop {
            let Some(width) = self.levels.get(level).and_then(|room| room.queues.next_width()) else {
                return;
            };
            if !self.has_room(level, width) {
                return;
            }
            let Some(room) = self.levels.get_mut(level) else { return };
            let Some(waiter) = room.queues.pop() else { return };
            room.waiting -= 1;
            if waiter.turn.send(()).is_ok() {
                room.begin(&waiter.schema, waiter.width);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::classify::Queuing;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn level(name: &str, shares: u32, lendable_percent: u32, queue: Option<Queuing>) -> Arc<Level> {
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
        let (busy, lender) = (
            level("busy", 1, 0, Some(Queuing { queues: 1, hand: 1, length: 3 })),
            level("lender", 1, 50, None),
        );
        levels.set([&busy, &lender].into_iter());
        let schema: Arc<str> = "s".into();
        let enter = |name: &str, flow: &str| {
            let (levels, level, schema, flow) =
                (levels.clone(), Arc::from(name), schema.clone(), flow.to_owned());
            tokio::spawn(async move {
                let claim = Claim { level: &level, schema: &schema, flow, width: 1 };
                levels.enter(claim, PATIENCE).await
            })
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
        // Three may wait.
        let waiting = [enter("busy", "a"), enter("busy", "a")];
        tokio::task::yield_now().await;
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
        // Who goes away while waiting leaves nothing behind.
        second.abort();
        let _ = second.await;
        assert_eq!(counts(&levels, "busy"), (2, 1));
        drop(seats.pop());
        let turn = other.await.unwrap().ok().unwrap();
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
            "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"s\",priority_level=\"busy\",reason=\"queue-full\"} 1\n",
            "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"s\",priority_level=\"busy\",reason=\"time-out\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        let dumped = super::super::dump::table(&levels.dump("dump_priority_levels").unwrap());
        let line = "busy,              0,            true,   false,       0,               0,                 5,                  1,                1,                1";
        assert_eq!(dumped.lines().nth(1), Some(line), "{dumped}");
        // A level without a configuration goes.
        levels.set([&lender].into_iter());
        assert!(!levels.lock().levels.contains_key("busy"));
    }

    #[tokio::test(start_paused = true)]
    async fn wide_requests() {
        let levels = Levels::new(40);
        let queuing = Some(Queuing { queues: 1, hand: 1, length: 9 });
        levels.set([&level("l", 1, 0, queuing)].into_iter());
        let (name, schema): (Arc<str>, Arc<str>) = ("l".into(), "s".into());
        let enter = |width| {
            let (levels, name, schema) = (levels.clone(), name.clone(), schema.clone());
            tokio::spawn(async move {
                let claim = Claim { level: &name, schema: &schema, flow: String::new(), width };
                levels.enter(claim, PATIENCE).await
            })
        };
        // 15 % of 40: nobody gets more than 6 at once, so the seventh waits, and whoever comes behind it too.
        let mut seats = Vec::new();
        for (width, executing) in [(10, 6), (10, 12), (3, 15), (10, 21), (10, 27), (10, 33), (5, 38)] {
            seats.push(enter(width).await.unwrap().ok().unwrap());
            assert_eq!(counts(&levels, "l"), (executing, 0));
        }
        let (wide, narrow) = (enter(10), enter(1));
        tokio::task::yield_now().await;
        assert_eq!(counts(&levels, "l"), (38, 2));
        drop(seats.remove(0));
        let (wide, narrow) = (wide.await.unwrap().ok().unwrap(), narrow.await.unwrap().ok().unwrap());
        assert_eq!(counts(&levels, "l"), (39, 0));
        drop((seats, wide, narrow));
        assert_eq!(counts(&levels, "l"), (0, 0));
    }
}
