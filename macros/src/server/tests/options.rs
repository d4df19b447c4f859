//! What the options of `#[server]` may be, and what they become.

use super::super::attribute;
use crate::tests::{accepts, refuses};

/// What is evaluated before the builder in `#[server(args)]`, and what is called on it; without spaces, and with a
/// length by its seconds and nanoseconds.
#[track_caller]
fn built(args: &str) -> (String, String) {
    let item = accepts(
        attribute,
        args,
        "async fn echo(worker: Worker) { yield_().await; }",
    );
    let close: String = item.split_whitespace().collect();
    let (_, after) = close.split_once("{yield_().await;}").expect("the worker");
    let (before, _) = after
        .split_once("::aioxide::__private::server")
        .expect("a constructor");
    let (_, chain) = after
        .split_once("ending(__aioxide_running)},)")
        .expect("a worker's end");
    let short = |text: &str| text.replace("::core::time::Duration::new", "");
    (short(before), short(chain.trim_end_matches('}')))
}

/// Expects one mistake, and the function left.
#[track_caller]
fn wrong(args: &str, says: &str) {
    let item = refuses(
        attribute,
        args,
        "async fn echo(worker: Worker, value: V) { yield_().await; }",
        &[says],
    );
    assert!(
        item.contains("-> :: aioxide :: Server { async fn echo"),
        "{item}"
    );
}

#[test]
fn what_is_known_becomes_a_call() {
    for (args, call) in [
        ("", ""),
        ("workers = 4", ".workers(4)"),
        ("workers = 4usize", ".workers(4usize)"),
        ("roll_overlap = 2", ".roll_overlap(2)"),
        ("max_connections = 10_000", ".max_connections(10_000)"),
        ("max_restarts = 0", ".max_restarts(0)"),
        ("max_restarts = 3u32", ".max_restarts(3u32)"),
        (
            "isolation = thread",
            ".isolation(::aioxide::Isolation::Thread)",
        ),
        (
            "isolation = process",
            ".isolation(::aioxide::Isolation::Process)",
        ),
        (
            "on_failure = ignore",
            ".on_failure(::aioxide::OnFailure::Ignore)",
        ),
        (
            "upgrade = notified",
            ".upgrade(::aioxide::Upgrade::Notified)",
        ),
        ("upgrade = new_pid", ".upgrade(::aioxide::Upgrade::NewPid)"),
        (
            "upgrade_signal = none",
            ".upgrade_signal(::core::option::Option::None)",
        ),
        (
            "upgrade_signal = SIGHUP",
            ".upgrade_signal(::core::option::Option::Some(::aioxide::Signal::SIGHUP))",
        ),
        (
            "stop_signals = [SIGINT, SIGQUIT]",
            ".stop_signals([::aioxide::Signal::SIGINT,::aioxide::Signal::SIGQUIT])",
        ),
        (
            "shutdown_timeout = 1.5s",
            ".shutdown_timeout((1u64,500000000u32))",
        ),
        ("drain_delay = 24s", ".drain_delay((24u64,0u32))"),
        (
            "drain_delay = 25s, shutdown_timeout = 26s",
            ".shutdown_timeout((26u64,0u32)).drain_delay((25u64,0u32))",
        ),
        ("init = log::init", ".init(log::init)"),
        ("on_ready = announce", ".on_ready(announce)"),
        ("monitor", ".monitor(true)"),
        ("balance", ".balance(true)"),
        (
            "isolation = thread, balance",
            ".isolation(::aioxide::Isolation::Thread).balance(true)",
        ),
        ("extra = router", ".extra(\"router\",router)"),
        (
            "extra = [a::router, r#fn]",
            ".extra(\"a::router\",a::router).extra(\"fn\",r#fn)",
        ),
    ] {
        assert_eq!(built(args), (String::new(), call.to_owned()), "{args}");
    }
}

