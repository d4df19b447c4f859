//! Where a worker says that it is ready: once, anywhere in its function.

use super::super::attribute;
use crate::tests::{accepts, refuses};

fn function(body: &str) -> String {
    format!("async fn echo(worker: Worker) {{ {body} }}")
}

/// Left out is a body in which rustc would find what follows from the mistake.
#[track_caller]
fn wrong(body: &str, says: &[&str], is_left_out: bool) {
    let item = refuses(attribute, "", &function(body), says);
    assert_eq!(
        item.contains("worker : Worker) { loop { } }"),
        is_left_out,
        "{item}"
    );
}

#[track_caller]
fn right(body: &str) {
    accepts(attribute, "", &function(body));
}

#[test]
fn anywhere() {
    for body in [
        "yield_().await;",
        "let stopping = yield_(); serve(stopping).await;",
        "loop { if ready() { yield_().await } }",
        "spawn(async move { yield_().await });",
        "select! { _ = worker.stopping() => {} stop = yield_() => {} }",
        "async fn inner(until: A) { until.await } inner(yield_()).await;",
        // A name in brackets is no attribute, and neither is one of another name.
        "let all = &[server]; { yield_().await; }",
        "if !(server) { yield_().await; }",
        "#[allow(server)] { yield_().await; }",
        "#[kind = server] { yield_().await; }",
        "#[server::other] { yield_().await; }",
    ] {
        right(body);
    }
}

#[test]
fn once_and_called_without_a_value() {
    const NEVER: &str = "says that it is ready by `yield_().await`, and this one never does";
    const ANOTHER: &str = "a server's worker has one `yield_()`, and this is another";
    wrong("serve(worker).await;", &[NEVER], false);
    wrong("yield_().await; yield_().await;", &[ANOTHER], false);
    wrong(
        "select! { _ = yield_() => {} _ = yield_() => {} } yield_();",
        &[ANOTHER, ANOTHER],
        false,
    );
    wrong(
        "yield_(1).await;",
        &["`yield_()` takes no value in a server's worker"],
        true,
    );
    wrong(
        "serve(yield_).await;",
        &["`yield_` is a function, and here it isn't called"],
        true,
    );
    for body in ["m!(yield_ {});", "m!(yield_ []);", "yield_;"] {
        wrong(body, &["here it isn't called"], true);
    }
    wrong(
        "yield_(1).await; yield_().await;",
        &["takes no value", ANOTHER],
        true,
    );
}

#[test]
fn what_is_annotated_itself_has_its_own() {
    const NEVER: &str = "never does";
    for nested in [
        "#[actxmgr] async fn inner() { yield_(1).await; }",
        "#[aioxide::actxmgr(borrowed)] async fn inner<'a>(a: &'a A) -> io::Result<u8> { yield_(1).await }",
        "#[server(workers = 2)] async fn inner(worker: Worker) { yield_().await; }",
        "#[aioxide::server] async fn inner(worker: Worker) { yield_().await; }",
        "impl A { #[actxmgr] #[inline] async fn inner(self) { loop { yield_(1).await; } } }",
    ] {
        right(&format!("{nested} yield_().await;"));
        right(&format!("{{ yield_().await; }} {nested}"));
        wrong(nested, &[NEVER], false);
        // Its braces end it.
        wrong(
            &format!("{nested} {{ yield_().await; }} yield_().await;"),
            &["this is another"],
            false,
        );
    }
}

#[test]
fn a_body_that_does_not_parse_is_not_said_to_lack_one() {
    right("worker.; yield_().await;");
    right("worker.;");
    wrong("worker.; yield_(1);", &["takes no value"], true);
}
