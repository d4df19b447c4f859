//! Where `yield_` may stand: once, awaited on the spot, in the function's own body.

use super::attribute;
use crate::tests::{accepts, refuses};

fn function(body: &str) -> String {
    format!("async fn connection(hosts: Hosts) -> io::Result<u8> {{ {body} }}")
}

/// A body with a mistake in it is left out, for the mistake would cause more errors.
const LEFT_OUT: &str = "this function does not compile";

#[track_caller]
fn wrong(body: &str, says: &[&str]) {
    let item = refuses(attribute, "", &function(body), says);
    assert!(item.contains(LEFT_OUT), "{item}");
}

#[track_caller]
fn right(body: &str) {
    let item = accepts(attribute, "", &function(body));
    assert!(!item.contains(LEFT_OUT), "{item}");
}

#[test]
fn in_the_functions_own_body() {
    for body in [
        "yield_(1).await; Ok(())",
        "(yield_(1)).await; Ok(())",
        "let (value, exit) = yield_(open(hosts).await?).await; value.close(exit).await",
        "if hosts.is_empty() { yield_(1).await; } Ok(())",
        "match hosts.first() { host => { yield_(host).await } }; Ok(())",
        "unsafe { yield_(1).await }; Ok(())",
        // The head of a loop is run once.
        "for exit in yield_(1).await { drop(exit); } Ok(())",
        // Others of that name are none.
        "self.yield_(); a::yield_(); <T>::yield_(); yield_(1).await; Ok(())",
        "yield_(1).await; println!(\"{}\", f(1)); m![yield_ { } yield_ [1]]; Ok(())",
    ] {
        right(body);
    }
}

#[test]
fn not_where_something_else_is_suspended_or_repeats_it() {
    for (body, says) in [
        ("loop { yield_(1).await; }", "in a loop"),
        ("while on() { yield_(1).await; }", "in a loop"),
        ("while yield_(1).await {}", "in a loop"),
        ("for _ in hosts { yield_(1).await; }", "in a loop"),
        ("let f = || yield_(1).await;", "in a closure"),
        ("async { yield_(1).await; }.await;", "in an async block"),
        ("async fn f() { yield_(1).await; }", "in a nested function"),
        (
            "impl A { async fn f() { yield_(1).await; } }",
            "in a nested function",
        ),
        (
            "trait A { async fn f() { yield_(1).await; } }",
            "in a nested function",
        ),
        (
            "#[test] #[other::main] async fn f() { yield_(1).await; }",
            "in a nested function",
        ),
        (
            "select! { _ = yield_(1) => {} }",
            "in the macro call `select!`",
        ),
        (
            "tokio::join!(a, async { yield_(1).await });",
            "in the macro call `join!`",
        ),
        // What is around it says more than how it is written.
        ("loop { yield_(1, 2); }", "in a loop"),
        ("loop { || async { yield_(1).await } }", "in an async block"),
    ] {
        wrong(body, &[says]);
    }
}

#[test]
fn one_call_that_is_awaited() {
    const SECOND: &str = "a second `yield_`";
    for (body, says) in [
        ("Ok(())", &["`connection` never yields"][..]),
        ("a::yield_(1).await;", &["`connection` never yields"]),
        ("m![yield_ { }];", &["`connection` never yields"]),
        ("yield_(1);", &["must be awaited on the spot"]),
        (
            "let later = yield_(1); later.await;",
            &["must be awaited on the spot"],
        ),
        (
            "f(yield_).await;",
            &["can only be called and awaited, not passed on"],
        ),
        ("yield_(1, 2).await;", &["takes one value, or none, not 2"]),
        ("yield_(1, 2);", &["takes one value, or none, not 2"]),
        ("yield_(1).await; yield_(2).await;", &[SECOND]),
        ("yield_(yield_(1).await).await;", &[SECOND]),
        (
            "if a() { yield_(1).await } else { yield_(2).await };",
            &[SECOND],
        ),
        (
            "yield_(1).await; yield_(2).await; yield_(3).await;",
            &[SECOND, SECOND],
        ),
        ("yield_(1).await; loop { yield_(2).await; }", &["in a loop"]),
    ] {
        wrong(body, says);
    }
}

#[test]
fn the_keyword_is_left_to_rustc() {
    let item = accepts(attribute, "", &function("yield 1; yield (a, b);"));
    assert!(item.contains(LEFT_OUT), "{item}");
    wrong("yield 1; yield_(1);", &["must be awaited on the spot"]);
}

#[test]
fn what_is_annotated_itself_has_its_own() {
    for nested in [
        "#[actxmgr] async fn inner() { yield_(1).await; }",
        "#[aioxide::actxmgr(borrowed)] async fn inner() { yield_(1).await; }",
        "#[server] async fn inner(worker: Worker) { yield_().await; }",
        "impl A { #[actxmgr] async fn inner(self) { yield_(1).await; } }",
        "trait A { #[actxmgr] async fn inner(self) { yield_(1).await; } }",
    ] {
        right(&format!("{nested} yield_(1).await; Ok(())"));
        wrong(nested, &["`connection` never yields"]);
    }
}

#[test]
fn nobody_leaves_with_success_before_it() {
    const EARLY: &str = "leaves the function with success before it has yielded";
    for body in [
        "return;",
        "return Ok(());",
        "return (Ok(()));",
        "return io::Result::Ok(());",
        "if a() { return Ok(()) }",
        "loop { return Ok(()); }",
    ] {
        wrong(&format!("{body} yield_(1).await; Ok(())"), &[EARLY]);
        right(&format!("yield_(1).await; {body} Ok(())"));
    }
    wrong(
        "if a() { return; } if b() { return Ok(()); } yield_(1).await;",
        &[EARLY, EARLY],
    );
    for body in [
        "return Err(e);",
        "return failed();",
        "return (self.failed)();",
        "return result;",
        "let f = || return Ok(());",
        "let f = async { return Ok(()) };",
        "fn f() -> io::Result<()> { return Ok(()) }",
    ] {
        right(&format!("{body} yield_(1).await; Ok(())"));
    }
}

#[test]
fn a_body_that_does_not_parse_is_searched_nevertheless() {
    for (body, bound) in [
        (
            "hosts.; yield_(1).await;",
            "let yield_ = move | __aioxide_value |",
        ),
        (
            "hosts.; yield_().await;",
            "__aioxide_yielder . give_nothing ()",
        ),
        ("hosts.; { if a { yield_() } }", "give_nothing ()"),
    ] {
        let item = accepts(attribute, "", &function(body));
        assert!(item.contains(bound), "{item}");
        assert!(item.contains("{ hosts ."), "{item}");
    }
    let item = accepts(attribute, "", &function("hosts.; yield_ [] a(1)"));
    assert!(!item.contains("let yield_"), "{item}");
}
