//! Every kind of function that `#[actxmgr]` goes on, and its options.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aioxide::teardown::stats;
use aioxide::{Always, Context, Elapsed, Exit, Guard, actxmgr, drain};

const DEADLINE: Duration = Duration::from_secs(20);

type Log = Arc<Mutex<Vec<String>>>;

fn push(log: &Log, entry: impl Display) {
    log.lock().unwrap().push(entry.to_string());
}

fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

struct Pool {
    name: String,
    log: Log,
}

impl Pool {
    #[actxmgr]
    async fn owned(mut self) -> Self {
        self.name.push('!');
        let (this, _) = yield_(self).await;
        push(&this.log, "owned");
    }

    #[actxmgr]
    async fn shared(self: Arc<Self>, n: usize) -> Result<(Arc<Self>, usize), String> {
        let ((this, n), exit) = yield_((Arc::clone(&self), n)).await;
        push(&self.log, format_args!("{} {n} {exit}", this.name));
        Ok(())
    }

    #[actxmgr(borrowed)]
    async fn lent(&self, prefix: &str) -> io::Result<&str> {
        let (name, exit) = yield_(&self.name).await;
        tokio::task::yield_now().await;
        push(&self.log, format_args!("{prefix}{name} {exit}"));
        Ok(())
    }

    #[actxmgr(borrowed)]
    async fn lent_mut(&mut self) -> &mut String {
        let (name, _) = yield_(&mut self.name).await;
        name.push('.');
    }

    #[actxmgr]
    async fn associated(log: Log) -> Pool {
        let (pool, _) = yield_(Self {
            name: "new".into(),
            log,
        })
        .await;
        push(&pool.log, "associated");
    }
}

trait Service: Send + Sync {
    #[actxmgr]
    async fn start(self: Arc<Self>, n: u8) -> io::Result<u8>;

    #[actxmgr(borrowed)]
    async fn look(&self) -> &'static str {
        yield_("default").await;
    }
}

struct One(Log);

impl Service for One {
    #[actxmgr]
    async fn start(self: Arc<Self>, n: u8) -> io::Result<u8> {
        let (n, _) = yield_(n + 1).await;
        push(&self.0, n);
        Ok(())
    }
}

#[actxmgr]
async fn generic<T, const N: usize>(values: [T; N], log: Log) -> Vec<T>
where
    T: Debug + Send + 'static,
{
    let (values, _) = yield_(values.into_iter().collect()).await;
    push(&log, format_args!("{values:?}"));
}

#[actxmgr]
async fn opaque(
    text: impl Into<String> + Send + 'static,
    call: impl Fn(&str) -> usize + Send + 'static,
) -> usize {
    let text: String = text.into();
    yield_(call(&text)).await;
}

#[actxmgr]
async fn patterns(
    (a, mut b): (u32, u32),
    [first, ..]: [u32; 3],
    _: &'static str,
    mut n: u32,
) -> u32 {
    b += 1;
    n += 1;
    yield_(a + b + first + n).await;
}

trait Speak: Send {
    fn speak(&self) -> String;
}

struct Dog;

impl Speak for Dog {
    fn speak(&self) -> String {
        "woof".into()
    }
}

#[actxmgr]
async fn coerced() -> Box<dyn Speak> {
    yield_(Box::new(Dog)).await;
}

#[actxmgr]
async fn in_a_branch(loud: bool) -> Result<&'static str, Box<dyn std::error::Error + Send + Sync>> {
    if loud {
        "7".parse::<u8>()?;
    }
    let exit = match loud {
        true => {
            let (_, exit) = yield_("loud").await;
            exit
        }
        false => return Err("quiet".into()),
    };
    assert_eq!(exit, Exit::Completed);
    "8".parse::<u8>()?;
    Ok(())
}

