//! What function may be a timer's, and what is left of another one.

use super::attribute;
use crate::tests::{accepts, refuses};

/// What is left of `#[timer(1s)] signature { run(); }`, in which these mistakes are.
#[track_caller]
fn wrong(signature: &str, says: &[&str]) -> String {
    refuses(attribute, "1s", &format!("{signature} {{ run(); }}"), says)
}

#[track_caller]
fn right(signature: &str) -> String {
    accepts(attribute, "1s", &format!("{signature} {{ run(); }}"))
}

#[test]
fn another_item() {
    const SAYS: &str = "`#[timer]` goes on an async function, not on another item";
    for item in ["struct A ;", "impl A { }", "use a :: b ;"] {
        assert_eq!(refuses(attribute, "1s", item, &[SAYS]).trim(), item);
    }
    refuses(attribute, "1s", "async fn f", &["expected"]);
    refuses(
        attribute,
        "1s",
        "async fn f() x",
        &["expected the function's body"],
    );
}

#[test]
fn another_kind_of_function() {
    for (signature, says) in [
        ("fn f()", &["`f` is not async"][..]),
        ("const fn f()", &["`f` is not async", "not on `const fn`"]),
        ("async unsafe fn f()", &["not on `unsafe fn`"]),
        ("async extern \"C\" fn f()", &["not on `extern fn`"]),
        ("async fn f(a: u8, ...)", &["a fixed number of arguments"]),
        ("async fn f() -> impl Termination", &["not an `impl Trait`"]),
        (
            "async fn f() -> Result<(), impl Error>",
            &["not an `impl Trait`"],
        ),
    ] {
        let item = wrong(signature, says);
        assert!(item.contains("__private :: timer :: stub ()"), "{item}");
    }
    let item = refuses(
        attribute,
        "1s",
        "async fn f(self);",
        &["`f` has no body for the ticks to run"],
    );
    assert!(!item.contains("async"), "{item}");
}

#[test]
fn the_body_is_checked_unless_its_type_is_hidden() {
    assert!(wrong("fn f() -> io::Result<()>", &["not async"]).contains("run ()"));
    assert!(
        !wrong(
            "async fn f() -> io::Result<impl A>",
            &["not an `impl Trait`"]
        )
        .contains("run ()")
    );
}

#[test]
fn one_that_another_attribute_has_rewritten() {
    let traits =
        "fn f<'async_trait>(self) -> Pin<Box<dyn Future<Output = ()> + Send + 'async_trait>>";
    wrong(
        traits,
        &[
            "`#[async_trait]` and `#[timer]` don't mix: `f` has already been rewritten … a trait with it is object safe",
        ],
    );
    refuses(
        attribute,
        "1s",
        "fn f() { Builder::new().expect(\"Failed building the Runtime\") }",
        &[
            "`#[tokio::main]` and `#[timer]` don't mix: `f` has already … put it on another function, which starts this timer",
        ],
    );
    for (attr, says) in [
        (
            "#[tokio::main]",
            "`f` becomes a function that starts a timer",
        ),
        (
            "#[tracing::instrument(skip_all)]",
            "would trace the start of the timer, once",
        ),
    ] {
        let item = wrong(&format!("{attr} async fn f()"), &[says]);
        assert!(
            !item.contains("tokio") && !item.contains("instrument"),
            "{item}"
        );
        assert!(
            item.contains(". start"),
            "it is a timer nevertheless: {item}"
        );
    }
}

#[test]
fn what_is_borrowed() {
    const ARC: &str =
        "help: take something owned that each tick can have a clone of, such as an `Arc`";
    for (argument, says, help) in [
        (
            "&self",
            "`&self` is borrowed",
            "help: take `self: Arc<Self>`",
        ),
        (
            "&mut self",
            "`&mut self` is borrowed",
            "help: take `self: Arc<Self>`",
        ),
        (
            "self: &Self",
            "`self: &Self` is borrowed",
            "help: take `self: Arc<Self>`",
        ),
        (
            "self: Pin<&Self>",
            "`self: Pin<&Self>` is borrowed",
            "help: take `self: Arc<Self>`",
        ),
        ("a: &str", "`a` is borrowed", "such as `a: String`"),
        ("a: &Peers", "`a` is borrowed", "such as `a: Arc<Peers>`"),
        ("a: (&Peers)", "`a` is borrowed", "such as `a: Arc<Peers>`"),
        (
            "a: fragment!(&Peers)",
            "`a` is borrowed",
            "such as `a: Arc<Peers>`",
        ),
        ("a: &'a Peers", "`a` is borrowed", "such as `a: Arc<Peers>`"),
        ("a: Vec<&Peers>", "`a` is borrowed", ARC),
        ("a: Cow<'a, str>", "`a` is borrowed", ARC),
        ("a: Guard<'_>", "`a` is borrowed", ARC),
        (
            "a: &'static [&u8]",
            "`a` is borrowed",
            "such as `a: Arc<[&u8]>`",
        ),
        ("a: impl Into<&u8>", "`a` is borrowed", ARC),
        ("a: Box<dyn Read + 'a>", "`a` is borrowed", ARC),
        (
            "tick: &Tick",
            "`tick` is borrowed",
            "help: take it by value, and first: `tick: Tick`",
        ),
    ] {
        let signature = format!("async fn f({argument})");
        let says = format!("{says}, but a timer outlives the call that starts it … {help}");
        wrong(&signature, &[&says]);
    }
    wrong(
        "async fn f(&self, a: &u8, b: &u8)",
        &["`&self`", "`a`", "`b`"],
    );
}

