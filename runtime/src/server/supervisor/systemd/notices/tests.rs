use super::*;

use proptest::prelude::*;

use crate::server::StopReason;
use crate::server::stop::Signal;

const SECOND: Duration = Duration::from_secs(1);

fn serving() -> Seen {
    Seen {
        standing: Standing {
            phase: Phase::Serving,
            ready: 2,
            wanted: 2,
            roll: None,
            reloading: false,
            until: None,
        },
        all_blocked: false,
        addresses: "127.0.0.1:80".to_owned(),
    }
}

fn starting(until: Duration) -> Seen {
    let mut seen = serving();
    seen.standing = Standing {
        phase: Phase::Starting,
        ready: 0,
        until: Some(until),
        ..seen.standing
    };
    seen
}

fn rolling(replaced: usize) -> Seen {
    let mut seen = serving();
    seen.standing.roll = Some(Rolled { replaced, of: 2 });
    seen.standing.reloading = true;
    seen.standing.until = Some(1000 * SECOND);
    seen
}

fn stopping(until: Duration) -> Seen {
    let mut seen = serving();
    let reason = StopReason::Signal(Signal::SIGTERM);
    seen.standing.phase = Phase::Stopping(reason);
    seen.standing.until = Some(until);
    seen
}

/// All that is due now goes.
fn say(notices: &mut Notices, now: Duration) -> Vec<Notice> {
    let mut said = Vec::new();
    while let Some(notice) = notices.due(now) {
        notices.tried(now, notice.clone(), true);
        said.push(notice);
        assert!(said.len() < 100, "{said:?}");
    }
    assert!(notices.next_deadline().is_none_or(|at| at > now));
    said
}

/// What is said between then and now, while nothing changes.
fn wait(notices: &mut Notices, until: Duration) -> Vec<(Duration, Notice)> {
    let mut said = Vec::new();
    while let Some(at) = notices.next_deadline().filter(|at| *at <= until) {
        said.extend(say(notices, at).into_iter().map(|notice| (at, notice)));
    }
    said
}

fn ready(status: &str) -> Notice {
    let status = status.to_owned();
    Notice::Ready { status }
}

const READY: &str = "2 workers are ready, listening on 127.0.0.1:80";

#[test]
fn a_start_asks_for_time_until_it_is_done() {
    let mut notices = Notices::new(None);
    notices.see(SECOND, starting(61 * SECOND));
    let by = Notice::Extend(15 * SECOND);
    let status = Notice::Status("starting: 0 of 2 workers are ready".to_owned());
    assert_eq!(say(&mut notices, SECOND), [by.clone(), status]);
    assert_eq!(
        wait(&mut notices, 12 * SECOND),
        [(6 * SECOND, by.clone()), (11 * SECOND, by)]
    );
    notices.see(12 * SECOND, serving());
    assert_eq!(say(&mut notices, 12 * SECOND), [ready(READY)]);
    assert_eq!(notices.next_deadline(), None, "once");
    notices.see(13 * SECOND, serving());
    assert_eq!(say(&mut notices, 13 * SECOND), []);
}

#[test]
fn time_is_asked_for_within_our_own_timeouts_only() {
    let mut notices = Notices::new(None);
    notices.see(SECOND, starting(8 * SECOND));
    let mut asked = say(&mut notices, SECOND);
    asked.truncate(1);
    assert_eq!(asked, [Notice::Extend(10 * SECOND)]);
    notices.see(12 * SECOND, starting(8 * SECOND));
    assert_eq!(say(&mut notices, 12 * SECOND), [], "it is over");
}

