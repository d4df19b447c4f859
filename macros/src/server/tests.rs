//! What `#[server]` expands to, as a person would write it.

mod functions;
mod options;
mod yields;

use expect_test::{Expect, expect};
use proc_macro2::TokenStream;

fn expands(args: &str, item: &str, expected: Expect) {
    let tokens = |text: &str| text.parse::<TokenStream>().expect("a token stream");
    let output = super::attribute(tokens(args), tokens(item));
    let text = match syn::parse2(output.clone()) {
        Ok(file) => prettyplease::unparse(&file),
        // A body that doesn't parse is passed on as it is.
        Err(_) => output.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn main_without_options() {
    expands(
        "",
        "/// Echoes.
        async fn main(worker: Worker) -> io::Result<()> { yield_().await; Ok(()) }",
        expect![[r#"
            /// Echoes.
            fn main() -> ::std::process::ExitCode {
                async fn main(
                    yield_: impl ::aioxide::__private::Ready,
                    worker: Worker,
                ) -> io::Result<()> {
                    yield_().await;
                    Ok(())
                }
                ::aioxide::__private::server(
                        ::core::concat!(::core::module_path!(), "::", "main"),
                        move |__aioxide_worker: ::aioxide::Worker| {
                            let __aioxide_yield = ::aioxide::__private::ready(&__aioxide_worker);
                            let __aioxide_worker = ::aioxide::__private::worker(__aioxide_worker);
                            let __aioxide_running = main(__aioxide_yield, __aioxide_worker);
                            ::aioxide::__private::ending(__aioxide_running)
                        },
                    )
                    .run()
            }
        "#]],
    );
}

#[test]
fn every_option() {
    expands(
        "workers = config.workers, isolation = process, main = database, extra = [router, metrics::run], init = log,
        on_ready = announce, stop_signals = [SIGTERM], shutdown_timeout = 10s, start_timeout = timeout, on_failure = restart,
        max_restarts = 3, restart_window = 1h30m, hang_timeout = 30s, roll_overlap = 2, max_connections = 100, monitor,
        health = \"127.0.0.1:9090\", share_port, run_to_completion",
        "async fn echo(worker: Worker, database: Database, config: Config) { yield_().await; }",
        expect![[r#"
            fn echo(config: Config) -> ::aioxide::Server {
                async fn echo(
                    yield_: impl ::aioxide::__private::Ready,
                    worker: Worker,
                    database: Database,
                    #[allow(unused_variables)]
                    config: Config,
                ) {
                    yield_().await;
                }
                let __aioxide_workers: ::core::primitive::usize = config.workers;
                let __aioxide_start_timeout: ::core::time::Duration = timeout;
                let __aioxide_health: ::std::string::String = ::core::convert::Into::into(
                    "127.0.0.1:9090",
                );
                let config = ::aioxide::__private::argument(&config);
                ::aioxide::__private::server_with_shared_main(
                        ::core::concat!(::core::module_path!(), "::", "echo"),
                        ::aioxide::__private::main(database),
                        move |__aioxide_worker: ::aioxide::Worker, __aioxide_main| {
                            let __aioxide_yield = ::aioxide::__private::ready(&__aioxide_worker);
                            let __aioxide_worker = ::aioxide::__private::worker(__aioxide_worker);
                            let __aioxide_running = echo(
                                __aioxide_yield,
                                __aioxide_worker,
                                ::aioxide::__private::main_value(__aioxide_main),
                                config.get(),
                            );
                            ::aioxide::__private::ending(__aioxide_running)
                        },
                    )
                    .extra("router", router)
                    .extra("metrics::run", metrics::run)
                    .workers(__aioxide_workers)
                    .isolation(::aioxide::Isolation::Process)
                    .init(log)
                    .on_ready(announce)
                    .stop_signals([::aioxide::Signal::SIGTERM])
                    .shutdown_timeout(::core::time::Duration::new(10u64, 0u32))
                    .start_timeout(__aioxide_start_timeout)
                    .on_failure(::aioxide::OnFailure::Restart)
                    .max_restarts(3)
                    .restart_window(::core::time::Duration::new(5400u64, 0u32))
                    .hang_timeout(::core::time::Duration::new(30u64, 0u32))
                    .roll_overlap(2)
                    .max_connections(100)
                    .share_port(true)
                    .run_to_completion(true)
                    .monitor(true)
                    .health(__aioxide_health)
            }
        "#]],
    );
}

#[test]
fn functions_with_arguments_and_expressions() {
    expands(
        "isolation = config.isolation, on_failure = on_failure, main = database(config.url, 5),
        extra = [router(config.port), metrics::run, exporter(main, config.port + 1)]",
        "async fn echo(worker: Worker, database: Database, config: Config, on_failure: OnFailure) { yield_().await; }",
        expect![[r#"
            fn echo(config: Config, on_failure: OnFailure) -> ::aioxide::Server {
                async fn echo(
                    yield_: impl ::aioxide::__private::Ready,
                    worker: Worker,
                    database: Database,
                    #[allow(unused_variables)]
                    config: Config,
                    #[allow(unused_variables)]
                    on_failure: OnFailure,
                ) {
                    yield_().await;
                }
                let __aioxide_isolation: ::aioxide::Isolation = config.isolation;
                let __aioxide_on_failure: ::aioxide::OnFailure = on_failure;
                let __aioxide_main_0 = ::aioxide::__private::argument(&config.url);
                let __aioxide_main_1 = ::aioxide::__private::argument(&5);
                let __aioxide_context = ::aioxide::__private::main(move || database(
                    __aioxide_main_0.get(),
                    __aioxide_main_1.get(),
                ));
                let __aioxide_extra0_0 = ::aioxide::__private::argument(&config.port);
                let __aioxide_extra2_1 = ::aioxide::__private::argument(&(config.port + 1));
                let __aioxide_extra2 = ::aioxide::__private::extra_with_main(
                    &__aioxide_context,
                    move |__aioxide_worker: ::aioxide::Worker, __aioxide_main| exporter(
                        __aioxide_worker,
                        __aioxide_main,
                        __aioxide_extra2_1.get(),
                    ),
                );
                let config = ::aioxide::__private::argument(&config);
                let on_failure = ::aioxide::__private::argument(&on_failure);
                ::aioxide::__private::server_with_main_for_either(
                        ::core::concat!(::core::module_path!(), "::", "echo"),
                        __aioxide_context,
                        move |__aioxide_worker: ::aioxide::Worker, __aioxide_main| {
                            let __aioxide_yield = ::aioxide::__private::ready(&__aioxide_worker);
                            let __aioxide_worker = ::aioxide::__private::worker(__aioxide_worker);
                            let __aioxide_running = echo(
                                __aioxide_yield,
                                __aioxide_worker,
                                ::aioxide::__private::main_value(__aioxide_main),
                                config.get(),
                                on_failure.get(),
                            );
                            ::aioxide::__private::ending(__aioxide_running)
                        },
                    )
                    .extra(
                        "router",
                        move |__aioxide_worker: ::aioxide::Worker| router(
                            __aioxide_worker,
                            __aioxide_extra0_0.get(),
                        ),
                    )
                    .extra("metrics::run", metrics::run)
                    .extra("exporter", __aioxide_extra2)
                    .isolation(__aioxide_isolation)
                    .on_failure(__aioxide_on_failure)
            }
        "#]],
    );
}

#[test]
fn arguments_of_every_kind() {
    expands(
        "crate = crate::vendored",
        "pub(crate) async fn echo<T: Clone, const N: usize>(
            worker: Worker,
            mut a: T,
            (b, c): (u8, [u8; N]),
            #[cfg(unix)] #[allow(unused)] d: u8,
        ) where T: Send + 'static { yield_().await; }",
        expect![[r#"
            pub(crate) fn echo<T: Clone, const N: usize>(
                a: T,
                __aioxide_argument1: (u8, [u8; N]),
                #[cfg(unix)]
                d: u8,
            ) -> crate::vendored::Server
            where
                T: Send + 'static,
            {
                async fn echo<T: Clone, const N: usize>(
                    yield_: impl crate::vendored::__private::Ready,
                    worker: Worker,
                    mut a: T,
                    (b, c): (u8, [u8; N]),
                    #[cfg(unix)]
                    #[allow(unused)]
                    d: u8,
                )
                where
                    T: Send + 'static,
                {
                    yield_().await;
                }
                let a = crate::vendored::__private::argument(&a);
                let __aioxide_argument1 = crate::vendored::__private::argument(&__aioxide_argument1);
                #[cfg(unix)]
                let d = crate::vendored::__private::argument(&d);
                crate::vendored::__private::server(
                    ::core::concat!(::core::module_path!(), "::", "echo"),
                    move |__aioxide_worker: crate::vendored::Worker| {
                        let __aioxide_yield = crate::vendored::__private::ready(&__aioxide_worker);
                        let __aioxide_worker = crate::vendored::__private::worker(__aioxide_worker);
                        let __aioxide_running = echo::<
                            T,
                            N,
                        >(
                            __aioxide_yield,
                            __aioxide_worker,
                            a.get(),
                            __aioxide_argument1.get(),
                            #[cfg(unix)]
                            d.get(),
                        );
                        crate::vendored::__private::ending(__aioxide_running)
                    },
                )
            }
        "#]],
    );
}

#[test]
fn a_wrong_option_leaves_the_function_and_its_body() {
    expands(
        "wrokers = 4",
        "pub async fn echo(worker: Worker, config: Config) -> io::Result<()> { yield_().await; Ok(()) }",
        expect![[r##"
            #[allow(unused, clippy::all)]
            pub fn echo(config: Config) -> ::aioxide::Server {
                async fn echo(
                    yield_: impl ::aioxide::__private::Ready,
                    worker: Worker,
                    config: Config,
                ) -> io::Result<()> {
                    yield_().await;
                    Ok(())
                }
                loop {}
            }
            ::core::compile_error! {
                "unknown option `wrokers` of `#[server]`\nhelp: did you mean `workers`? the options are `workers = 4`, `isolation = process`, `main = path`, `extra = [path]`, `init = path`, `on_ready = path`, `stop_signals = [SIGINT, SIGTERM]`, `shutdown_timeout = 25s`, `drain_delay = 5s`, `start_timeout = 60s`, `on_failure = restart`, `max_restarts = 10`, `restart_window = 60s`, `hang_timeout = 30s`, `roll_overlap = 2`, `monitor`, `health = \"0.0.0.0:9090\"`, `max_connections = 10_000`, `balance`, `recycle = after(1h)`, `upgrade = new_pid`, `upgrade_signal = none`, `share_port`, `run_to_completion`, `crate = path`"
            }
        "##]],
    );
}

#[test]
fn a_wrong_yield_leaves_the_function() {
    expands(
        "",
        "async fn echo(worker: Worker) { yield_(5).await; }",
        expect![[r##"
            #[allow(unused, clippy::all)]
            fn echo() -> ::aioxide::Server {
                async fn echo(yield_: impl ::aioxide::__private::Ready, worker: Worker) {
                    loop {}
                }
                loop {}
            }
            ::core::compile_error! {
                "`yield_()` takes no value in a server's worker\nhelp: write `let stop = yield_().await;` where the worker is ready"
            }
        "##]],
    );
}

#[test]
fn a_method_stays_one() {
    expands(
        "",
        "async fn echo(&self, worker: Worker, config: Config) { yield_().await; }",
        expect![[r##"
            #[allow(unused, clippy::all)]
            fn echo(&self, config: Config) -> ::aioxide::Server {
                loop {}
            }
            ::core::compile_error! {
                "a server's worker is a free function and takes no `self`\nhelp: pass what it needs as arguments; they are cloned for every worker"
            }
        "##]],
    );
}

#[test]
fn another_item_stays() {
    expands(
        "workers = 4",
        "pub struct Echo;",
        expect![[r#"
        pub struct Echo;
        ::core::compile_error! {
            "`#[server]` goes on an `async fn`, and this is a struct\nhelp: put it on the function that a worker runs: `async fn main(worker: Worker)`"
        }
    "#]],
    );
}

#[test]
fn a_broken_body_is_passed_on() {
    expands(
        "",
        "async fn echo(worker: Worker) { worker. }",
        expect![[
            r#"fn echo () -> :: aioxide :: Server { async fn echo (yield_ : impl :: aioxide :: __private :: Ready , worker : Worker) { worker . } :: aioxide :: __private :: server (:: core :: concat ! (:: core :: module_path ! () , "::" , "echo") , move | __aioxide_worker : :: aioxide :: Worker | { let __aioxide_yield = :: aioxide :: __private :: ready (& __aioxide_worker) ; let __aioxide_worker = :: aioxide :: __private :: worker (__aioxide_worker) ; let __aioxide_running = echo (__aioxide_yield , __aioxide_worker ,) ; :: aioxide :: __private :: ending (__aioxide_running) } ,) }"#
        ]],
    );
}