#[test]
fn what_is_owned_or_for_ever() {
    for argument in [
        "self",
        "self: Arc<Self>",
        "a: String",
        "a: &'static str",
        "a: &'static Cow<'static, str>",
        "a: fn(&u8) -> &u8",
        "a: impl Fn(&u8) + Clone",
        "a: Arc<dyn for<'x> Visit<'x>>",
        "a: Arc<dyn Fn(&u8) -> &u8 + 'static>",
    ] {
        right(&format!("async fn f({argument})"));
    }
}

#[test]
fn the_tick_comes_first_and_is_the_timers_to_give() {
    for tick in ["Tick", "aioxide::Tick", "(Tick)", "fragment!(Tick)"] {
        let item = right(&format!("async fn f(tick: {tick}, a: u8)"));
        assert!(item.contains("fn f (a : u8)"), "{item}");
        assert!(item.contains("move | __aioxide_tick |"), "{item}");
    }
    // Types of that name with arguments, or of a trait's, are the user's own.
    for tick in [
        "Tick<u8>",
        "<A as B>::Tick",
        "<A>::Tick",
        "Tick::Of",
        "(Tick, u8)",
    ] {
        let item = right(&format!("async fn f(tick: {tick}, a: u8)"));
        assert!(!item.contains("__aioxide_tick"), "{item}");
    }
    let item = wrong(
        "async fn f(a: u8, tick: Tick)",
        &["the `Tick` stands first among the arguments"],
    );
    assert!(
        item.contains("fn f (a : u8)"),
        "the caller doesn't give it: {item}"
    );
    let item = right("async fn f(tick: Tick, another: Tick)");
    assert!(item.contains("fn f (another : Tick)"), "{item}");
    let item = wrong("async fn f(tick: &Tick, a: u8)", &["`tick` is borrowed"]);
    assert!(item.contains("fn f (a : u8)"), "{item}");
}

#[test]
fn each_argument_is_bound_anew() {
    for (argument, outside, inside) in [
        ("a: u8", "a : u8", "let a = a ;"),
        ("mut a: u8", "a : u8", "let mut a = a ;"),
        (
            "ref a: u8",
            "__aioxide_arg0 : u8",
            "let ref a = __aioxide_arg0 ;",
        ),
        (
            "a @ 1..: u8",
            "__aioxide_arg0 : u8",
            "let a @ 1 .. = __aioxide_arg0 ;",
        ),
        ("_: u8", "__aioxide_arg0 : u8", "let _ = __aioxide_arg0 ;"),
        (
            "_a: u8",
            "_a : u8",
            "# [allow (clippy :: used_underscore_binding)] let _a = _a ;",
        ),
    ] {
        let item = right(&format!("async fn f({argument})"));
        assert!(item.contains(&format!("fn f ({outside})")), "{item}");
        let (_, tick) = item.split_once("async move").expect("a tick");
        assert!(tick.contains(inside), "{tick}");
    }
}

#[test]
fn what_only_an_option_uses_is_used() {
    let item = accepts(
        attribute,
        "secs(period)",
        "async fn f(period: u64, a: u8) {}",
    );
    assert!(
        item.contains("# [allow (unused_variables)] let period = period ;"),
        "{item}"
    );
    assert!(item.contains("; let a = a ;"), "{item}");
}

#[test]
fn the_caller_is_tracked_once() {
    for attrs in ["", "#[track_caller]", "#[must_use]"] {
        let item = right(&format!("{attrs} async fn f()"));
        assert_eq!(item.matches("track_caller").count(), 1, "{item}");
    }
}