/// In their order, before an argument is moved into the server.
#[test]
fn an_expression_is_evaluated_before() {
    for (args, before, call) in [
        (
            "workers = n()",
            "let__aioxide_workers:::core::primitive::usize=n();",
            ".workers(__aioxide_workers)",
        ),
        (
            "max_restarts = N",
            "let__aioxide_max_restarts:::core::primitive::u32=N;",
            ".max_restarts(__aioxide_max_restarts)",
        ),
        (
            "isolation = KIND",
            "let__aioxide_isolation:::aioxide::Isolation=KIND;",
            ".isolation(__aioxide_isolation)",
        ),
        (
            "isolation = a::kind",
            "let__aioxide_isolation:::aioxide::Isolation=a::kind;",
            ".isolation(__aioxide_isolation)",
        ),
        (
            "on_failure = f()",
            "let__aioxide_on_failure:::aioxide::OnFailure=f();",
            ".on_failure(__aioxide_on_failure)",
        ),
        (
            "upgrade = f()",
            "let__aioxide_upgrade:::aioxide::Upgrade=f();",
            ".upgrade(__aioxide_upgrade)",
        ),
        (
            "upgrade_signal = f()",
            "let__aioxide_upgrade_signal:::core::option::Option<::aioxide::Signal>=f();",
            ".upgrade_signal(__aioxide_upgrade_signal)",
        ),
        (
            "hang_timeout = T",
            "let__aioxide_hang_timeout:::core::time::Duration=T;",
            ".hang_timeout(__aioxide_hang_timeout)",
        ),
        (
            "drain_delay = T",
            "let__aioxide_drain_delay:::core::time::Duration=T;",
            ".drain_delay(__aioxide_drain_delay)",
        ),
        (
            "monitor = \"a\"",
            "let__aioxide_monitor:::aioxide::Door=::core::convert::Into::into(\"a\");",
            ".monitor(__aioxide_monitor)",
        ),
        (
            "health = ADDRESS",
            "let__aioxide_health:::std::string::String=::core::convert::Into::into(ADDRESS);",
            ".health(__aioxide_health)",
        ),
        (
            "recycle = after(1h)",
            "let__aioxide_recycle:[::aioxide::Recycle;1usize]=[::aioxide::Recycle::after((3600u64,0u32))];",
            ".recycle(__aioxide_recycle)",
        ),
        (
            "recycle = [over(2MiB), after_connections(9), fragment!(after)(T)]",
            "let__aioxide_recycle:[::aioxide::Recycle;3usize]=[::aioxide::Recycle::over(2097152u64),\
             ::aioxide::Recycle::after_connections(9),::aioxide::Recycle::after(T)];",
            ".recycle(__aioxide_recycle)",
        ),
    ] {
        assert_eq!(built(args), (before.to_owned(), call.to_owned()), "{args}");
    }
}

#[test]
fn a_lone_word_is_an_expression_if_it_is_an_argument_or_a_constant() {
    let function = "async fn echo(worker: Worker, kind: Isolation, signal: Option<Signal>) { yield_().await; }";
    let item = accepts(
        attribute,
        "isolation = kind, upgrade_signal = signal, on_failure = ON_FAILURE",
        function,
    );
    assert!(item.contains("Isolation = kind ;"), "{item}");
    assert!(item.contains("Signal > = signal ;"), "{item}");
    // The worker's own argument isn't the caller's.
    refuses(
        attribute,
        "isolation = worker",
        function,
        &["`isolation` is one of `thread`, `process`"],
    );
}

#[test]
fn each_mistake_is_told_once() {
    for (args, says) in [
        (
            "workers = 0",
            "`workers` is at least 1, and this is 0\nhelp: write for example `workers = 4`",
        ),
        ("roll_overlap = 0", "`roll_overlap` is at least 1"),
        (
            "max_connections = 0usize",
            "`max_connections` is at least 1",
        ),
        (
            "workers = 4u8",
            "`workers` takes a number of type `usize`, not `4u8`",
        ),
        (
            "workers = \"4\"",
            "`workers` takes a number of type `usize`",
        ),
        (
            "max_restarts = 3usize",
            "`max_restarts` takes a number of type `u32`",
        ),
        (
            "max_restarts = 1.5",
            "`max_restarts` takes a number of type `u32`",
        ),
        (
            "isolation = proces",
            "not `proces`\nhelp: did you mean `process`?",
        ),
        (
            "isolation = fiber",
            "or an expression of type `Isolation`, not `fiber`\nhelp: write for example `isolation = thread`",
        ),
        (
            "isolation = \"thread\"",
            "`isolation` is one of `thread`, `process`",
        ),
        (
            "on_failure = 3",
            "`on_failure` is one of `shutdown`, `restart`, `ignore`",
        ),
        (
            "upgrade = never",
            "`upgrade` is one of `notified`, `new_pid`",
        ),
        (
            "upgrade_signal = no",
            "`upgrade_signal` is `none`, one of SIGINT",
        ),
        (
            "upgrade_signal = SIGKILL",
            "`upgrade_signal` is `none`, one of SIGINT",
        ),
        (
            "upgrade_signal = \"SIGHUP\"",
            "`upgrade_signal` is `none`, one of SIGINT",
        ),
        (
            "stop_signals = SIGTERM",
            "`stop_signals` takes a list of signals, not `SIGTERM`",
        ),
        (
            "stop_signals = []",
            "`stop_signals` names at least one signal",
        ),
        (
            "stop_signals = [SIGTERM, SIGKILL]",
            "help: no program can catch this one",
        ),
        (
            "stop_signals = [SIGSTOP]",
            "help: no program can catch this one",
        ),
        (
            "stop_signals = [SIGUSR1]",
            "help: every worker gets this one as `worker.reloads()`",
        ),
        (
            "stop_signals = [SIGTTIN]",
            "help: this one changes the number of workers",
        ),
        (
            "stop_signals = [SIGTTOU]",
            "help: this one changes the number of workers",
        ),
        ("stop_signals = [SIGTEM]", "help: did you mean `SIGTERM`?"),
        ("stop_signals = [sigint]", "help: did you mean `SIGINT`?"),
        (
            "stop_signals = [3]",
            "help: write for example `stop_signals = [SIGINT, SIGTERM]`",
        ),
        (
            "start_timeout = 60",
            "`start_timeout`: `60` has a number without a unit",
        ),
        (
            "drain_delay = 25s",
            "`drain_delay` is part of `shutdown_timeout`, 25s, and must be less",
        ),
        (
            "drain_delay = 5s, shutdown_timeout = 5s",
            "`drain_delay` is part of `shutdown_timeout`, 5s",
        ),
        (
            "drain_delay = 5s, shutdown_timeout = 3",
            "`shutdown_timeout`: `3` has a number without a unit",
        ),
        (
            "drain_delay = 50, shutdown_timeout = 1ms",
            "`drain_delay`: `50` has a number without a unit",
        ),
        (
            "isolation = process, balance",
            "`balance` is for thread workers, and `isolation` is `process`",
        ),
        ("init = |worker| {}", "`init` takes the path of a function"),
        (
            "on_ready = <T>::announce",
            "`on_ready` takes the path of a function, not",
        ),
        ("recycle = 1h", "`recycle` takes `after(..)`"),
        ("recycle = after()", "`recycle` takes `after(..)`"),
        ("recycle = after(1h, 2h)", "`recycle` takes `after(..)`"),
        ("recycle = before(1h)", "`recycle` takes `after(..)`"),
        ("recycle = a::after(1h)", "`recycle` takes `after(..)`"),
        (
            "recycle = after(5)",
            "`after`: `5` has a number without a unit",
        ),
        (
            "recycle = [over(5), after(1h)]",
            "`over` takes a size, not `5`",
        ),
        ("crate = 5", "`crate` takes the path of the aioxide crate"),
        ("balance = true", "`balance` is a flag"),
    ] {
        wrong(args, says);
    }
    // What an expression says, or isn't said at all, is told when it runs.
    for args in [
        "isolation = kind(), balance",
        "drain_delay = 30s, shutdown_timeout = T",
        "shutdown_timeout = 1s, drain_delay = T",
    ] {
        built(args);
    }
}

