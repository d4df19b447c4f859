//! The tasks that a worker is waited for, and where they were spawned.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Tasks that a worker is waited for before it ends, from [`Worker::tasks`](crate::Worker::tasks).
///
/// It is a [`TaskTracker`] that knows where its tasks were spawned, for the log to say which of them were cut. Those
/// that are tracked by other methods of a `TaskTracker` than these three are waited for too, but have no place.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    running: Arc<Running>,
}

/// How many tasks run that were spawned at a place.
#[derive(Debug, Default)]
struct Running(Mutex<BTreeMap<&'static Location<'static>, usize>>);

impl Tasks {
    /// Spawns a task on the current runtime: [`TaskTracker::spawn`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[track_caller]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let place = self.place();
        self.tracker.spawn(async move {
            let _place = place;
            task.await
        })
    }

    /// Spawns a task that need not be `Send` on the worker's event loop: [`TaskTracker::spawn_local`].
    ///
    /// # Panics
    ///
    /// Outside a worker's own code, where there is no event loop to spawn on.
    #[track_caller]
    pub fn spawn_local<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let place = self.place();
        self.tracker.spawn_local(async move {
            let _place = place;
            task.await
        })
    }

    /// Runs blocking code in a thread for such: [`TaskTracker::spawn_blocking`]. Once it has begun nothing ends it; a
    /// worker that is at its deadline leaves it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, task: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.place();
        self.tracker.spawn_blocking(move || {
            let _place = place;
            task()
        })
    }

    /// Where those that run were spawned.
    pub(super) fn places(&self) -> impl fmt::Display {
        let running = self.running.lock();
        let mut places: Vec<String> = running
            .iter()
            .map(|(place, tasks)| match tasks {
                1 => place.to_string(),
                tasks => format!("{place} ({tasks})"),
            })
            .collect();
        let elsewhere = self.tracker.len().saturating_sub(running.values().sum());
        if elsewhere > 0 {
            places.push(format!("unknown ({elsewhere})"));
        }
        places.join(", ")
    }

    #[track_caller]
    fn place(&self) -> Place {
        let place = Location::caller();
        *self.running.lock().entry(place).or_default() += 1;
        Place {
            place,
            running: Arc::clone(&self.running),
        }
    }
}

impl Deref for Tasks {
    type Target = TaskTracker;

    fn deref(&self) -> &TaskTracker {
        &self.tracker
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static Location<'static>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by a task for as long as it lasts.
struct Place {
    place: &'static Location<'static>,
    running: Arc<Running>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if let Some(tasks) = running.get_mut(self.place) {
            *tasks -= 1;
            if *tasks == 0 {
                running.remove(self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::task::LocalSet;

    #[tokio::test]
    async fn it_knows_where_what_runs_was_spawned() {
        let tasks = Tasks::default();
        let line = line!() + 2;
        let spawned: Vec<_> = (0..2)
            .map(|_| tasks.spawn(std::future::pending::<()>()))
            .collect();
        assert_eq!(tasks.spawn(async { 5 }).await.unwrap(), 5);
        assert_eq!(tasks.spawn_blocking(|| 6).await.unwrap(), 6);
        let tracked = tasks.track_future(std::future::pending::<()>());
        let text = tasks.places().to_string();
        let place = format!("tasks.rs:{line}:");
        assert!(text.contains(&place), "{text}");
        assert!(text.ends_with(" (2), unknown (1)"), "{text}");

        drop(tracked);
        for task in spawned {
            task.abort();
        }
        tasks.close();
        tasks.wait().await;
        assert_eq!(tasks.places().to_string(), "");
    }

    #[tokio::test]
    async fn a_task_of_the_event_loop_has_its_place() {
        let tasks = Tasks::default();
        let local = LocalSet::new();
        let _inside = local.enter();
        let task = tasks.spawn_local(std::future::pending::<()>());
        assert!(tasks.places().to_string().contains("tasks.rs:"));
        task.abort();
        drop(_inside);
        drop(local);
        assert_eq!(tasks.places().to_string(), "");
    }
}