#[test]
fn a_reload_is_said_before_and_after_also_if_it_is_over_at_once() {
    let mut notices = Notices::new(None);
    notices.see(SECOND, serving());
    say(&mut notices, SECOND);

    notices.reload();
    notices.see(2 * SECOND, rolling(0));
    let by = Notice::Extend(15 * SECOND);
    let rolls = |replaced| {
        let status = format!("rolling restart: {replaced} of 2 workers replaced");
        Notice::Status(status)
    };
    assert_eq!(
        say(&mut notices, 2 * SECOND),
        [Notice::Reloading, by, rolls(0)]
    );
    notices.see(3 * SECOND, rolling(1));
    assert_eq!(say(&mut notices, 3 * SECOND), [rolls(1)]);
    notices.remark("rolling restart done".to_owned());
    notices.see(4 * SECOND, serving());
    let done = ready(&format!("{READY}; rolling restart done"));
    assert_eq!(say(&mut notices, 4 * SECOND), [done]);

    notices.reload();
    notices.remark("rolling restart given up: no room".to_owned());
    notices.see(5 * SECOND, serving());
    let given_up = ready(&format!("{READY}; rolling restart given up: no room"));
    assert_eq!(
        say(&mut notices, 5 * SECOND),
        [Notice::Reloading, given_up],
        "within one turn"
    );
}

#[test]
fn a_second_reload_is_said_when_it_comes_and_ready_once_both_are_done() {
    let mut notices = Notices::new(None);
    notices.see(SECOND, serving());
    say(&mut notices, SECOND);
    for replaced in [0, 1] {
        notices.reload();
        notices.see(2 * SECOND, rolling(replaced));
        assert_eq!(say(&mut notices, 2 * SECOND)[0], Notice::Reloading);
    }
    notices.see(3 * SECOND, serving());
    assert_eq!(say(&mut notices, 3 * SECOND), [ready(READY)]);
}

#[test]
fn a_reload_while_it_starts_is_said_once_it_is_ready() {
    let mut notices = Notices::new(None);
    notices.reload();
    let mut seen = starting(60 * SECOND);
    seen.standing.reloading = true;
    notices.see(SECOND, seen);
    say(&mut notices, SECOND);
    notices.see(2 * SECOND, rolling(0));
    let said = say(&mut notices, 2 * SECOND);
    assert!(matches!(said[0], Notice::Ready { .. }), "{said:?}");
    assert_eq!(said[1], Notice::Reloading);
}

#[test]
fn a_stop_is_said_once_and_time_is_asked_for_while_the_budget_runs() {
    let mut notices = Notices::new(None);
    notices.see(SECOND, serving());
    say(&mut notices, SECOND);
    notices.see(2 * SECOND, stopping(28 * SECOND));
    let status = "stopping: SIGTERM".to_owned();
    let by = |seconds| Notice::Extend(seconds * SECOND);
    assert_eq!(
        say(&mut notices, 2 * SECOND),
        [Notice::Stopping { status }, by(15)]
    );
    let said = wait(&mut notices, 40 * SECOND);
    let at = |seconds, left| (seconds * SECOND, by(left));
    assert_eq!(
        said,
        [at(7, 15), at(12, 15), at(17, 14), at(22, 9), at(27, 4)]
    );
}

#[test]
fn a_stop_is_said_instead_of_what_has_not_gone() {
    let mut notices = Notices::new(None);
    notices.see(SECOND, serving());
    let ready = notices.due(SECOND).unwrap();
    notices.tried(SECOND, ready, false);
    notices.see(2 * SECOND, stopping(27 * SECOND));
    let said = say(&mut notices, 2 * SECOND);
    assert!(matches!(said[0], Notice::Stopping { .. }), "{said:?}");
}

#[test]
fn the_watchdog_is_fed_at_half_its_interval_unless_no_loop_turns() {
    let mut notices = Notices::new(Some(4 * SECOND));
    notices.see(SECOND, serving());
    assert!(say(&mut notices, SECOND).contains(&Notice::Watchdog));
    let fed = |at| (at * SECOND, Notice::Watchdog);
    assert_eq!(wait(&mut notices, 6 * SECOND), [fed(3), fed(5)]);
    let mut blocked = serving();
    blocked.all_blocked = true;
    notices.see(6 * SECOND, blocked);
    assert_eq!(wait(&mut notices, 60 * SECOND), []);
    notices.see(61 * SECOND, serving());
    assert_eq!(say(&mut notices, 61 * SECOND), [Notice::Watchdog]);
}