/// What `#[server(args)]` calls, without spaces.
#[track_caller]
fn with_main(args: &str) -> String {
    let function = "async fn echo(worker: Worker, value: V, port: u16) { yield_().await; }";
    let item = accepts(attribute, args, function);
    item.split_whitespace().collect()
}

#[test]
fn the_main_context_goes_to_where_the_workers_are() {
    for (args, constructor) in [
        ("main = open", "::server_with_main("),
        ("main = open, isolation = thread", "::server_with_main("),
        (
            "main = open, isolation = process",
            "::server_with_shared_main(",
        ),
        (
            "main = open, isolation = kind()",
            "::server_with_main_for_either(",
        ),
        ("isolation = process", "::server("),
    ] {
        let item = with_main(args);
        assert!(item.contains(constructor), "{item}");
    }
}

#[test]
fn functions_of_options_get_what_is_given_to_them() {
    let item = with_main(
        "main = open(port, C), extra = [export(main, port + 1), router(port), run, count(<T>::main)]",
    );
    for part in [
        "let__aioxide_main_0=::aioxide::__private::argument(&port);",
        "move||open(__aioxide_main_0.get(),__aioxide_main_1.get())",
        "let__aioxide_extra0_1=::aioxide::__private::argument(&(port+1));",
        "|export(__aioxide_worker,__aioxide_main,__aioxide_extra0_1.get())",
        "let__aioxide_extra1_0=::aioxide::__private::argument(&port);",
        ".extra(\"router\",move|__aioxide_worker:::aioxide::Worker|router(__aioxide_worker,__aioxide_extra1_0.get()))",
        ".extra(\"run\",run)",
        // That of a type is a value as any other.
        "let__aioxide_extra3_0=::aioxide::__private::argument(&<T>::main);",
    ] {
        assert!(item.contains(part), "{part}\n{item}");
    }
}

#[test]
fn functions_of_options_that_are_none() {
    for (args, says) in [
        (
            "main = 5",
            "`main` takes the path of a function, or a call of one, not `5`",
        ),
        ("main = <T>::open", "`main` takes the path of a function"),
        ("main = open()()", "`main` takes the path of a function"),
        ("main = open(1)(2)", "`main` takes the path of a function"),
        (
            "main = open(main)",
            "the main context can't take its own value",
        ),
        ("extra = 5", "`extra` takes a list of functions, not `5`"),
        ("extra = router()", "`extra` takes a list of functions"),
        (
            "extra = [router, 5]",
            "`extra` takes paths of functions, or calls of them, not `5`",
        ),
        ("extra = [<T>::run]", "`extra` takes paths of functions"),
        (
            "extra = [export(main)]",
            "`main` is the main context's value here, and this server has no main context",
        ),
        (
            "mian = open, extra = [export(main)]",
            "did you mean `main`?",
        ),
    ] {
        wrong(args, says);
    }
}
