//! The queues of a level: a flow is dealt a hand of them by its name and waits in the shortest (KEP-1040, shuffle
//! sharding), and the queues take turns by the seats that they were given. No clock: virtual time goes by seats.

use std::collections::VecDeque;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::classify::Queuing;

/// Who waits.
pub struct Waiter {
    pub schema: Arc<str>,
    pub flow: String,
    /// Seats.
    pub width: u32,
    pub turn: oneshot::Sender<()>,
}

#[derive(Default)]
pub struct Queue {
    pub waiters: VecDeque<Waiter>,
    /// When its first waiter's turn begins, in seats given before.
    next: u64,
}

#[derive(Default)]
pub struct Queues {
    queues: Vec<Queue>,
    /// The beginning of the latest turn.
    now: u64,
}

/// The queues of a flow, upstream's `shufflesharding` over the same hash.
fn deal(queuing: &Queuing, schema: &str, flow: &str) -> Vec<usize> {
    let digest = Sha256::new().chain_update(schema).chain_update([0]).chain_update(flow).finalize();
    let mut hash = digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (deck, hand) = (queuing.queues.max(1), queuing.hand.clamp(1, queuing.queues.max(1)));
    let mut remainders: Vec<usize> = Vec::with_capacity(hand);
    let mut cards = Vec::with_capacity(hand);
    for dealt in 0..hand {
        let left = (deck - dealt) as u64;
        let mut card = (hash % left) as usize;
        hash /= left;
        remainders.push(card);
        for before in remainders.iter().take(dealt).rev() {
            if card >= *before {
                card += 1;
            }
        }
        cards.push(card);
    }
    cards
}

impl Queues {
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.waiters.len()).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter()
    }

    /// Puts somebody at the end of the shortest queue of the flow's hand.
    ///
    /// # Errors
    /// Even that one is full.
    pub fn push(&mut self, queuing: &Queuing, waiter: Waiter) -> Result<(), Waiter> {
        let wanted = queuing.queues.max(1);
        if self.queues.len() < wanted {
            self.queues.resize_with(wanted, Queue::default);
        }
        let seats = |at: usize| -> u32 {
            self.queues.get(at).map_or(0, |queue| queue.waiters.iter().map(|waiter| waiter.width).sum())
        };
        let shortest = deal(queuing, &waiter.schema, &waiter.flow).into_iter().min_by_key(|at| seats(*at));
        let now = self.now;
        match shortest.and_then(|at| self.queues.get_mut(at)) {
            Some(queue) if queue.waiters.len() < queuing.length => {
                if queue.waiters.is_empty() {
                    // Nobody saves up turns by being away.
                    queue.next = queue.next.max(now);
                }
                queue.waiters.push_back(waiter);
                Ok(())
            }
            _ => Err(waiter),
        }
    }

    fn first(&self) -> Option<usize> {
        let waits = self.queues.iter().enumerate().filter(|(_, queue)| !queue.waiters.is_empty());
        let ends = |queue: &Queue| queue.next + queue.waiters.front().map_or(0, |w| u64::from(w.width));
        waits.min_by_key(|(at, queue)| (ends(queue), *at)).map(|(at, _)| at)
    }

    /// The seats of whoever is next.
    pub fn next_width(&self) -> Option<u32> {
        self.queues.get(self.first()?)?.waiters.front().map(|waiter| waiter.width)
    }

    /// Takes whoever is next out: of the queues, the one whose turn would end first.
    pub fn pop(&mut self) -> Option<Waiter> {
        let queue = self.first().and_then(|at| self.queues.get_mut(at))?;
        let waiter = queue.waiters.pop_front()?;
        self.now = self.now.max(queue.next);
        queue.next += u64::from(waiter.width);
        Some(waiter)
    }

    pub fn forget_the_gone(&mut self) {
        for queue in &mut self.queues {
            queue.waiters.retain(|waiter| !waiter.turn.is_closed());
        }
    }
}

impl Queue {
    pub fn seats(&self) -> u32 {
        self.waiters.iter().map(|waiter| waiter.width).sum()
    }

    pub fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands() {
        for (queues, hand) in [(64, 6), (128, 8), (3, 3), (1, 1)] {
            let queuing = Queuing { queues, hand, length: 1 };
            for flow in ["", "jane", "system:node:a"] {
                let mut cards = deal(&queuing, "s", flow);
                assert_eq!(cards, deal(&queuing, "s", flow));
                cards.sort_unstable();
                cards.dedup();
                assert!(cards.len() == hand && cards.iter().all(|card| *card < queues), "{cards:?}");
            }
        }
    }

    #[test]
    fn turns_go_by_seats() {
        let queuing = Queuing { queues: 2, hand: 1, length: 3 };
        let mut queues = Queues::default();
        let mut push = |flow: &str, width| {
            let turn = oneshot::channel().0;
            queues.push(&queuing, Waiter { schema: "s".into(), flow: flow.into(), width, turn }).is_ok()
        };
        // Two flows in different queues: one asks for much, the other for little.
        let of = |flow: &str| deal(&queuing, "s", flow).first().copied();
        let little = (0..).map(|n| n.to_string()).find(|name| of(name) != of("much")).unwrap();
        let table: [(&str, u32, bool); 7] = [
            ("much", 4, true),
            ("much", 4, true),
            ("much", 4, true),
            ("much", 1, false),
            (&little, 1, true),
            (&little, 1, true),
            (&little, 1, true),
        ];
        for (flow, width, taken) in table {
            assert_eq!(push(flow, width), taken);
        }
        assert_eq!((queues.waiting(), queues.next_width()), (6, Some(1)));
        let order: Vec<u32> = std::iter::from_fn(|| queues.pop()).map(|waiter| waiter.width).collect();
        assert_eq!(order, [1, 1, 1, 4, 4, 4]);
    }
}
