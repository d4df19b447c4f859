//! What becomes of the signature: arguments bound in order, lifetimes named.

use super::attribute;
use crate::tests::accepts;
use syn::ItemFn;

/// The signature of what `#[actxmgr(args)] signature { .. }` expands to, and the statements before the body.
fn expanded(args: &str, signature: &str) -> (String, String) {
    let item = accepts(
        attribute,
        args,
        &format!("{signature} {{ yield_(1).await; Ok(()) }}"),
    );
    let function: ItemFn = syn::parse_str(&item).expect("a function");
    let (_, body) = item.split_once("async move {").expect("the frame");
    let (bound, _) = body.split_once("let yield_").expect("what yields");
    let signature = function.sig;
    (
        quote::quote!(#signature).to_string(),
        bound.trim().to_owned(),
    )
}

/// Spaces apart.
#[track_caller]
fn same(found: &str, expected: &str) {
    let close = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(close(found), close(expected));
}

#[test]
fn each_argument_is_bound_anew_in_the_order_in_which_they_are_dropped() {
    for (argument, outside, bound) in [
        ("a: u8", "a: u8", "let a = a;"),
        ("mut a: u8", "a: u8", "let mut a = a;"),
        (
            "_a: u8",
            "_a: u8",
            "#[allow(clippy::used_underscore_binding)] let _a = _a;",
        ),
        (
            "ref a: u8",
            "__aioxide_arg0: u8",
            "let __aioxide_arg0 = __aioxide_arg0; let ref a = __aioxide_arg0;",
        ),
        (
            "a @ 1..: u8",
            "__aioxide_arg0: u8",
            "let __aioxide_arg0 = __aioxide_arg0; let a @ 1.. = __aioxide_arg0;",
        ),
        (
            "_: u8",
            "__aioxide_arg0: u8",
            "let __aioxide_arg0 = __aioxide_arg0; let _ = __aioxide_arg0;",
        ),
        (
            "#[cfg(unix)] (a, b): A",
            "#[cfg(unix)] __aioxide_arg0: A",
            "#[cfg(unix)] let __aioxide_arg0 = __aioxide_arg0; #[cfg(unix)] let (a, b) = __aioxide_arg0;",
        ),
        ("self", "self", "let _ = &self;"),
    ] {
        let (signature, statements) =
            expanded("", &format!("async fn f({argument}) -> io::Result<u8>"));
        same(
            &signature,
            &format!("fn f({outside}) -> ::aioxide::Context<io::Result<u8>>"),
        );
        same(&statements, bound);
    }
}

#[test]
fn every_lifetime_of_the_arguments_outlives_the_context() {
    for (signature, expected) in [
        (
            "async fn f(a: &str) -> Result<&u8>",
            "fn f<'__aioxide, '__aioxide_0>(a: &'__aioxide_0 str)
                -> ::aioxide::BorrowedContext<'__aioxide, Result<&'__aioxide_0 u8>>
             where '__aioxide_0: '__aioxide",
        ),
        (
            "async fn f(a: Guard<'_>, b: u8) -> Result<Guard<'_>>",
            "fn f<'__aioxide, '__aioxide_0>(a: Guard<'__aioxide_0>, b: u8)
                -> ::aioxide::BorrowedContext<'__aioxide, Result<Guard<'__aioxide_0>>>
             where '__aioxide_0: '__aioxide",
        ),
        (
            "async fn f<'a>(a: &'a str) -> Result<(&u8, &'a u8, &'static u8)>",
            "fn f<'__aioxide, 'a>(a: &'a str)
                -> ::aioxide::BorrowedContext<'__aioxide, Result<(&'a u8, &'a u8, &'static u8)>>
             where 'a: '__aioxide",
        ),
        // Of two none is the one that is left out, and rustc says so.
        (
            "async fn f(a: &str, b: &'static str, c: &str) -> Result<&u8>",
            "fn f<'__aioxide, '__aioxide_0, '__aioxide_1>
                (a: &'__aioxide_0 str, b: &'static str, c: &'__aioxide_1 str)
                -> ::aioxide::BorrowedContext<'__aioxide, Result<&u8>>
             where '__aioxide_0: '__aioxide, '__aioxide_1: '__aioxide",
        ),
        // That of `self` goes before.
        (
            "async fn f<'a>(&mut self, a: &'a str) -> Result<&u8>",
            "fn f<'__aioxide, '__aioxide_0, 'a>(&'__aioxide_0 mut self, a: &'a str)
                -> ::aioxide::BorrowedContext<'__aioxide, Result<&'__aioxide_0 u8>>
             where '__aioxide_0: '__aioxide, 'a: '__aioxide",
        ),
        (
            "async fn f(self: Pin<&mut Self>, a: &str) -> Result<&u8>",
            "fn f<'__aioxide, '__aioxide_0, '__aioxide_1>(self: Pin<&'__aioxide_0 mut Self>, a: &'__aioxide_1 str)
                -> ::aioxide::BorrowedContext<'__aioxide, Result<&'__aioxide_0 u8>>
             where '__aioxide_0: '__aioxide, '__aioxide_1: '__aioxide, Self: '__aioxide",
        ),
        (
            "async fn f<'a, T: A>(self, a: T) -> Result<u8>",
            "fn f<'__aioxide, 'a, T: A>(self, a: T) -> ::aioxide::BorrowedContext<'__aioxide, Result<u8>>
             where 'a: '__aioxide, T: '__aioxide, Self: '__aioxide",
        ),
        (
            "async fn f(a: String) -> Result<u8>",
            "fn f<'__aioxide>(a: String) -> ::aioxide::BorrowedContext<'__aioxide, Result<u8>>",
        ),
        // A lifetime that somebody else fills in has its name already, or needs none.
        (
            "async fn f(a: impl Into<&u8>, b: fn(&u8) -> &u8) -> Result<fn(&u8) -> &u8>",
            "fn f<'__aioxide, '__aioxide_0>(a: impl Into<&'__aioxide_0 u8> + '__aioxide, b: fn(&u8) -> &u8)
                -> ::aioxide::BorrowedContext<'__aioxide, Result<fn(&u8) -> &u8>>
             where '__aioxide_0: '__aioxide",
        ),
        (
            "async fn f(a: &u8, b: Box<dyn for<'x> Visit<'x>>, c: impl Fn(&u8)) -> Result<u8>",
            "fn f<'__aioxide, '__aioxide_0>
                (a: &'__aioxide_0 u8, b: Box<dyn for<'x> Visit<'x>>, c: impl Fn(&u8) + '__aioxide)
                -> ::aioxide::BorrowedContext<'__aioxide, Result<u8>>
             where '__aioxide_0: '__aioxide",
        ),
    ] {
        same(&expanded("borrowed", signature).0, expected);
    }
}

#[test]
fn a_context_is_named_as_its_function_without_what_makes_it_raw() {
    let item = accepts(
        attribute,
        "",
        "async fn r#move() -> u8 { yield_(1).await; }",
    );
    assert!(item.contains("(\"move\" ,"), "{item}");
}