#[actxmgr(borrowed)]
async fn borrowed_generic<'s, T: AsRef<str> + Send>(text: Cow<'s, str>, other: T) -> usize {
    let (_, _) = yield_(text.len() + other.as_ref().len()).await;
    drop(other);
}

#[tokio::test]
async fn methods_traits_generics_and_patterns() {
    let log = Log::default();
    let pool = Pool {
        name: "pool".into(),
        log: log.clone(),
    };
    let guard = pool.owned().await;
    assert_eq!(guard.name, "pool!");
    guard.exit().await;

    let pool = Arc::new(Pool {
        name: "shared".into(),
        log: log.clone(),
    });
    let guard = pool.shared(3).await.unwrap();
    assert_eq!(guard.1, 3);
    guard.exit().await.unwrap();
    Pool::associated(log.clone()).await.exit().await;
    assert_eq!(take(&log), ["owned", "shared 3 completed", "associated"]);

    let service: Arc<dyn Service> = Arc::new(One(log.clone()));
    assert_eq!(*service.look().await, "default");
    let guard = service.start(1).await.unwrap();
    assert_eq!(*guard, 2);
    guard.exit().await.unwrap();

    generic(["a", "b"], log.clone()).await.exit().await;
    assert_eq!(take(&log), ["2", r#"["a", "b"]"#]);

    assert_eq!(opaque("four", str::len).with(async |n| *n).await, 4);
    assert_eq!(
        patterns((1, 2), [3, 4, 5], "", 6).with(async |n| *n).await,
        14
    );
    assert_eq!(coerced().await.speak(), "woof");
    let guard = in_a_branch(true).await.unwrap();
    guard.exit().await.unwrap();
    assert_eq!(
        in_a_branch(false).await.map(drop).unwrap_err().to_string(),
        "quiet"
    );
}

#[tokio::test]
async fn borrowed_contexts_borrow() {
    let log = Log::default();
    let mut pool = Pool {
        name: "pool".into(),
        log: log.clone(),
    };
    {
        let local = String::from("> ");
        let guard = pool.lent(&local).await.unwrap();
        assert_eq!(*guard, "pool");
        guard.exit().await.unwrap();
        assert_eq!(take(&log), ["> pool completed"]);
    }
    pool.lent_mut().with(async |name| name.push('?')).await;
    assert_eq!(pool.name, "pool?.");
    let text = String::from("abc");
    assert_eq!(*borrowed_generic(Cow::Borrowed(&text), &text).await, 6);
}

#[tokio::test]
async fn a_dropped_borrowed_guard_polls_its_teardown_once() {
    let log = Log::default();
    let before = stats();
    let mut pool = Pool {
        name: "pool".into(),
        log: log.clone(),
    };
    drop(pool.lent_mut().await);
    assert_eq!(pool.name, "pool.", "one poll was enough");
    drop(pool.lent("").await.unwrap());
    assert_eq!(take(&log), [""; 0], "one poll was not enough");
    let after = stats();
    assert!(after.detached >= before.detached + 2);
    assert!(after.abandoned > before.abandoned);
}

/// Tells when it is dropped.
struct Drops(&'static str, Log);

impl Drop for Drops {
    fn drop(&mut self) {
        push(&self.1, self.0);
    }
}

#[allow(unused_variables)]
async fn plain(a: Drops, (b, _): (Drops, Drops), _: Drops, c: Drops) -> Result<(), ()> {
    let local = Drops("local", Arc::clone(&a.1));
    tokio::task::yield_now().await;
    Ok(())
}

#[actxmgr]
#[allow(unused_variables)]
async fn annotated(a: Drops, (b, _): (Drops, Drops), _: Drops, c: Drops) {
    let local = Drops("local", Arc::clone(&a.1));
    yield_().await;
}

#[tokio::test]
async fn arguments_are_dropped_as_in_an_async_fn() {
    let log = Log::default();
    let make = |name| Drops(name, Arc::clone(&log));
    plain(make("a"), (make("b"), make("rest")), make("_"), make("c"))
        .await
        .unwrap();
    let as_async_fn = take(&log);
    let guard = annotated(make("a"), (make("b"), make("rest")), make("_"), make("c")).await;
    assert_eq!(
        take(&log),
        [""; 0],
        "every argument lives until the teardown ends"
    );
    guard.exit().await;
    assert_eq!(take(&log), as_async_fn);
}

#[actxmgr]
async fn suspended_in_its_setup(log: Log) {
    let _local = Drops("local", Arc::clone(&log));
    push(&log, "begun");
    tokio::task::yield_now().await;
    push(&log, "set up");
    yield_().await;
    push(&log, "torn down");
}

#[tokio::test]
async fn a_setup_that_is_given_up_drops_its_locals() {
    let log = Log::default();
    let mut enter = suspended_in_its_setup(log.clone()).enter();
    let polled = std::future::poll_fn(|cx| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut enter).poll(cx).is_pending())
    });
    assert!(polled.await);
    assert_eq!(take(&log), ["begun"]);
    drop(enter);
    assert_eq!(take(&log), ["local"], "at once");
    assert_eq!(drain(DEADLINE).await.completed, 0);
}

