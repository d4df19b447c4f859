//! What function may be a worker's, and what is left of another one.

use super::super::attribute;
use crate::tests::{accepts, refuses};

const BODY: &str = "{ yield_().await; }";

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
    let says = ["`#[server]` goes on an `async fn`, and this is an import"];
    assert_eq!(
        refuses(attribute, "", "use a::b;", &says).trim(),
        "use a :: b ;"
    );
    refuses(attribute, "", "async fn f", &["expected"]);
}

#[test]
fn another_kind_of_function() {
    for (signature, says) in [
        (
            "fn f(w: Worker)",
            &["is an async function, and this one isn't"][..],
        ),
        ("const async fn f(w: Worker)", &["can't be `const`"]),
        ("async unsafe fn f(w: Worker)", &["can't be `unsafe`"]),
        ("async extern \"C\" fn f(w: Worker)", &["can't be `extern`"]),
        ("async fn f(w: Worker, ...)", &["can't be variadic"]),
        (
            "async fn f()",
            &["takes a `Worker` as its first argument, and this one takes none"],
        ),
        (
            "async fn f(&self, w: Worker)",
            &["is a free function and takes no `self`"],
        ),
        (
            "const unsafe fn f()",
            &["isn't", "`const`", "`unsafe`", "takes none"],
        ),
    ] {
        let item = wrong("", signature, says);
        assert!(item.contains("-> :: aioxide :: Server { "), "{item}");
    }
    let item = refuses(
        attribute,
        "",
        "async fn f(w: Worker, a: u8);",
        &["needs a body"],
    );
    assert_eq!(item.trim(), "fn f (a : u8) -> :: aioxide :: Server ;");
}

#[test]
fn arguments_are_owned() {
    for (argument, says) in [
        ("a: &str", "`a` is borrowed, and a worker outlives the call"),
        ("a: &'a Config", "`a: std::sync::Arc<Config>`"),
        ("(a, b): &(u8, u8)", "`(a, b)` is borrowed"),
    ] {
        wrong("", &format!("async fn f(w: Worker, {argument})"), &[says]);
    }
    right("", "async fn f(w: Worker, a: &'static str, b: Arc<str>)");
    // The first one is rustc's to judge.
    right("", "async fn f(w: &Worker)");
    wrong(
        "",
        "async fn f(w: Worker, a: &u8, b: u8, c: &mut u8)",
        &["`a`", "`c`"],
    );
}

#[test]
fn nobody_passes_arguments_to_main() {
    wrong(
        "",
        "async fn main(w: Worker, a: u8)",
        &["nobody can pass this argument to `main` … the main context's value, with `main = path`"],
    );
    wrong(
        "main = open",
        "async fn main(w: Worker, a: u8, b: u8)",
        &["nobody can pass this argument to `main` … call it from a `main` of your own"],
    );
    wrong(
        "",
        "async fn main<T>(w: Worker)",
        &["nobody can say what this parameter of `main` stands for"],
    );
    let item = right("main = open", "async fn main(w: Worker, a: u8)");
    assert!(
        item.contains("fn main () -> :: std :: process :: ExitCode"),
        "{item}"
    );
    assert!(item.contains(". run ()"), "{item}");
    right("", "async fn main(w: Worker)");
    let item = right(
        "main = open",
        "async fn f<T>(w: Worker, a: u8, b: T, c: u8)",
    );
    assert!(item.contains("fn f < T > (b : T , c : u8)"), "{item}");
    assert!(!item.contains(". run ()"), "{item}");
    right("", "async fn f(w: Worker, a: u8, b: u8)");
    // A main context that was meant has had its error.
    for args in ["mian = open", "main", "main ="] {
        let item = wrong(args, "async fn main(w: Worker, a: u8)", &["main`"]);
        assert!(item.contains("fn main () "), "{item}");
        let item = wrong(args, "async fn f(w: Worker, a: u8, b: u8)", &["main`"]);
        assert!(item.contains("fn f (b : u8) "), "{item}");
    }
}

#[test]
fn the_main_contexts_value_is_taken() {
    const NONE: &str =
        "the value of the main context is the worker's second argument, and there is none";
    for name in ["main", "echo"] {
        wrong(
            "main = open",
            &format!("async fn {name}(w: Worker)"),
            &[NONE],
        );
    }
}

#[test]
fn the_caller_gives_names_and_the_worker_gets_patterns() {
    for (argument, outside) in [
        ("a: u8", "a : u8"),
        ("mut a: u8", "a : u8"),
        ("_a: u8", "__aioxide_argument0 : u8"),
        ("_: u8", "__aioxide_argument0 : u8"),
        ("a @ 1..: u8", "__aioxide_argument0 : u8"),
        ("(a, b): (u8, u8)", "__aioxide_argument0 : (u8 , u8)"),
        (
            "#[cfg(unix)] #[allow(unused)] a: u8",
            "# [cfg (unix)] a : u8",
        ),
    ] {
        let item = right("", &format!("async fn f(w: Worker, {argument})"));
        assert!(
            item.contains(&format!("fn f ({outside}) -> :: aioxide :: Server")),
            "{item}"
        );
        assert!(item.contains("w : Worker , "), "{item}");
    }
}

#[test]
fn what_only_an_option_uses_is_used() {
    for args in [
        "workers = count(a)",
        "health = f([a])",
        "main = open(a)",
        "extra = [run, export(main, a.c)], main = open",
    ] {
        let item = right(args, "async fn f(w: Worker, value: V, a: A, b: B)");
        let is_main = args.contains("main = ");
        assert!(
            item.contains("# [allow (unused_variables)] a : A , b : B)"),
            "{item}"
        );
        assert!(
            item.contains(&format!(
                "fn f ({}a : A , b : B) ->",
                if is_main { "" } else { "value : V , " }
            )),
            "{item}"
        );
    }
    let item = right(
        "main = open, extra = [export(main)]",
        "async fn f(w: Worker, value: V, a: A)",
    );
    assert!(!item.contains("unused_variables"), "{item}");
}

/// clippy allows seven, and `yield_` is one that the user didn't write.
#[test]
fn seven_arguments_are_not_too_many() {
    for (count, is_allowed) in [(6, false), (7, true), (8, true)] {
        let arguments: Vec<String> = (1..count).map(|nth| format!("a{nth}: u8")).collect();
        let item = right(
            "",
            &format!("async fn f(w: Worker, {})", arguments.join(", ")),
        );
        assert_eq!(
            item.contains("clippy :: too_many_arguments"),
            is_allowed,
            "{item}"
        );
    }
}
