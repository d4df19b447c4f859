//! What is no context, and what is left of it.

use super::attribute;
use crate::tests::{accepts, refuses};

const BODY: &str = "{ yield_(1).await; Ok(()) }";

/// Expects the mistakes in `#[actxmgr(args)] signature { .. }`, and that the item is left.
#[track_caller]
fn wrong(args: &str, signature: &str, says: &[&str]) -> String {
    refuses(attribute, args, &format!("{signature} {BODY}"), says)
}

#[track_caller]
fn right(args: &str, signature: &str) -> String {
    accepts(attribute, args, &format!("{signature} {BODY}"))
}

#[test]
fn another_item() {
    let item = refuses(
        attribute,
        "",
        "struct A;",
        &["`#[actxmgr]` goes on an `async fn`, and this is a struct"],
    );
    assert_eq!(item.trim(), "struct A ;");
    refuses(attribute, "", "fn f", &["expected"]);
    refuses(
        attribute,
        "",
        "async fn f() yield_",
        &["expected the function's body"],
    );
}

#[test]
fn another_kind_of_function() {
    for (signature, says) in [
        (
            "fn f() -> io::Result<u8>",
            &["needs an `async fn`, and `f` is not async"][..],
        ),
        ("const fn f() -> io::Result<u8>", &["cannot be `const`"]),
        (
            "const async fn f() -> io::Result<u8>",
            &["cannot be `const`"],
        ),
        (
            "async unsafe fn f() -> io::Result<u8>",
            &["cannot be `unsafe`"],
        ),
        (
            "async extern \"C\" fn f() -> io::Result<u8>",
            &["cannot be `extern`"],
        ),
        (
            "async fn f(a: u8, ...) -> io::Result<u8>",
            &["cannot be variadic"],
        ),
        (
            "unsafe extern fn f() -> io::Result<u8>",
            &["not async", "`unsafe`", "`extern`"],
        ),
    ] {
        let item = wrong("", signature, says);
        for word in ["const", "unsafe", "extern", "..."] {
            assert!(!item.contains(&format!("{word} ")), "{item}");
        }
    }
}

#[test]
fn one_that_another_attribute_has_rewritten() {
    let boxed = "-> Pin<Box<dyn Future<Output = io::Result<u8>> + Send + 'async_trait>>";
    let traits = [
        "`#[async_trait]` and `#[actxmgr]` don't mix: `f` has already been rewritten \
                   … a trait with `#[actxmgr]` methods is object safe without it",
    ];
    let item = refuses(
        attribute,
        "",
        &format!(
            "fn f<'async_trait>(self) {boxed} {{ Box::pin(async move {{ yield_(1).await }}) }}"
        ),
        &traits,
    );
    assert!(item.contains("Context < io :: Result < u8 > >"), "{item}");
    refuses(attribute, "", &format!("fn f(&self) {boxed};"), &traits);
    let runtime = "`#[tokio::main]` and `#[actxmgr]` don't mix … put it on another function, which enters this context";
    let item = refuses(
        attribute,
        "",
        "fn f() -> u8 { let body = async { yield_(1).await }; Builder::new().expect(\"Failed building the Runtime\") }",
        &[runtime],
    );
    assert!(!item.contains("Builder"), "{item}");
    let traced = "`#[tracing::instrument]` and `#[actxmgr]` don't mix";
    let item = refuses(
        attribute,
        "",
        "async fn f() -> u8 { let __tracing_attr_span = span; async move { yield_(1).await }.await }",
        &[traced],
    );
    assert!(!item.contains("__tracing"), "{item}");
    for (attr, says) in [
        ("#[tokio::main]", runtime),
        ("#[tracing::instrument]", traced),
    ] {
        let item = wrong("", &format!("{attr} async fn f() -> u8"), &[says]);
        assert!(
            !item.contains("tokio") && !item.contains("instrument"),
            "{item}"
        );
        assert!(
            item.contains("yield_ (1) . await"),
            "the body is kept: {item}"
        );
    }
}

#[test]
fn a_type_that_is_not_written_out() {
    let item = wrong(
        "",
        "async fn f() -> io::Result<impl Read + Seek>",
        &["cannot declare `impl Read + Seek`: its type is written more than once"],
    );
    assert!(
        item.contains("Result < :: std :: boxed :: Box < dyn Read + :: core :: marker :: Send > >"),
        "{item}"
    );
    assert!(item.contains("this function does not compile"), "{item}");
    wrong(
        "",
        "async fn f() -> (impl A, Vec<impl B>)",
        &["`impl A`", "`impl B`"],
    );
}

