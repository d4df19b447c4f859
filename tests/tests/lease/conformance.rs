//! What every engine promises, whatever it is.

use std::cell::Cell;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aioxide::lease::{BoxLease, Held, Lease, MemoryLease, Owner, Progress, Token};
use aioxide_tests::PATIENCE;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Longer than a test.
const LONG: Duration = Duration::from_secs(600);

/// What is asked of a store. A token is the newest, or so many before it.
#[derive(Clone, Debug)]
enum Step {
    Hold { owner: usize },
    Record { back: usize, due: u64, at: Progress },
    Release { back: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = prop_oneof![Just(Progress::Started), Just(Progress::Done)];
    let step = prop_oneof![
        3 => (0..3_usize).prop_map(|owner| Step::Hold { owner }),
        3 => (0..3_usize, 0..6_u64, at).prop_map(|(back, due, at)| Step::Record { back, due, at }),
        2 => (0..3_usize).prop_map(|back| Step::Release { back }),
    ];
    prop::collection::vec(step, 1..30)
}

pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime can be made")
}

/// A due time with all of its nanoseconds.
fn due(n: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(1_700_000_000 + n, 123_456_789)
}

async fn hold(lease: &impl Lease, name: &str, owner: &Owner, ttl: Duration) -> Option<Held> {
    let held = lease.hold(name, owner, ttl).await;
    held.unwrap_or_else(|error| panic!("{error}"))
}

async fn release(lease: &impl Lease, name: &str, token: Token) {
    let released = lease.release(name, token).await;
    released.unwrap_or_else(|error| panic!("{error}"));
}

async fn is_recorded(
    lease: &impl Lease,
    name: &str,
    token: Token,
    due: SystemTime,
    at: Progress,
) -> bool {
    match lease.record(name, token, due, at).await {
        Ok(()) => true,
        Err(error) if error.is_stale() => false,
        Err(error) => panic!("{error}"),
    }
}

/// All that can be said of an engine; `expires` is how long its shortest ttl is, unless none ends.
///
/// `leases` are two of one store, as two processes have them.
pub(crate) fn conforms(runtime: &Runtime, leases: [BoxLease; 2], expires: Option<Duration>) {
    answers_as_the_model_does(runtime, &leases);
    runtime.block_on(async {
        is_taken_by_one_at_a_time(&leases).await;
        is_handed_over_by_a_release(&leases).await;
        keeps_names_apart(&leases).await;
        if let Some(ttl) = expires {
            is_over_when_its_ttl_is(&leases, ttl).await;
        }
    });
}

/// Any sequence of calls gets the answers that the model gives. The tokens themselves are the engine's own, as long as
/// they grow. Each owner, and with it each token, keeps to one of the two leases.
fn answers_as_the_model_does(runtime: &Runtime, leases: &[BoxLease; 2]) {
    let mut runner = TestRunner::new(Config {
        cases: 25,
        failure_persistence: None,
        ..Config::default()
    });
    let cases = Cell::new(0);
    let answered = runner.run(&steps(), |steps| {
        cases.set(cases.get() + 1);
        let name = format!("model/{}", cases.get());
        runtime.block_on(answers_to(&steps, &name, leases))
    });
    if let Err(error) = answered {
        panic!("{error}");
    }
}

async fn answers_to(
    steps: &[Step],
    name: &str,
    leases: &[BoxLease; 2],
) -> Result<(), TestCaseError> {
    let model = MemoryLease::new();
    // The model counts its tokens from 1. Of each, the engine's and whose it is.
    let mut tokens: Vec<(Token, usize)> = Vec::new();
    for step in steps {
        // The newest, the one before, and so on.
        let token = |back: usize| {
            let index = tokens.len().checked_sub(back + 1)?;
            let (token, owner) = tokens[index];
            Some((Token::new(index as u64 + 1), token, &leases[owner % 2]))
        };
        match *step {
            Step::Hold { owner } => {
                let by = Owner::new(format!("owner {owner}"));
                let held = hold(&leases[owner % 2], name, &by, LONG).await;
                let expected = hold(&model, name, &by, LONG).await;
                prop_assert_eq!(held.is_some(), expected.is_some());
                let (Some(held), Some(expected)) = (held, expected) else {
                    continue;
                };
                prop_assert_eq!(held.last, expected.last);
                // etcd is asked for a second less.
                let left = held.left;
                prop_assert!(
                    LONG - left.min(LONG) <= Duration::from_secs(1),
                    "{:?}",
                    left
                );
                prop_assert!(left <= LONG || left == Duration::MAX, "{:?}", left);
                let newest = tokens.last().map(|(token, _)| *token);
                if expected.token.get() > tokens.len() as u64 {
                    prop_assert!(
                        Some(held.token) > newest,
                        "{} after {:?}",
                        held.token,
                        newest
                    );
                    tokens.push((held.token, owner));
                } else {
                    prop_assert_eq!(Some(held.token), newest);
                }
            }
            Step::Record { back, due: n, at } => {
                let Some((expected, token, lease)) = token(back) else {
                    continue;
                };
                let recorded = is_recorded(lease, name, token, due(n), at).await;
                let expected = is_recorded(&model, name, expected, due(n), at).await;
                prop_assert_eq!(recorded, expected);
            }
            Step::Release { back } => {
                let Some((expected, token, lease)) = token(back) else {
                    continue;
                };
                release(lease, name, token).await;
                release(&model, name, expected).await;
            }
        }
    }
    Ok(())
}