#[derive(Debug, PartialEq)]
enum Failure {
    TimedOut(Elapsed),
}

impl From<Elapsed> for Failure {
    fn from(elapsed: Elapsed) -> Self {
        Failure::TimedOut(elapsed)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure::TimedOut(elapsed) = self;
        Display::fmt(elapsed, f)
    }
}

#[actxmgr(setup_timeout = 50ms, teardown_timeout = Duration::from_millis(70))]
async fn bounded(setup: Duration, teardown: Duration, log: Log) -> Result<(), Failure> {
    tokio::time::sleep(setup).await;
    let exit = yield_().await;
    push(&log, exit);
    tokio::time::sleep(teardown).await;
    push(&log, "done");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn setup_and_teardown_are_bounded() {
    let (short, long) = (Duration::from_millis(40), Duration::from_millis(100));
    let log = Log::default();
    bounded(short, short, log.clone())
        .await
        .unwrap()
        .exit()
        .await
        .unwrap();
    assert_eq!(take(&log), ["completed", "done"]);

    let late = bounded(long, short, log.clone())
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(
        late.to_string(),
        "the setup of `bounded` took longer than 50ms"
    );
    let late = bounded(short, long, log.clone())
        .await
        .unwrap()
        .exit()
        .await
        .unwrap_err();
    assert_eq!(
        late.to_string(),
        "the teardown of `bounded` took longer than 70ms"
    );
    assert_eq!(take(&log), ["completed"]);

    let failed = stats().failed;
    drop(bounded(short, long, log.clone()).await.unwrap());
    assert_eq!(drain(DEADLINE).await.completed, 1);
    assert!(stats().failed > failed);
    assert_eq!(take(&log), ["cancelled"]);

    let io = io::Error::from(match late {
        Failure::TimedOut(elapsed) => elapsed,
    });
    assert_eq!(io.kind(), io::ErrorKind::TimedOut);
}

#[actxmgr(setup_timeout = 50ms, finish_setup)]
async fn bounded_and_finished(log: Log) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    push(&log, "set up");
    let exit = yield_().await;
    push(&log, exit);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_setup_is_finished_after_its_timeout() {
    let log = Log::default();
    let late = bounded_and_finished(log.clone()).await.map(drop);
    assert_eq!(
        late.unwrap_err().to_string(),
        "the setup of `bounded_and_finished` took longer than 50ms"
    );
    assert_eq!(take(&log), [""; 0], "it is half-way");
    assert_eq!(drain(DEADLINE).await.completed, 1);
    assert_eq!(take(&log), ["set up", "cancelled"]);
}

#[actxmgr(finish_setup)]
async fn finished(log: Log) -> io::Result<()> {
    push(&log, "begun");
    tokio::task::yield_now().await;
    push(&log, "set up");
    let exit = yield_().await;
    push(&log, exit);
    Ok(())
}

#[tokio::test]
async fn a_setup_is_finished_when_its_caller_is_gone() {
    let log = Log::default();
    let mut enter = Box::pin(finished(log.clone()).enter());
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(enter.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    drop(enter);
    assert_eq!(drain(DEADLINE).await.completed, 1);
    assert_eq!(take(&log), ["begun", "set up", "cancelled"]);

    drop(finished(log.clone()).enter());
    assert_eq!(drain(DEADLINE).await.completed, 0);
    assert_eq!(take(&log), [""; 0], "nothing had begun");
}

mod reexport {
    pub(crate) use ::aioxide as renamed;
}

#[actxmgr(crate = crate::reexport::renamed)]
async fn elsewhere() -> u8 {
    yield_(1).await;
}

#[actxmgr]
async fn successful_too_early(early: bool) -> Result<(), String> {
    if !early {
        yield_().await;
    }
    Ok(())
}

#[tokio::test]
async fn success_before_the_yield_panics_with_the_functions_name() {
    assert_eq!(*elsewhere().await, 1);
    let panic = tokio::spawn(async { successful_too_early(true).await.map(drop) })
        .await
        .unwrap_err()
        .into_panic();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("successful_too_early"), "{text}");
}

/// A value that isn't `Sync`, one that is large, and one of no size.
#[actxmgr]
async fn values() -> (std::cell::Cell<u8>, [u8; 64 * 1024], ()) {
    let ((cell, large, ()), _) = yield_((std::cell::Cell::new(1), [7; 64 * 1024], ())).await;
    assert_eq!((cell.get(), large[65_535]), (2, 9));
}

struct Holder<'a>(&'a str);