#[test]
fn what_borrows_without_being_told_to() {
    for (argument, tokens) in [
        ("&self", "&self"),
        ("&mut self", "&mut self"),
        ("&'a self", "&'a self"),
        ("self: &Self", "&Self"),
        ("self: Pin<&mut Self>", "&mut Self"),
        ("a: &str", "&str"),
        ("a: &'a str", "'a"),
        ("a: Vec<&mut u8>", "&mut u8"),
        ("a: Guard<'_>", "'_"),
        ("a: Cow<'a, str>", "'a"),
        ("a: Box<dyn Read + 'a>", "'a"),
        ("a: impl Into<&u8>", "&u8"),
        ("a: &'static [&u8]", "&u8"),
    ] {
        let signature = format!("async fn f({argument}) -> u8");
        let item = wrong(
            "",
            &signature,
            &[&format!(
                "`{tokens}` borrows, and a dropped guard's teardown … or write `#[actxmgr(borrowed)]`"
            )],
        );
        assert!(
            item.contains("BorrowedContext"),
            "it is one nevertheless: {item}"
        );
        right("borrowed", &signature);
    }
    let two = "async fn f(&self, a: &str) -> u8";
    let item = wrong(
        "",
        two,
        &[
            "take `self` or `self: Arc<Self>`",
            "take the argument by value",
        ],
    );
    assert!(item.contains("BorrowedContext"), "{item}");
}

#[test]
fn what_is_owned_or_for_ever_borrows_nothing() {
    for argument in [
        "self",
        "mut self",
        "self: Arc<Self>",
        "self: Box<Self>",
        "a: String",
        "a: &'static str",
        "a: Cow<'static, str>",
        "a: fn(&u8) -> &u8",
        "a: impl Fn(&u8)",
        "a: Box<dyn for<'x> Visit<'x>>",
        "a: impl for<'x> Fn(&'x u8) -> &'x u8",
    ] {
        let item = right("", &format!("async fn f({argument}) -> u8"));
        assert!(!item.contains("BorrowedContext"), "{item}");
    }
}

#[test]
fn options_that_do_not_go_together() {
    const TOGETHER: &str = "`finish_setup` and `borrowed` don't go together";
    let item = wrong(
        "borrowed, finish_setup",
        "async fn f(a: &str) -> u8",
        &[TOGETHER],
    );
    assert!(!item.contains("finish_setup"), "{item}");
    wrong("finish_setup, borrowed", "async fn f() -> u8", &[TOGETHER]);
    // Which of the two is wrong can't be said, so one mistake is told.
    let item = wrong(
        "finish_setup",
        "async fn f(a: &str) -> u8",
        &["`&str` borrows"],
    );
    assert!(!item.contains("finish_setup"), "{item}");
    let item = right("finish_setup", "async fn f() -> u8");
    assert!(item.contains(". finish_setup ()"), "{item}");
}

#[test]
fn timeouts_of_what_cannot_fail() {
    for output in [
        "",
        "-> u8",
        "-> Always<u8>",
        "-> aioxide::Always<u8>",
        "-> (u8, io::Result<u8>)",
        "-> &'static [u8]",
    ] {
        let signature = format!("async fn f() {output}");
        for key in ["setup_timeout", "teardown_timeout"] {
            let says =
                format!("`{key}` needs a context that can fail, and `f` declares no `Result`");
            let item = wrong(&format!("{key} = 5s"), &signature, &[&says]);
            assert!(!item.contains(key), "{item}");
        }
        wrong(
            "setup_timeout = 5s, teardown_timeout = 5s",
            &signature,
            &["`setup_", "`teardown_"],
        );
    }
    for output in [
        "Result<u8, E>",
        "io::Result<u8>",
        "DbResult<u8>",
        "(io::Result<u8>)",
        "fragment!(io::Result<u8>)",
        "fragment!((Result<u8>))",
    ] {
        let item = right(
            "setup_timeout = 5s, teardown_timeout = limit",
            &format!("async fn f() -> {output}"),
        );
        assert!(
            item.contains(". setup_timeout (:: core :: time :: Duration :: new (5u64 , 0u32))"),
            "{item}"
        );
        assert!(item.contains(". teardown_timeout (limit)"), "{item}");
    }
}

#[test]
fn values_of_options() {
    for (args, says) in [
        ("setup_timeout = 5", "`5` has a number without a unit"),
        (
            "teardown_timeout = true",
            "`teardown_timeout` takes a length of time, not `true`",
        ),
        (
            "crate = \"aioxide\"",
            "`crate` takes the path of the aioxide crate, not `\"aioxide\"`",
        ),
        ("crate = <T>::aioxide", "`crate` takes the path"),
        ("borrowed = true", "`borrowed` is a flag"),
        ("borrow", "did you mean `borrowed`?"),
    ] {
        wrong(args, "async fn f() -> io::Result<u8>", &[says]);
    }
}
