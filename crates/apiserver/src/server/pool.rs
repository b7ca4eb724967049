//! Memory of requests in flight, used again.
//!
//! The future of a request is some kilobytes, whatever it does. Asking the allocator for that much, and moving it
//! from hand to hand, costs as much as reading an object; so it stays in one place, and the place is used by one
//! request after the other.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

/// So many places wait for the next request at most; more are given back to the allocator.
const KEPT: usize = 128;

type Place<F> = Pin<Box<Option<F>>>;

/// Places for futures of one type. A clone is the same pool.
pub(super) struct Pool<F>(Arc<Mutex<Vec<Place<F>>>>);

impl<F> Clone for Pool<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F> Default for Pool<F> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<F> Pool<F> {
    fn lock(&self) -> MutexGuard<'_, Vec<Place<F>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same future, in a place of the pool.
    pub(super) fn put(&self, future: F) -> Placed<F> {
        let free = self.lock().pop();
        let mut place = free.unwrap_or_else(|| Box::pin(None));
        place.set(Some(future));
        Placed { place: Some(place), pool: self.clone() }
    }
}

/// A future in a place of a [`Pool`]; the place goes back when this is dropped.
pub(super) struct Placed<F> {
    place: Option<Place<F>>,
    pool: Pool<F>,
}

impl<F: Future> Future for Placed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.place.as_mut().and_then(|place| place.as_mut().as_pin_mut()) {
            Some(future) => future.poll(cx),
            // Only its drop takes the place away.
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Placed<F> {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        // Before the lock: what it holds may take its time to go.
        place.set(None);
        let mut free = self.pool.lock();
        if free.len() < KEPT {
            free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_used_again() {
        let pool = Pool::default();
        let held = Arc::new(());
        let work = async |number: usize, held: Arc<()>| {
            tokio::task::yield_now().await;
            number + Arc::strong_count(&held)
        };
        for number in 0..3 {
            assert_eq!(pool.put(work(number, held.clone())).await, number + 2);
            assert_eq!(pool.lock().len(), 1);
        }
        // One that never ends, and more than are kept.
        let many: Vec<_> = (0..KEPT + 5).map(|number| pool.put(work(number, held.clone()))).collect();
        assert_eq!((pool.lock().len(), Arc::strong_count(&held)), (0, KEPT + 6));
        drop(many);
        assert_eq!((pool.lock().len(), Arc::strong_count(&held)), (KEPT, 1));
    }
}
