//! The ways to enter and leave a context, with the same hooks in each; `aioxide-compare` times them too.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use aioxide::{actxmgr, group};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};

async fn setup(seed: u64) -> io::Result<u64> {
    Ok(black_box(seed))
}

async fn teardown(value: u64, success: bool) -> io::Result<()> {
    black_box((value, success));
    Ok(())
}

#[actxmgr]
async fn context(seed: u64) -> io::Result<u64> {
    let value = setup(seed).await?;
    let (value, exit) = yield_(value).await;
    teardown(value, exit.is_success()).await
}

#[async_trait]
trait Hooks {
    async fn enter(&self) -> io::Result<u64>;
    async fn exit(&self, value: u64, success: bool) -> io::Result<()>;
}

struct Seed(u64);

#[async_trait]
impl Hooks for Seed {
    async fn enter(&self) -> io::Result<u64> {
        setup(self.0).await
    }

    async fn exit(&self, value: u64, success: bool) -> io::Result<()> {
        teardown(value, success).await
    }
}

fn hooks(seed: u64) -> Box<dyn Hooks + Send + Sync> {
    Box::new(Seed(seed))
}

pub(crate) async fn hand_written(seed: u64) -> io::Result<()> {
    let mut value = setup(seed).await?;
    value += 1;
    teardown(value, true).await
}

pub(crate) async fn boxed_hooks(seed: u64) -> io::Result<()> {
    let hooks = hooks(seed);
    let mut value = hooks.enter().await?;
    value += 1;
    hooks.exit(value, true).await
}

pub(crate) async fn aioxide_guard(seed: u64) -> io::Result<()> {
    let mut value = context(seed).await?;
    *value += 1;
    value.exit().await
}

/// Suspended while it is entered.
pub(crate) async fn suspended_boxed_hooks(seed: u64) -> io::Result<()> {
    let hooks = hooks(seed);
    let mut value = hooks.enter().await?;
    tokio::task::yield_now().await;
    value += 1;
    hooks.exit(value, true).await
}

/// Suspended while it is entered.
pub(crate) async fn suspended_guard(seed: u64) -> io::Result<()> {
    let mut value = context(seed).await?;
    tokio::task::yield_now().await;
    *value += 1;
    value.exit().await
}

pub(crate) async fn aioxide_with(seed: u64) -> io::Result<()> {
    context(seed)
        .with(async |value| {
            *value += 1;
            Ok::<_, io::Error>(())
        })
        .await
}

pub(crate) async fn guarden_guard(seed: u64) -> io::Result<()> {
    let value = setup(seed).await?;
    let mut guard = guarden::guard!(export(wrapped) [value = value] async move {
        teardown(value, true).await
    });
    guard.value += 1;
    guard.trigger().await
}

/// The teardown is lost when it is cancelled: a stream does nothing when it is dropped.
pub(crate) async fn one_yield_stream(seed: u64) -> io::Result<()> {
    let stream = async_stream::try_stream! {
        let value = setup(seed).await?;
        yield value;
        teardown(value, true).await?;
    };
    let mut stream: std::pin::Pin<Box<dyn futures_util::Stream<Item = io::Result<u64>> + Send>> =
        Box::pin(stream);
    let mut value = stream.next().await.expect("it yields")?;
    value += 1;
    black_box(value);
    match stream.next().await {
        Some(Err(error)) => Err(error),
        _ => Ok(()),
    }
}

pub(crate) async fn task_per_context(seed: u64) -> io::Result<()> {
    let (leave, left) = tokio::sync::oneshot::channel::<u64>();
    let (enter, entered) = tokio::sync::oneshot::channel::<u64>();
    let task = tokio::spawn(async move {
        let value = setup(seed).await?;
        let _ = enter.send(value);
        match left.await {
            Ok(value) => teardown(value, true).await,
            Err(_) => teardown(0, false).await,
        }
    });
    let mut value = entered.await.map_err(io::Error::other)?;
    value += 1;
    let _ = leave.send(value);
    task.await.map_err(io::Error::other)?
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(crate) fn timed<F: Future<Output = io::Result<()>>>(
    runtime: &Runtime,
    iterations: u64,
    once: impl Fn(u64) -> F,
) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        for seed in 0..iterations {
            once(seed).await.expect("no hook fails");
        }
        start.elapsed()
    })
}

pub(crate) const MEMBERS: u64 = 1000;

pub(crate) async fn join_all_of_boxed_hooks(seed: u64) -> io::Result<()> {
    let hooks: Vec<_> = (0..MEMBERS).map(|n| hooks(seed + n)).collect();
    let values = join_all(hooks.iter().map(|hooks| hooks.enter())).await;
    let left = hooks
        .iter()
        .zip(values)
        .map(|(hooks, value)| async move { hooks.exit(value?, true).await });
    join_all(left).await.into_iter().collect()
}

pub(crate) async fn aioxide_group(seed: u64) -> io::Result<()> {
    let values = group((0..MEMBERS).map(|n| context(seed + n))).await?;
    values.exit().await
}
