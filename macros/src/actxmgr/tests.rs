//! What `#[actxmgr]` expands to, as a person would write it.

mod places;
mod refusals;
mod signatures;

use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

use super::attribute;

/// Compares what `#[actxmgr(args)] item` expands to, formatted if it parses.
fn check(args: TokenStream, item: TokenStream, expected: &Expect) {
    let expanded = attribute(args, item);
    let is_whole = |file: &syn::File| {
        let verbatim = |item| matches!(item, &syn::Item::Verbatim(_));
        !file.items.iter().any(verbatim)
    };
    let text = match syn::parse2::<syn::File>(expanded.clone()) {
        Ok(file) if is_whole(&file) => prettyplease::unparse(&file),
        _ => expanded.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn fallible() {
    check(
        quote!(),
        quote! {
            /// Documented.
            pub async fn connection(url: String) -> io::Result<Connection> {
                let conn = Connection::open(&url).await?;
                let (conn, exit) = yield_(conn).await;
                conn.close(exit.is_success()).await
            }
        },
        &expect![[r#"
            /// Documented.
            pub fn connection(url: String) -> ::aioxide::Context<io::Result<Connection>> {
                ::aioxide::__private::context::<
                    io::Result<Connection>,
                    _,
                >(
                    "connection",
                    move |__aioxide_yielder| async move {
                        let url = url;
                        let yield_ = move |__aioxide_value| __aioxide_yielder.give(__aioxide_value);
                        if let ::core::option::Option::Some(__aioxide_end) = ::aioxide::__private::no_end::<
                            io::Result<Connection>,
                        >() {
                            return __aioxide_end;
                        }
                        let __aioxide_end: ::aioxide::__private::End<io::Result<Connection>> = {
                            let conn = Connection::open(&url).await?;
                            let (conn, exit) = yield_(conn).await;
                            conn.close(exit.is_success()).await
                        };
                        #[allow(unreachable_code)] __aioxide_end
                    },
                )
            }
        "#]],
    );
}

#[test]
fn infallible_with_patterns() {
    check(
        quote!(),
        quote! {
            async fn pair(mut n: u32, (a, _): (u32, u32), #[allow(unused)] _: &'static str) {
                let exit = yield_().await;
            }
        },
        &expect![[r#"
            fn pair(
                n: u32,
                __aioxide_arg1: (u32, u32),
                #[allow(unused)]
                __aioxide_arg2: &'static str,
            ) -> ::aioxide::Context<::aioxide::Always<()>> {
                ::aioxide::__private::context::<
                    ::aioxide::Always<()>,
                    _,
                >(
                    "pair",
                    move |__aioxide_yielder| async move {
                        let mut n = n;
                        let __aioxide_arg1 = __aioxide_arg1;
                        let (a, _) = __aioxide_arg1;
                        #[allow(unused)]
                        let __aioxide_arg2 = __aioxide_arg2;
                        #[allow(unused)]
                        let _ = __aioxide_arg2;
                        let yield_ = move || __aioxide_yielder.give_nothing();
                        if let ::core::option::Option::Some(__aioxide_end) = ::aioxide::__private::no_end::<
                            ::aioxide::Always<()>,
                        >() {
                            return __aioxide_end;
                        }
                        let __aioxide_end: ::aioxide::__private::End<::aioxide::Always<()>> = {
                            let exit = yield_().await;
                        };
                        #[allow(unreachable_code)] __aioxide_end
                    },
                )
            }
        "#]],
    );
}

#[test]
fn borrowed_method_with_options() {
    check(
        quote!(borrowed, teardown_timeout = 1.5s, crate = crate::aio),
        quote! {
            async fn lend<'x, T: Clone>(&'x self, other: &str, call: impl Fn(&T) -> u8) -> Result<&T, Error>
            where
                T: Send,
            {
                yield_(self.value()).await;
                Ok(())
            }
        },
        &expect![[r##"
            #[allow(clippy::multiple_bound_locations)]
            fn lend<'__aioxide, '__aioxide_0, 'x, T: Clone>(
                &'x self,
                other: &'__aioxide_0 str,
                call: impl Fn(&T) -> u8 + '__aioxide,
            ) -> crate::aio::BorrowedContext<'__aioxide, Result<&'x T, Error>>
            where
                T: Send,
                '__aioxide_0: '__aioxide,
                'x: '__aioxide,
                T: '__aioxide,
            {
                crate::aio::__private::borrowed_context::<
                    Result<&'x T, Error>,
                    _,
                >(
                        "lend",
                        move |__aioxide_yielder| async move {
                            let _ = &self;
                            let other = other;
                            let call = call;
                            let yield_ = move |__aioxide_value| {
                                __aioxide_yielder.give(__aioxide_value)
                            };
                            if let ::core::option::Option::Some(__aioxide_end) = crate::aio::__private::no_end::<
                                Result<&'x T, Error>,
                            >() {
                                return __aioxide_end;
                            }
                            let __aioxide_end: crate::aio::__private::End<Result<&'x T, Error>> = {
                                yield_(self.value()).await;
                                Ok(())
                            };
                            #[allow(unreachable_code)] __aioxide_end
                        },
                    )
                    .teardown_timeout(::core::time::Duration::new(1u64, 500000000u32))
            }
        "##]],
    );
}

#[test]
fn trait_method_without_a_body() {
    check(
        quote!(),
        quote!(
            async fn start(self: Arc<Self>) -> io::Result<u8>;
        ),
        &expect![
            "fn start (self : Arc < Self >) -> :: aioxide :: Context < io :: Result < u8 > > ;"
        ],
    );
}

#[test]
fn an_item_survives_a_mistake() {
    check(
        quote!(retries = 3),
        quote! {
            async fn connection(url: String) -> u32 {
                loop {
                    yield_(1).await;
                }
            }
        },
        &expect![[r#"
            fn connection(_: String) -> ::aioxide::Context<::aioxide::Always<u32>> {
                ::core::panic!("this function does not compile")
            }
            ::core::compile_error! {
                "unknown option `retries` of `#[actxmgr]`\nhelp: the options are `borrowed`, `finish_setup`, `setup_timeout = 5s`, `teardown_timeout = 10s`, `crate = path`"
            }
            ::core::compile_error! {
                "`yield_` in a loop: it may be reached more than once, and a context yields exactly once\nhelp: move `yield_` out of the loop"
            }
        "#]],
    );
}

#[test]
fn an_item_survives_a_body_that_does_not_parse() {
    check(
        quote!(),
        quote! {
            async fn connection(url: String) -> u32 {
                url.;
                yield_(1).await;
            }
        },
        &expect![[
            r#"fn connection (url : String) -> :: aioxide :: Context < :: aioxide :: Always < u32 > > { :: aioxide :: __private :: context :: < :: aioxide :: Always < u32 > , _ > ("connection" , move | __aioxide_yielder | async move { let url = url ; let yield_ = move | __aioxide_value | __aioxide_yielder . give (__aioxide_value) ; if let :: core :: option :: Option :: Some (__aioxide_end) = :: aioxide :: __private :: no_end :: < :: aioxide :: Always < u32 > > () { return __aioxide_end ; } let __aioxide_end : :: aioxide :: __private :: End < :: aioxide :: Always < u32 > > = { url . ; yield_ (1) . await ; } ; # [allow (unreachable_code)] __aioxide_end }) }"#
        ]],
    );
}