async fn is_taken_by_one_at_a_time(leases: &[BoxLease; 2]) {
    for round in 0..10 {
        let name = format!("race {round}");
        let race = (0..8).map(|racer| {
            let lease = leases[racer % 2].clone();
            let (name, owner) = (name.clone(), Owner::unique());
            tokio::spawn(async move { hold(&lease, &name, &owner, LONG).await.is_some() })
        });
        let mut winners = 0;
        for racer in race.collect::<Vec<_>>() {
            winners += usize::from(racer.await.expect("it doesn't panic"));
        }
        assert_eq!(winners, 1, "of 8 who asked at once");
    }
}

/// One who waits hears of a release within 100 ms, and of a lease that is free at once.
async fn is_handed_over_by_a_release(leases: &[BoxLease; 2]) {
    let name = "handed over";
    let mut holder = 0;
    let mut owners = [Owner::unique(), Owner::unique()];
    let mut held = hold(&leases[0], name, &owners[0], LONG)
        .await
        .expect("it is free");
    let mut took = Vec::new();
    for _ in 0..11 {
        let next = 1 - holder;
        assert!(
            hold(&leases[next], name, &owners[next], LONG)
                .await
                .is_none()
        );
        let (waiter, told) = (leases[next].clone(), tokio::sync::oneshot::channel());
        let waits = tokio::spawn(async move {
            let mut changed = std::pin::pin!(waiter.changed(name, LONG));
            let first = std::future::poll_fn(|cx| Poll::Ready(changed.as_mut().poll(cx))).await;
            assert!(first.is_pending(), "the lease is held");
            told.0.send(()).expect("it is waited for");
            changed.await;
        });
        told.1.await.expect("it waits");
        let released = Instant::now();
        release(&leases[holder], name, held.token).await;
        timeout(PATIENCE, waits)
            .await
            .expect("it is told")
            .expect("it doesn't panic");
        let again = hold(&leases[next], name, &owners[next], LONG).await;
        took.push(released.elapsed());
        let again = again.expect("it was released");
        assert!(again.token > held.token);
        assert!(!is_recorded(&leases[holder], name, held.token, due(1), Progress::Done).await);
        owners[holder] = Owner::unique();
        (holder, held) = (next, again);
    }
    release(&leases[holder], name, held.token).await;
    timeout(PATIENCE, leases[1 - holder].changed(name, LONG))
        .await
        .expect("it is free");
    timeout(PATIENCE, leases[0].changed("never held", LONG))
        .await
        .expect("it is free");
    took.sort();
    assert!(
        took[5] < Duration::from_millis(100),
        "handed over in {took:?}"
    );
}

async fn keeps_names_apart(leases: &[BoxLease; 2]) {
    let owner = Owner::unique();
    let names = [
        "",
        "a",
        "a/holder",
        "a%2f",
        "A",
        "ä 'x' \"y\" \\",
        "..",
        "a\nb",
    ];
    for (number, name) in names.iter().enumerate() {
        let held = hold(&leases[0], name, &owner, LONG)
            .await
            .expect("it is free");
        assert_eq!(held.last, None, "{name}");
        let at = due(number as u64);
        assert!(
            is_recorded(&leases[0], name, held.token, at, Progress::Done).await,
            "{name}"
        );
    }
    for (number, name) in names.iter().enumerate() {
        let held = hold(&leases[0], name, &owner, LONG)
            .await
            .expect("it is ours");
        assert_eq!(
            held.last,
            Some((due(number as u64), Progress::Done)),
            "{name}"
        );
        assert!(
            hold(&leases[1], name, &Owner::unique(), LONG)
                .await
                .is_none(),
            "{name}"
        );
    }
}

/// A lease that isn't renewed is handed over, and what its holder records after that is refused.
async fn is_over_when_its_ttl_is(leases: &[BoxLease; 2], ttl: Duration) {
    let name = "over";
    let (first, second) = (Owner::unique(), Owner::unique());
    let before = Instant::now();
    let held = hold(&leases[0], name, &first, ttl)
        .await
        .expect("it is free");
    assert!(held.left <= ttl, "{:?}", held.left);
    let taken = timeout(PATIENCE, async {
        loop {
            if let Some(taken) = hold(&leases[1], name, &second, LONG).await {
                return taken;
            }
            leases[1].changed(name, ttl).await;
        }
    });
    let taken = taken.await.expect("it is over some time");
    assert!(
        before.elapsed() >= held.left,
        "handed over after {:?}",
        before.elapsed()
    );
    assert!(taken.token > held.token);
    assert!(!is_recorded(&leases[0], name, held.token, due(1), Progress::Done).await);
    // What has been taken since isn't released by the one before.
    release(&leases[0], name, held.token).await;
    assert!(hold(&leases[0], name, &first, ttl).await.is_none());
    assert!(is_recorded(&leases[1], name, taken.token, due(1), Progress::Done).await);

    // Nobody else wants it: its holder may still record, but goes on under a new token.
    let name = "over, but not taken";
    let held = hold(&leases[0], name, &first, ttl)
        .await
        .expect("it is free");
    timeout(PATIENCE, async {
        while Instant::now() < before + ttl {
            leases[1].changed(name, ttl).await;
        }
        leases[1].changed(name, LONG).await;
    })
    .await
    .expect("it is over some time");
    assert!(is_recorded(&leases[0], name, held.token, due(1), Progress::Done).await);
    let again = hold(&leases[0], name, &first, ttl)
        .await
        .expect("it is free");
    assert!(again.token > held.token);
    assert_eq!(again.last, Some((due(1), Progress::Done)));
}
