//! Ticks that run beside each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Wake, Waker};

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;

/// Futures of which those that have been woken are polled, as in a [`FuturesUnordered`]. That one wakes its task at
/// once where it would rather be polled again, and tokio would then run the task many times before it looks at its
/// clock; so what is woken while this is polled is told to the caller instead.
pub(super) struct Crowd<F> {
    futures: FuturesUnordered<F>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    task: Waker,
    /// The task is polling, and looks at `rung` afterwards.
    silent: AtomicBool,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, SeqCst);
        if !self.silent.load(SeqCst) {
            self.task.wake_by_ref();
        }
    }
}

/// What a poll of a [`Crowd`] gives.
pub(super) enum Next<T> {
    Ended(T),
    /// None has ended that was woken.
    None,
    /// Some were woken and not polled yet. They wake no task: it is up to the caller to poll again.
    Later,
}

impl<F: Future> Crowd<F> {
    pub(super) fn new(task: &Waker) -> Crowd<F> {
        let bell = Arc::new(Bell {
            task: task.clone(),
            silent: AtomicBool::new(false),
            rung: AtomicBool::new(false),
        });
        Crowd {
            futures: FuturesUnordered::new(),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }

    pub(super) fn push(&self, future: F) {
        self.futures.push(future);
    }

    pub(super) fn poll_next(&mut self) -> Next<F::Output> {
        self.bell.silent.store(true, SeqCst);
        let mut next = Next::Later;
        // The second time tells whether there was a reason for the bell.
        for _ in 0..2 {
            self.bell.rung.store(false, SeqCst);
            let mut cx = Context::from_waker(&self.waker);
            match Pin::new(&mut self.futures).poll_next(&mut cx) {
                Poll::Ready(Some(ended)) => next = Next::Ended(ended),
                Poll::Ready(None) => next = Next::None,
                Poll::Pending if self.bell.rung.load(SeqCst) => continue,
                Poll::Pending => next = Next::None,
            }
            break;
        }
        self.bell.silent.store(false, SeqCst);
        match next {
            // Between the look at it and the end of the silence.
            Next::None if self.bell.rung.load(SeqCst) => Next::Later,
            next => next,
        }
    }
}

impl<F> IntoIterator for Crowd<F>
where
    F: Unpin,
{
    type Item = F;
    type IntoIter = <FuturesUnordered<F> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.futures.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    type Boxed = Pin<Box<dyn Future<Output = u8> + Send>>;

    /// A crowd, and how often its task was woken.
    fn crowd() -> (Crowd<Boxed>, Arc<Count>) {
        let wakes = Arc::new(Count::default());
        (Crowd::new(&Waker::from(wakes.clone())), wakes)
    }

    #[test]
    fn one_that_wakes_itself_is_left_for_later_and_wakes_no_task() {
        let (mut crowd, wakes) = crowd();
        crowd.push(Box::pin(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        assert!(matches!(crowd.poll_next(), Next::Later));
        assert_eq!(wakes.0.load(SeqCst), 0);
    }

    #[test]
    fn one_that_waits_wakes_the_task_once_it_is_woken() {
        let (mut crowd, wakes) = crowd();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        crowd.push(Box::pin(async { receiver.await.unwrap() }));
        assert!(matches!(crowd.poll_next(), Next::None));
        assert_eq!(wakes.0.load(SeqCst), 0, "for no reason");
        sender.send(7).unwrap();
        assert_eq!(wakes.0.load(SeqCst), 1);
        assert!(matches!(crowd.poll_next(), Next::Ended(7)));
        assert!(matches!(crowd.poll_next(), Next::None));
    }
}
