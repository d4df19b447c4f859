//! Expansions, of broken input too.

mod functions;
mod options;

use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

use super::attribute;

fn check(args: TokenStream, item: TokenStream, expected: Expect) {
    let output = attribute(args, item);
    let text = match syn::parse2(output.clone()) {
        Ok(file) => prettyplease::unparse(&file),
        Err(_) => output.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn the_least() {
    check(
        quote!(100ms),
        quote! {
            async fn heartbeat() {
                beat();
            }
        },
        expect![[r##"
            #[track_caller]
            fn heartbeat() -> ::aioxide::Timer {
                ::aioxide::Timer::every(::core::time::Duration::new(0u64, 100000000u32))
                    .name("heartbeat")
                    .start(move |_| {
                        async move {
                            if let ::core::option::Option::Some(__aioxide_declared) = ::aioxide::__private::timer::declared::<
                                (),
                            >() {
                                return __aioxide_declared;
                            }
                            beat();
                        }
                    })
            }
        "##]],
    );
}

#[test]
fn the_most() {
    check(
        quote!(
            period * 2,
            first = interval,
            overlap = allow(4),
            missed = burst(n),
            jitter = 10ms,
            phase = random,
            timeout = 5s,
            grace = 1s,
            name = "beat"
        ),
        quote! {
            /// Beats.
            #[cfg(heart)]
            pub async fn heartbeat<T>(tick: Tick, mut peers: Arc<T>, (period, n): (Duration, usize)) -> io::Result<()>
            where
                T: Send + Sync + 'static,
            {
                peers.beat(tick)?;
                Ok(())
            }
        },
        expect![[r#"
            /// Beats.
            #[cfg(heart)]
            #[track_caller]
            pub fn heartbeat<T>(peers: Arc<T>, __aioxide_arg2: (Duration, usize)) -> ::aioxide::Timer
            where
                T: Send + Sync + 'static,
            {
                let peers = ::aioxide::__private::timer::argument(&peers).of(peers);
                let __aioxide_arg2 = ::aioxide::__private::timer::argument(&__aioxide_arg2)
                    .of(__aioxide_arg2);
                #[allow(unused_variables, unused_mut)]
                let (period, n) = ::core::clone::Clone::clone(&__aioxide_arg2);
                let __aioxide_interval = period * 2;
                ::aioxide::Timer::every(__aioxide_interval)
                    .name("beat")
                    .first(__aioxide_interval)
                    .overlap(::aioxide::Overlap::Allow(4))
                    .missed(::aioxide::Missed::Burst(n))
                    .jitter(::core::time::Duration::new(0u64, 10000000u32))
                    .phase()
                    .timeout(::core::time::Duration::new(5u64, 0u32))
                    .grace(::core::time::Duration::new(1u64, 0u32))
                    .start(move |__aioxide_tick| {
                        let peers = ::core::clone::Clone::clone(&peers);
                        let __aioxide_arg2 = ::core::clone::Clone::clone(&__aioxide_arg2);
                        async move {
                            if let ::core::option::Option::Some(__aioxide_declared) = ::aioxide::__private::timer::declared::<
                                io::Result<()>,
                            >() {
                                return __aioxide_declared;
                            }
                            let tick: Tick = __aioxide_tick;
                            let mut peers = peers;
                            let __aioxide_arg2 = __aioxide_arg2;
                            let (period, n) = __aioxide_arg2;
                            peers.beat(tick)?;
                            Ok(())
                        }
                    })
            }
        "#]],
    );
}

#[test]
fn a_method() {
    check(
        quote!(after = self.delay),
        quote! {
            pub(crate) async fn heartbeat(self: Arc<Self>, peers: Peers) {
                self.beat(peers).await;
            }
        },
        expect![[r##"
            #[track_caller]
            pub(crate) fn heartbeat(self: Arc<Self>, peers: Peers) -> ::aioxide::Timer {
                let peers = ::aioxide::__private::timer::argument(&peers).of(peers);
                ::aioxide::Timer::after(self.delay)
                    .name("heartbeat")
                    .start(
                        ::aioxide::__private::timer::argument(&self)
                            .each(move |_| {
                                async move {
                                    if let ::core::option::Option::Some(__aioxide_declared) = ::aioxide::__private::timer::declared::<
                                        (),
                                    >() {
                                        return __aioxide_declared;
                                    }
                                    let _ = &self;
                                    let peers = peers;
                                    self.beat(peers).await;
                                }
                            }),
                    )
            }
        "##]],
    );
}

#[test]
fn a_body_that_does_not_parse_reaches_rustc_as_it_is() {
    check(
        quote!(100ms),
        quote! {
            async fn heartbeat(x: u32) {
                x.
            }
        },
        expect![[
            r##"# [track_caller] fn heartbeat (x : u32) -> :: aioxide :: Timer { let x = :: aioxide :: __private :: timer :: argument (& x) . of (x) ; :: aioxide :: Timer :: every (:: core :: time :: Duration :: new (0u64 , 100000000u32)) . name ("heartbeat") . start (move | _ | { let x = :: core :: clone :: Clone :: clone (& x) ; async move { if let :: core :: option :: Option :: Some (__aioxide_declared) = :: aioxide :: __private :: timer :: declared :: < () > () { return __aioxide_declared ; } let x = x ; x . } }) }"##
        ]],
    );
}

#[test]
fn a_wrong_option_leaves_the_item() {
    check(
        quote!(100ms, overlap = never),
        quote! {
            async fn heartbeat() {
                beat();
            }
        },
        expect![[r##"
            #[track_caller]
            fn heartbeat() -> ::aioxide::Timer {
                ::aioxide::Timer::every(::core::time::Duration::new(0u64, 100000000u32))
                    .name("heartbeat")
                    .start(move |_| {
                        async move {
                            if let ::core::option::Option::Some(__aioxide_declared) = ::aioxide::__private::timer::declared::<
                                (),
                            >() {
                                return __aioxide_declared;
                            }
                            beat();
                        }
                    })
            }
            ::core::compile_error! {
                "unknown policy `never` of `overlap`\nhelp: the policies are `skip`, `allow`, `allow(n)`, `wait`, `queue(n)` and `cancel`"
            }
        "##]],
    );
}

#[test]
fn a_wrong_function_leaves_an_item_of_the_right_shape() {
    check(
        quote!(100ms),
        quote! {
            fn heartbeat(tick: Tick, peers: &Peers) {
                peers.beat(tick);
            }
        },
        expect![[r##"
            #[allow(unused, clippy::all)]
            #[track_caller]
            fn heartbeat(peers: &Peers) -> ::aioxide::Timer {
                let _ = async move {
                    if let ::core::option::Option::Some(__aioxide_declared) = ::aioxide::__private::timer::declared::<
                        (),
                    >() {
                        return __aioxide_declared;
                    }
                    let tick: Tick = ::aioxide::__private::timer::stub();
                    peers.beat(tick);
                };
                ::aioxide::__private::timer::stub()
            }
            ::core::compile_error! {
                "`heartbeat` is not async; `#[timer]` goes on an async function\nhelp: write `async fn heartbeat`"
            }
            ::core::compile_error! {
                "`peers` is borrowed, but a timer outlives the call that starts it\nhelp: take something owned that each tick can have a clone of, such as `peers: Arc<Peers>`"
            }
        "##]],
    );
}

#[test]
fn expansions_are_short() {
    let output = attribute(
        quote!(100ms, overlap = cancel, grace = 1s),
        quote! {
            async fn heartbeat(tick: Tick, a: u8, b: u8) -> io::Result<()> {
                Ok(())
            }
        },
    );
    let lines = prettyplease::unparse(&syn::parse2(output).unwrap())
        .lines()
        .count();
    assert!(lines <= 25, "{lines} lines");
}

#[test]
fn what_stands_for_a_faulty_function_names_the_given_crate() {
    let stub = attribute(
        quote!(100ms, crate = vendored::servers),
        quote!(
            fn tick() {}
        ),
    )
    .to_string();
    assert!(stub.contains("vendored :: servers"), "{stub}");
    assert!(!stub.contains(":: aioxide"), "{stub}");
}