#[actxmgr(borrowed)]
async fn holder<'a>(text: &'a str) -> Holder<'a> {
    let (holder, _) = yield_(Holder(text)).await;
    assert_eq!(holder.0.len(), 4);
}

#[tokio::test]
async fn values_of_all_kinds() {
    let task = tokio::spawn(async {
        let mut guard = values().await;
        guard.0.set(2);
        guard.1[65_535] = 9;
        tokio::task::yield_now().await;
        guard.exit().await;
    });
    task.await.unwrap();
    let text = String::from("text");
    holder(&text)
        .with(async |holder| assert_eq!(holder.0, "text"))
        .await;
    let task = tokio::spawn(async {
        let guard = holder("1234").await;
        tokio::task::yield_now().await;
        guard.exit().await;
    });
    task.await.unwrap();
}

struct Door(Log);

impl Door {
    fn exit(&self) -> &'static str {
        push(&self.0, "by the door");
        "out"
    }
}

#[actxmgr]
async fn room(log: Log) -> Door {
    let (door, exit) = yield_(Door(log)).await;
    push(
        &door.0,
        format_args!("{exit} in {:?}", tokio::task::try_id()),
    );
}

#[tokio::test]
async fn a_guard_is_left_by_the_task_that_it_was_moved_to() {
    let log = Log::default();
    let guard = room(log.clone()).await;
    assert_eq!((*guard).exit(), "out");
    assert_eq!(take(&log), ["by the door"], "the value's own method");
    let task = tokio::spawn(async move {
        guard.exit().await;
        tokio::task::try_id()
    });
    let id = task.await.unwrap();
    assert!(id.is_some());
    assert_eq!(take(&log), [format!("completed in {id:?}")]);
}

