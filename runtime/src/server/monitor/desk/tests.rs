use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::super::about::Options;
use super::super::reply::Kind;
use super::*;
use crate::server::supervisor::Looks;

const ASKER: Asker = Asker { uid: 0, pid: None };

/// That of a supervisor that doesn't answer.
fn desk(watcher: Watcher) -> Rc<Desk> {
    let about = About {
        name: "test".to_owned(),
        isolation: Isolation::Thread,
        options: Options::default(),
    };
    Desk::new(about, watcher)
}

fn entry(text: &str, step: Step) -> Entry {
    Entry {
        number: 1,
        at: SystemTime::UNIX_EPOCH,
        kind: "roll",
        worker: None,
        role: None,
        pid: None,
        text: text.to_owned(),
        step: Some(step),
    }
}

#[tokio::test]
async fn of_two_that_ask_at_once_one_acts() {
    let (watcher, _lasts, _looks) = Looks::new();
    let desk = desk(watcher);
    let begin = |what: &str, act| {
        let desk = Rc::clone(&desk);
        let what = what.to_owned();
        async move { desk.begin(what, act, ASKER).await.err() }
    };
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut first = pin!(begin("reload", Act::Reload));
        assert_eq!(first.as_mut().poll(&mut context), Poll::Pending);
        let second = pin!(begin("scale 3", Act::Scale(3))).poll(&mut context);
        let busy = Refused::busy("`reload` is under way; try again when it is done");
        assert_eq!(second, Poll::Ready(Some(busy)));
    }
    // It has given up.
    let third = pin!(begin("scale 3", Act::Scale(3))).poll(&mut context);
    assert_eq!(third, Poll::Pending);
}

#[test]
fn a_restart_that_will_not_come_is_not_waited_for() {
    let (asked, other) = (Role::Slot(1), Role::Slot(0));
    let mut awaited = Awaited::new(Act::Restart(asked));
    let mut happened = |text: &str, step| {
        let done = awaited.happened(&entry(text, step));
        done.map(|done| done.map_err(|refused| (refused.kind, refused.error)).err())
    };
    assert_eq!(happened("rolling", Step::RollStarted(Some(other))), None);
    assert_eq!(happened("not that one", Step::NotRestarted(other)), None);
    let failed = (Kind::Failed, "it is not to run".to_owned());
    let done = happened("it is not to run", Step::NotRestarted(asked));
    assert_eq!(done, Some(Some(failed)));
}

#[test]
fn an_act_on_timers_tells_who_does_not_answer() {
    let told = |numbers: &[Option<usize>]| {
        let told = numbers.iter().enumerate();
        let told = told.map(|(index, number)| (format!("worker {index}"), *number));
        match timers_told("beat", TimerAct::Pause, told) {
            Ok(reply) => Ok(reply.text()),
            Err(refused) => Err((refused.kind, refused.error)),
        }
    };
    assert_eq!(told(&[Some(1), Some(0)]), Ok("1 timer is paused\n".into()));
    assert_eq!(
        told(&[Some(1), Some(2)]),
        Ok("3 timers are paused\n".into())
    );
    let unknown = "there is no timer `beat`; `timers` lists them".to_owned();
    assert_eq!(told(&[Some(0)]), Err((Kind::Unknown, unknown)));
    let silent = "worker 0: it does not answer, and may do it later";
    assert_eq!(told(&[None]), Err((Kind::Failed, silent.to_owned())));
    let both = format!("{silent}\n1 timer is paused");
    assert_eq!(told(&[None, Some(1)]), Err((Kind::Failed, both)));
}