#[test]
fn a_changing_status_is_a_few_datagrams() {
    let mut notices = Notices::new(None);
    notices.see(SECOND, serving());
    say(&mut notices, SECOND);
    let mut said = 0;
    for nth in 0..1000 {
        let now = SECOND + Duration::from_millis(nth);
        let mut seen = serving();
        seen.standing.ready = nth as usize % 2;
        notices.see(now, seen);
        said += say(&mut notices, now).len();
    }
    assert!((5..=11).contains(&said), "{said}");
}

#[test]
fn a_text_from_outside_stays_one_line_of_200_bytes() {
    let mut notices = Notices::new(None);
    let failure = format!("\nSTOPPING=1\r\u{7f}\0MAINPID=1 {}", "ü".repeat(300));
    notices.remark(format!("last failure: {failure}"));
    let mut seen = serving();
    seen.addresses = format!("/tmp/a\nREADY=1 {}", "é".repeat(300));
    notices.see(SECOND, seen);
    let text = say(&mut notices, SECOND)[0].text();
    let (first, status) = text.split_once('\n').unwrap();
    assert_eq!(first, "READY=1");
    let status = status.strip_prefix("STATUS=").unwrap();
    assert!(!status.contains(char::is_control), "{status:?}");
    assert!((190..=STATUS_MAX).contains(&status.len()), "{status:?}");
    assert!(status.contains("last failure:  STOPPING=1"), "{status:?}");
}

#[test]
fn datagrams_are_as_systemd_reads_them() {
    let status = "all is well".to_owned();
    let text = |notice: Notice| notice.text();
    assert_eq!(text(ready("well")), "READY=1\nSTATUS=well");
    assert_eq!(
        text(Notice::Stopping { status }),
        "STOPPING=1\nSTATUS=all is well"
    );
    assert_eq!(
        text(Notice::Extend(15 * SECOND)),
        "EXTEND_TIMEOUT_USEC=15000000"
    );
    assert_eq!(text(Notice::Watchdog), "WATCHDOG=1");
    let reloading = text(Notice::Reloading);
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let time: i64 = time.unwrap().parse().unwrap();
    assert!(time > 0 && time <= monotonic_micros());
}

proptest! {
    /// However often a send finds no room, what has to arrive does, in order, and nobody spins.
    #[test]
    fn what_has_to_arrive_does(
        events in proptest::collection::vec((0..4_u8, 0..3000_u64), 0..20),
        goes in proptest::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut notices = Notices::new(Some(2 * SECOND));
        let mut now = SECOND;
        let (mut goes, mut arrived, mut tries) = (goes.into_iter(), Vec::new(), 0);
        let mut reloads = 0;
        let end = (3, 400_000);
        for (event, millis) in events.into_iter().filter(|(event, _)| *event < 3).chain([end]) {
            match event {
                0 => notices.see(now, serving()),
                1 => {
                    notices.reload();
                    notices.see(now, rolling(0));
                    reloads += 1;
                }
                2 => notices.see(now, rolling(1)),
                _ => notices.see(now, serving()),
            }
            let until = now + Duration::from_millis(millis);
            now = now.max(notices.retry_at.min(until));
            while let Some(at) = notices.next_deadline().filter(|at| (*at).max(now) <= until) {
                now = now.max(at);
                let Some(notice) = notices.due(now) else {
                    prop_assert!(false, "due, and nothing is");
                    break;
                };
                let went = goes.next().unwrap_or(true);
                notices.tried(now, notice.clone(), went);
                tries += 1;
                prop_assert!(tries < 2000, "spins");
                arrived.extend(went.then_some(notice));
            }
            now = until;
        }
        prop_assert!(notices.pending.is_empty());
        let important: Vec<_> = arrived.iter().filter_map(|notice| match notice {
            Notice::Ready { .. } => Some(true),
            Notice::Reloading => Some(false),
            _ => None,
        }).collect();
        prop_assert_eq!(important.first(), Some(&true));
        prop_assert_eq!(important.last(), Some(&true), "ready in the end");
        prop_assert_eq!(important.iter().filter(|ready| !**ready).count(), reloads);
    }
}