#[tokio::test]
async fn guards_move_as_values_do() {
    let log = Log::default();
    let mut one = generic([1], log.clone()).await;
    let mut two = generic([2], log.clone()).await;
    std::mem::swap(&mut one, &mut two);
    assert_eq!(*one, [2]);
    tokio::spawn(one.exit()).await.unwrap();
    let thread = std::thread::spawn(move || drop(two));
    thread.join().unwrap();
    drain(DEADLINE).await;
    assert_eq!(take(&log), ["[2]", "[1]"]);

    struct State {
        guard: Guard<Always<Vec<u8>>>,
    }
    let state = Arc::new(State {
        guard: generic([3], log.clone()).await,
    });
    assert_eq!(state.guard.len(), 1);
    let cell = tokio::sync::OnceCell::new();
    cell.get_or_init(|| generic([4], log.clone()).into_future())
        .await;
    drop(state);
    cell.into_inner().unwrap().exit().await;
    drain(DEADLINE).await;
    let mut seen = take(&log);
    seen.sort();
    assert_eq!(seen, ["[3]", "[4]"]);
}

#[test]
fn guards_and_contexts_are_send_and_sync() {
    fn both<T: Send + Sync + Unpin>() {}
    fn send<T: Send>() {}
    both::<Context<io::Result<Vec<u8>>>>();
    both::<Guard<io::Result<Vec<u8>>>>();
    both::<aioxide::context::Enter<io::Result<Vec<u8>>>>();
    both::<aioxide::context::Leave<io::Result<Vec<u8>>>>();
    both::<Context<Always<std::cell::Cell<u8>>>>();
    send::<Guard<Always<std::cell::Cell<u8>>>>();
    both::<aioxide::ExitStack>();
}

#[test]
fn handles_are_small() {
    const WORDS: usize = size_of::<[usize; 8]>();
    assert!(size_of::<Context<io::Result<[u8; 64]>>>() <= WORDS);
    assert!(size_of::<Guard<io::Result<[u8; 64]>>>() <= WORDS);
    assert!(size_of::<aioxide::context::Enter<io::Result<[u8; 64]>>>() <= WORDS);
    assert!(size_of::<aioxide::context::Leave<io::Result<[u8; 64]>>>() <= WORDS);
    assert!(size_of::<aioxide::BorrowedContext<'_, io::Result<[u8; 64]>>>() <= WORDS);
    assert!(size_of::<aioxide::BorrowedGuard<'_, io::Result<[u8; 64]>>>() <= WORDS);
    assert!(size_of::<aioxide::context::BorrowedEnter<'_, io::Result<[u8; 64]>>>() <= WORDS);
    assert!(size_of::<aioxide::context::BorrowedLeave<'_, io::Result<[u8; 64]>>>() <= WORDS);
}

#[actxmgr]
async fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    yield_([0; N]).await;
    Ok(())
}

/// The sizes of the futures of `with` and `exit_as`.
fn sizes<const N: usize>() -> [usize; 2] {
    let with = bytes::<N>().with(async |_| Ok::<_, io::Error>(()));
    let guard = futures_executor(bytes::<N>().into_future()).unwrap();
    let exit_as = guard.exit_as(Ok::<_, io::Error>(()));
    [size_of_val(&with), size_of_val(&exit_as)]
}

#[test]
fn the_futures_of_with_and_exit_as_do_not_grow_with_the_value() {
    assert_eq!(sizes::<1>(), sizes::<65_536>());
}

/// Not `Send`, and no longer there when the function is suspended.
#[actxmgr]
async fn drops_an_rc_before_it_awaits() -> usize {
    let length = {
        let local = Rc::new(RefCell::new(vec![1, 2]));
        local.borrow_mut().push(3);
        local.borrow().len()
    };
    yield_(length).await;
}

#[test]
fn without_a_runtime() {
    let log = Log::default();
    let guard = futures_executor(generic([1], log.clone()).into_future());
    drop(guard);
    assert_eq!(take(&log), ["[1]"], "one poll was enough");
    assert_eq!(
        *futures_executor(drops_an_rc_before_it_awaits().into_future()),
        3
    );
}

/// Polls a future that is ready at once, outside of any runtime.
fn futures_executor<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it had to wait"),
    }
}
