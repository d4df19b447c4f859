//! What is legal: the options checked, the function's arguments told apart.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Expr, ExprLit, FnArg, Ident, Lit, Path};

use super::args::Args;
use crate::duration::Length;
use crate::errors::{Errors, nearest};
use crate::options::compact;
use crate::paths::CratePath;
use crate::raw_fn::RawFn;

const SIGNALS: [&str; 6] = [
    "SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR2", "SIGALRM",
];

pub(crate) struct Model {
    pub(crate) krate: CratePath,
    /// The user's own token, so that errors about it and its hygiene are the user's.
    pub(crate) yield_: Ident,
    pub(crate) main: Option<Path>,
    pub(crate) process: bool,
    /// Builder calls: the method and its argument, in the order of the documentation.
    pub(crate) calls: Vec<(Ident, TokenStream)>,
}

/// How many of the function's arguments the server fills in.
pub(crate) fn filled_in(args: &Args) -> usize {
    1 + usize::from(args.options.value("main").is_some())
}

pub(crate) fn is_main(function: &RawFn) -> bool {
    function.name() == "main"
}

impl Model {
    pub(crate) fn check(args: &Args, function: &RawFn, errors: &mut Errors) -> Option<Model> {
        let before = errors.len();
        check_signature(args, function, errors);
        let yield_ = check_yield(function, errors);
        let krate = CratePath::from_options(&args.options, errors);
        let mut options = OptionCheck {
            args,
            krate: &krate,
            calls: Vec::new(),
            errors,
        };
        options.workers();
        options.isolation();
        let main = options.path("main");
        options.extra();
        if let Some(path) = options.path("init") {
            options.call("init", quote!(#path));
        }
        options.stop_signals();
        for name in ["shutdown_timeout", "start_timeout"] {
            options.length(name);
        }
        options.on_failure();
        options.count("max_restarts");
        for name in ["restart_window", "hang_timeout"] {
            options.length(name);
        }
        for name in ["share_port", "run_to_completion"] {
            if args.options.flag(name).is_some() {
                options.call(name, quote!(true));
            }
        }
        let calls = options.calls;
        let process = matches!(args.options.value("isolation"), Some((_, value)) if compact(value) == "process");
        if !args.sound || errors.len() > before {
            return None;
        }
        Some(Model {
            krate,
            yield_: yield_?,
            main,
            process,
            calls,
        })
    }
}

fn check_signature(args: &Args, function: &RawFn, errors: &mut Errors) {
    let sig = &function.sig;
    let name = function.name();
    if sig.asyncness.is_none() {
        errors.push(
            sig.fn_token,
            "a server's worker is an async function, and this one isn't",
            format!("write `async fn {name}`"),
        );
    }
    if let Some(token) = &sig.constness {
        errors.push(
            token,
            "a server's worker can't be `const`",
            "remove `const`",
        );
    }
    if !matches!(sig.safety, syn::Safety::Default) {
        errors.push(
            &sig.safety,
            "a server's worker can't be `unsafe`",
            "remove `unsafe`",
        );
    }
    if let Some(abi) = &sig.abi {
        errors.push(abi, "a server's worker can't be `extern`", "remove the ABI");
    }
    if let Some(variadic) = &sig.variadic {
        errors.push(
            variadic,
            "a server's worker can't be variadic",
            "remove `...`",
        );
    }
    if function.body.is_none() {
        errors.push(
            name,
            "a server's worker needs a body",
            "write the function out",
        );
    }
    if let Some(receiver) = sig.receiver() {
        errors.push(
            receiver,
            "a server's worker is a free function and takes no `self`",
            "pass what it needs as arguments; they are cloned for every worker",
        );
        return;
    }

    let main = args.options.value("main");
    let mut arguments = sig.inputs.iter();
    if arguments.next().is_none() {
        errors.push(
            name,
            "a server's worker takes a `Worker` as its first argument, and this one takes none",
            format!("write `async fn {name}(worker: Worker)`"),
        );
        return;
    }
    let second = arguments.next();
    match (main, second) {
        (Some((key, _)), None) => errors.push(
            key,
            "the value of the main context is the worker's second argument, and there is none",
            format!("write `async fn {name}(worker: Worker, value: Value)`, or remove `main`"),
        ),
        (None, Some(argument)) if is_main(function) => errors.push(
            argument,
            "nobody can pass this argument to `main`",
            "the second argument is the main context's value, with `main = path`; \
             for arguments of your own give the function another name and call it from `main`",
        ),
        (Some(_), Some(_)) if is_main(function) => {
            if let Some(third) = arguments.next() {
                errors.push(
                    third,
                    "nobody can pass this argument to `main`",
                    "give the function another name and call it from a `main` of your own",
                );
            }
        }
        _ => {}
    }
}

/// Finds the one `yield_()`, also among a macro's tokens.
fn check_yield(function: &RawFn, errors: &mut Errors) -> Option<Ident> {
    const HELP: &str = "write `let stop = yield_().await;` where the worker is ready";
    let before = errors.len();
    let mut found = Vec::new();
    find_yields(function.body_tokens(), &mut found);
    let mut found = found.into_iter();
    let Some((first, argument)) = found.next() else {
        if function.body.is_some() {
            errors.push(
                function.name(),
                "a server's worker says that it is ready by `yield_().await`, and this one never does",
                HELP,
            );
        }
        return None;
    };
    match argument {
        None => errors.push(&first, "`yield_` is called: `yield_()`", HELP),
        Some(argument) if !argument.is_empty() => {
            errors.push(
                argument,
                "`yield_()` takes no value in a server's worker",
                HELP,
            );
        }
        Some(_) => {}
    }
    for (again, _) in found {
        errors.push(
            &again,
            "a server's worker has one `yield_()`, and this is another",
            "keep the future of the first, or use `worker.stopping()`, to wait in several places",
        );
    }
    (errors.len() == before).then_some(first)
}

/// The user's `yield_` token, wherever and however often it stands.
pub(crate) fn first_yield(function: &RawFn) -> Option<Ident> {
    let mut found = Vec::new();
    find_yields(function.body_tokens(), &mut found);
    found.into_iter().next().map(|(ident, _)| ident)
}

fn find_yields(tokens: TokenStream, found: &mut Vec<(Ident, Option<TokenStream>)>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if ident == "yield_" => {
                let argument = match tokens.peek() {
                    Some(TokenTree::Group(group)) => Some(group.stream()),
                    _ => None,
                };
                found.push((ident, argument));
            }
            TokenTree::Group(group) => find_yields(group.stream(), found),
            _ => {}
        }
    }
}

struct OptionCheck<'a> {
    args: &'a Args,
    krate: &'a CratePath,
    calls: Vec<(Ident, TokenStream)>,
    errors: &'a mut Errors,
}

impl OptionCheck<'_> {
    /// Records the builder call of the option `name`.
    fn call(&mut self, name: &str, argument: TokenStream) {
        let span = self
            .args
            .options
            .flag(name)
            .map_or_else(proc_macro2::Span::call_site, Ident::span);
        self.calls.push((Ident::new(name, span), argument));
    }

    fn workers(&mut self) {
        let Some((_, value)) = self.args.options.value("workers") else {
            return;
        };
        match value {
            Expr::Lit(ExprLit {
                lit: Lit::Int(number),
                ..
            }) if is_zero(number) => self.errors.push(
                number,
                "`workers` is at least 1, and this is 0",
                "write for example `workers = 4`, or leave it out for one per core",
            ),
            Expr::Lit(ExprLit {
                lit: Lit::Int(number),
                ..
            }) if matches!(number.suffix(), "" | "usize") => {
                self.call("workers", quote!(#number));
            }
            Expr::Lit(other) => self.errors.push(
                other,
                format!(
                    "`workers` takes a number of type `usize`, not `{}`",
                    compact(other)
                ),
                "write for example `workers = 4`",
            ),
            other => self.call("workers", quote!(#other)),
        }
    }

    fn count(&mut self, name: &str) {
        let Some((_, value)) = self.args.options.value(name) else {
            return;
        };
        match value {
            Expr::Lit(ExprLit {
                lit: Lit::Int(number),
                ..
            }) if matches!(number.suffix(), "" | "u32") => {
                self.call(name, quote!(#number));
            }
            Expr::Lit(other) => self.errors.push(
                other,
                format!(
                    "`{name}` takes a number of type `u32`, not `{}`",
                    compact(other)
                ),
                format!("write for example `{name} = 10`"),
            ),
            other => self.call(name, quote!(#other)),
        }
    }

    fn length(&mut self, name: &str) {
        if let Some((_, value)) = self.args.options.value(name) {
            let length = Length::check(name, value, self.errors);
            self.call(name, length.to_token_stream());
        }
    }

    fn path(&mut self, name: &str) -> Option<Path> {
        let (_, value) = self.args.options.value(name)?;
        match value {
            Expr::Path(path) if path.qself.is_none() => Some(path.path.clone()),
            other => {
                self.errors.push(
                    other,
                    format!(
                        "`{name}` takes the path of a function, not `{}`",
                        compact(other)
                    ),
                    format!("write for example `{name} = my_function`"),
                );
                None
            }
        }
    }

    fn extra(&mut self) {
        let Some((_, value)) = self.args.options.value("extra") else {
            return;
        };
        let functions: Vec<&Expr> = match value {
            Expr::Array(array) => array.elems.iter().collect(),
            Expr::Path(_) => vec![value],
            other => {
                self.errors.push(
                    other,
                    format!(
                        "`extra` takes a list of functions, not `{}`",
                        compact(other)
                    ),
                    "write for example `extra = [router, metrics]`",
                );
                return;
            }
        };
        for function in functions {
            match function {
                Expr::Path(path) => self.call("extra", quote!(#path)),
                other => self.errors.push(
                    other,
                    format!("`extra` takes paths of functions, not `{}`", compact(other)),
                    "write for example `extra = [router, metrics]`",
                ),
            }
        }
    }

    /// One of `words`, as a variant of the enum `of`.
    fn word(&mut self, name: &str, of: &str, words: &[(&str, &str)]) {
        let Some((_, value)) = self.args.options.value(name) else {
            return;
        };
        let typed = compact(value);
        if let Some((_, variant)) = words.iter().find(|(word, _)| *word == typed) {
            let krate = self.krate;
            let of = Ident::new(of, proc_macro2::Span::call_site());
            let variant = Ident::new(variant, proc_macro2::Span::call_site());
            self.call(name, quote!(#krate::#of::#variant));
            return;
        }
        let list: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let help = match nearest(&typed, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write for example `{name} = {}`", words[0].0),
        };
        self.errors.push(
            value,
            format!("`{name}` is one of {}, not `{typed}`", list.join(", ")),
            help,
        );
    }

    fn isolation(&mut self) {
        self.word(
            "isolation",
            "Isolation",
            &[("thread", "Thread"), ("process", "Process")],
        );
    }

    fn on_failure(&mut self) {
        let words = [
            ("shutdown", "Shutdown"),
            ("restart", "Restart"),
            ("ignore", "Ignore"),
        ];
        self.word("on_failure", "OnFailure", &words);
    }

    fn stop_signals(&mut self) {
        let Some((_, value)) = self.args.options.value("stop_signals") else {
            return;
        };
        let Expr::Array(array) = value else {
            self.errors.push(
                value,
                format!(
                    "`stop_signals` takes a list of signals, not `{}`",
                    compact(value)
                ),
                "write for example `stop_signals = [SIGINT, SIGTERM]`",
            );
            return;
        };
        if array.elems.is_empty() {
            self.errors.push(
                array,
                "`stop_signals` names at least one signal, and this list is empty",
                "write for example `stop_signals = [SIGINT, SIGTERM]`",
            );
        }
        let krate = self.krate;
        let mut signals = Vec::new();
        for element in &array.elems {
            let typed = compact(element);
            if SIGNALS.contains(&typed.as_str()) {
                signals.push(quote!(#krate::Signal::#element));
                continue;
            }
            let help = match nearest(&typed.to_uppercase(), SIGNALS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write for example `stop_signals = [SIGINT, SIGTERM]`".to_owned(),
            };
            self.errors.push(
                element,
                format!(
                    "`{typed}` is no signal that can stop a server; those are {}",
                    SIGNALS.join(", ")
                ),
                help,
            );
        }
        self.call("stop_signals", quote!([#(#signals),*]));
    }
}

fn is_zero(number: &syn::LitInt) -> bool {
    number.base10_digits() == "0"
}

/// The arguments that the caller of the generated function passes.
pub(crate) fn caller_arguments<'f>(
    args: &Args,
    function: &'f RawFn,
) -> impl Iterator<Item = &'f FnArg> {
    function.sig.inputs.iter().skip(filled_in(args))
}
