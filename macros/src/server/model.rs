//! What is legal: the options checked, the function's arguments told apart.

use std::time::Duration;

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Block, Expr, ExprLit, Ident, Lit, Pat, PatType, Path, Type, TypeReference};

use super::args::Args;
use crate::duration::Length;
use crate::errors::{Errors, nearest};
use crate::options::{as_word, compact, ungrouped};
use crate::paths::CratePath;
use crate::raw_fn::RawFn;
use crate::size::size;

const SIGNALS: [&str; 6] = [
    "SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR2", "SIGALRM",
];

pub(crate) struct Model {
    pub(crate) krate: CratePath,
    /// The user's own token, so that errors about it and its hygiene are the user's.
    pub(crate) yield_: Ident,
    pub(crate) main: Option<Invoked>,
    pub(crate) main_goes_to: MainGoesTo,
    pub(crate) extras: Vec<Invoked>,
    /// In the order of the documentation.
    pub(crate) calls: Vec<Call>,
}

/// Where the workers are that get the main context's value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MainGoesTo {
    Threads,
    Processes,
    /// An expression says.
    Either,
}

/// A function that an option names: its path alone, or called with arguments that follow what the server gives it.
pub(crate) struct Invoked {
    pub(crate) function: Path,
    pub(crate) arguments: Vec<Argument>,
}

pub(crate) enum Argument {
    /// The word `main`: the main context's value.
    Main(Ident),
    /// An expression of the caller's arguments.
    Value(Expr),
}

impl Argument {
    fn of(value: Expr) -> Argument {
        match &value {
            Expr::Path(path) if path.path.is_ident("main") && path.qself.is_none() => {
                Argument::Main(Ident::new("main", path.span()))
            }
            _ => Argument::Value(value),
        }
    }
}

impl Invoked {
    /// `path`, or `path(arguments)`.
    fn of(value: &Expr) -> Option<Invoked> {
        let (function, arguments) = match value {
            Expr::Call(call) => {
                let arguments = call.args.iter().cloned().map(ungrouped);
                (&*call.func, arguments.map(Argument::of).collect())
            }
            other => (other, Vec::new()),
        };
        match ungrouped(function.clone()) {
            Expr::Path(path) if path.qself.is_none() => Some(Invoked {
                function: path.path,
                arguments,
            }),
            _ => None,
        }
    }

    /// The path as it is written, without generic arguments.
    pub(crate) fn name(&self) -> String {
        let segments = self.function.segments.iter();
        let names: Vec<String> = segments
            .map(|segment| segment.ident.unraw().to_string())
            .collect();
        names.join("::")
    }

    pub(crate) fn takes_main(&self) -> bool {
        let mut arguments = self.arguments.iter();
        arguments.any(|argument| matches!(argument, Argument::Main(_)))
    }

    /// The tokens in which the caller's arguments may stand.
    pub(crate) fn values(&self) -> TokenStream {
        let values = self.arguments.iter().filter_map(|argument| match argument {
            Argument::Main(_) => None,
            Argument::Value(value) => Some(value),
        });
        quote!(#(#values),*)
    }
}

/// A call of the builder.
pub(crate) struct Call {
    pub(crate) method: Ident,
    pub(crate) value: TokenStream,
    /// Its type, when it is an expression of the user's.
    pub(crate) expression: Option<TokenStream>,
}

pub(crate) enum Checked {
    Legal(Model),
    /// The mistakes have been reported.
    Wrong {
        yield_: Ident,
        /// Whether rustc will find nothing in it that follows from them.
        keep_body: bool,
    },
}

/// How many of the function's arguments the server fills in.
pub(super) fn filled_in(args: &Args) -> usize {
    1 + usize::from(args.options.meant("main"))
}

pub(crate) fn is_main(function: &RawFn) -> bool {
    function.name() == "main"
}

impl Model {
    pub(crate) fn check(args: &Args, function: &RawFn, errors: &mut Errors) -> Checked {
        let before = errors.len();
        check_signature(args, function, errors);
        let yield_ = check_yield(function, errors);
        let krate = CratePath::from_options(&args.options, errors);
        let mut options = OptionCheck {
            args,
            function,
            krate: &krate,
            calls: Vec::new(),
            errors,
        };
        options.at_least_1("workers", "4", ", or leave it out for one per core");
        let main_goes_to = options.isolation();
        let main = options.main();
        let extras = options.extras();
        for name in ["init", "on_ready"] {
            if let Some(path) = options.path(name) {
                options.call(name, quote!(#path));
            }
        }
        options.stop_signals();
        for name in ["shutdown_timeout", "drain_delay", "start_timeout"] {
            options.length(name);
        }
        options.delay_within_timeout();
        options.on_failure();
        options.count("max_restarts", "u32", "10");
        for name in ["restart_window", "hang_timeout"] {
            options.length(name);
        }
        options.at_least_1("roll_overlap", "2", ", or leave it out for all at once");
        options.at_least_1(
            "max_connections",
            "10_000",
            ", or leave it out for any number",
        );
        options.recycle();
        options.upgrade();
        options.upgrade_signal();
        if main_goes_to == MainGoesTo::Processes {
            options.no_balance_of_processes();
        }
        for name in ["balance", "share_port", "run_to_completion"] {
            if args.options.flag(name).is_some() {
                options.call(name, quote!(true));
            }
        }
        options.monitor();
        options.health();
        let calls = options.calls;
        if !args.sound || errors.len() > before {
            return Checked::Wrong {
                yield_: yield_.ident,
                keep_body: yield_.well_formed,
            };
        }
        Checked::Legal(Model {
            krate,
            yield_: yield_.ident,
            main,
            main_goes_to,
            extras,
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

    if let Some(generic) = sig.generics.params.first().filter(|_| is_main(function)) {
        errors.push(
            generic,
            "nobody can say what this parameter of `main` stands for",
            "write the type out, or give the function another name and call it from a `main` of your own",
        );
    }

    for argument in function.typed_args().skip(1) {
        if let Type::Reference(reference) = &*argument.ty {
            check_owned(argument, reference, errors);
        }
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
        (None, Some(argument)) if is_main(function) && !args.options.meant("main") => errors.push(
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

fn check_owned(argument: &PatType, reference: &TypeReference, errors: &mut Errors) {
    let lifetime = reference.lifetime.as_ref();
    if lifetime.is_some_and(|lifetime| lifetime.ident == "static") {
        return;
    }
    let (name, borrowed) = (compact(&argument.pat), compact(&reference.elem));
    errors.push(
        reference,
        format!("`{name}` is borrowed, and a worker outlives the call that it is started by"),
        format!("take something owned that every worker can have a clone of: `{name}: std::sync::Arc<{borrowed}>`"),
    );
}

struct Yield {
    ident: Ident,
    /// Called, and without a value.
    well_formed: bool,
}

/// Finds the one `yield_()`, also among a macro's tokens.
fn check_yield(function: &RawFn, errors: &mut Errors) -> Yield {
    const HELP: &str = "write `let stop = yield_().await;` where the worker is ready";
    let mut found = Vec::new();
    find_yields(function.body_tokens(), &mut found);
    let mut found = found.into_iter();
    let Some((ident, value)) = found.next() else {
        if reads_as_body(function) {
            errors.push(
                function.name(),
                "a server's worker says that it is ready by `yield_().await`, and this one never does",
                HELP,
            );
        }
        return Yield {
            ident: Ident::new("yield_", Span::mixed_site()),
            well_formed: true,
        };
    };
    let well_formed = value.as_ref().is_some_and(TokenStream::is_empty);
    match value {
        None => errors.push(
            &ident,
            "`yield_` is a function, and here it isn't called",
            HELP,
        ),
        Some(value) if !value.is_empty() => {
            errors.push(
                value,
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
    Yield { ident, well_formed }
}

/// Whether rustc has nothing to say about the body's syntax.
fn reads_as_body(function: &RawFn) -> bool {
    let body = function.body.clone().map(TokenTree::from);
    body.is_some_and(|body| syn::parse2::<Block>(body.into()).is_ok())
}

fn find_yields(tokens: TokenStream, found: &mut Vec<(Ident, Option<TokenStream>)>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut of_nested_fn = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if ident == "yield_" => {
                let value = match tokens.peek() {
                    Some(TokenTree::Group(group))
                        if group.delimiter() == Delimiter::Parenthesis =>
                    {
                        Some(group.stream())
                    }
                    _ => None,
                };
                found.push((ident, value));
            }
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                of_nested_fn |=
                    matches!(tokens.peek(), Some(TokenTree::Group(group)) if yields_itself(group));
            }
            TokenTree::Group(group) => {
                let body = group.delimiter() == Delimiter::Brace;
                if !(body && std::mem::take(&mut of_nested_fn)) {
                    find_yields(group.stream(), found);
                }
            }
            _ => {}
        }
    }
}

/// Whether the attribute in these brackets gives the function below it a `yield_` of its own.
fn yields_itself(attribute: &Group) -> bool {
    let path = attribute
        .stream()
        .into_iter()
        .map_while(|token| match token {
            TokenTree::Ident(ident) => Some(Some(ident)),
            TokenTree::Punct(punct) if punct.as_char() == ':' => Some(None),
            _ => None,
        });
    path.flatten()
        .last()
        .is_some_and(|name| name == "actxmgr" || name == "server")
}

struct OptionCheck<'a> {
    args: &'a Args,
    function: &'a RawFn,
    krate: &'a CratePath,
    calls: Vec<Call>,
    errors: &'a mut Errors,
}

impl OptionCheck<'_> {
    /// Records the builder call of the option `name`.
    fn call(&mut self, name: &str, value: TokenStream) {
        self.calls.push(Call {
            method: self.method(name),
            value,
            expression: None,
        });
    }

    /// As `call`, with an expression of the user's.
    fn call_with(&mut self, name: &str, value: &Expr, ty: TokenStream) {
        self.calls.push(Call {
            method: self.method(name),
            value: value.to_token_stream(),
            expression: Some(ty),
        });
    }

    fn method(&self, name: &str) -> Ident {
        let typed = self.args.options.flag(name);
        Ident::new(name, typed.map_or_else(Span::call_site, Ident::span))
    }

    fn at_least_1(&mut self, name: &str, example: &str, or: &str) {
        let value = self.args.options.value(name);
        match value {
            Some((
                _,
                Expr::Lit(ExprLit {
                    lit: Lit::Int(number),
                    ..
                }),
            )) if number.base10_parse::<u64>().is_ok_and(|n| n == 0) => self.errors.push(
                number,
                format!("`{name}` is at least 1, and this is 0"),
                format!("write for example `{name} = {example}`{or}"),
            ),
            _ => self.count(name, "usize", example),
        }
    }

    fn count(&mut self, name: &str, ty: &str, example: &str) {
        let Some((_, value)) = self.args.options.value(name) else {
            return;
        };
        match value {
            Expr::Lit(ExprLit {
                lit: Lit::Int(number),
                ..
            }) if number.suffix().is_empty() || number.suffix() == ty => {
                self.call(name, quote!(#number));
            }
            Expr::Lit(other) => self.errors.push(
                other,
                format!(
                    "`{name}` takes a number of type `{ty}`, not `{}`",
                    compact(other)
                ),
                format!("write for example `{name} = {example}`"),
            ),
            other => {
                let ty = Ident::new(ty, Span::call_site());
                self.call_with(name, other, quote!(::core::primitive::#ty));
            }
        }
    }

    fn length(&mut self, name: &str) {
        if let Some((_, value)) = self.args.options.value(name) {
            match Length::check(name, value, self.errors) {
                Length::Expr(value) => {
                    self.call_with(name, &value, quote!(::core::time::Duration));
                }
                literal @ Length::Literal(_) => self.call(name, literal.to_token_stream()),
            }
        }
    }

    fn monitor(&mut self) {
        match self.args.options.value("monitor") {
            Some((_, value)) => {
                let krate = self.krate;
                self.converted("monitor", value, quote!(#krate::Door));
            }
            None if self.args.options.flag("monitor").is_some() => {
                self.call("monitor", quote!(true));
            }
            None => {}
        }
    }

    fn health(&mut self) {
        if let Some((_, value)) = self.args.options.value("health") {
            self.converted("health", value, quote!(::std::string::String));
        }
    }

    /// A call with what `value` converts into.
    fn converted(&mut self, name: &str, value: &Expr, ty: TokenStream) {
        self.calls.push(Call {
            method: self.method(name),
            value: quote_spanned!(value.span()=> ::core::convert::Into::into(#value)),
            expression: Some(ty),
        });
    }

    fn recycle(&mut self) {
        let Some((_, value)) = self.args.options.value("recycle") else {
            return;
        };
        let limits: Vec<Expr> = match value {
            Expr::Array(array) => array.elems.iter().cloned().map(ungrouped).collect(),
            other => vec![other.clone()],
        };
        let limits: Vec<TokenStream> = limits
            .iter()
            .filter_map(|limit| self.limit(limit))
            .collect();
        let (krate, count) = (self.krate, limits.len());
        self.calls.push(Call {
            method: self.method("recycle"),
            value: quote!([#(#limits),*]),
            expression: Some(quote!([#krate::Recycle; #count])),
        });
    }

    fn limit(&mut self, limit: &Expr) -> Option<TokenStream> {
        const LIMITS: [&str; 3] = ["after", "after_connections", "over"];
        let called = match limit {
            Expr::Call(call) if call.args.len() == 1 => as_word(&call.func)
                .filter(|word| LIMITS.iter().any(|limit| word == limit))
                .map(|word| (word, &call.args[0])),
            _ => None,
        };
        let Some((word, given)) = called else {
            self.errors.push(
                limit,
                format!(
                    "`recycle` takes `after(..)`, `after_connections(..)`, `over(..)` or a list of them, not `{}`",
                    compact(limit)
                ),
                "write for example `recycle = after(1h)`, or `recycle = [after_connections(100_000), over(512MiB)]`",
            );
            return None;
        };
        let given = match word.to_string().as_str() {
            "after" => Length::check("after", given, self.errors).to_token_stream(),
            "over" => size("over", given, self.errors)?,
            _ => given.to_token_stream(),
        };
        let krate = self.krate;
        Some(quote!(#krate::Recycle::#word(#given)))
    }

    /// Where both are known here; else `run` tells.
    fn delay_within_timeout(&mut self) {
        const DEFAULT: Duration = Duration::from_secs(25);
        let known = |name, errors: &mut Errors| {
            let (_, value) = self.args.options.value(name)?;
            match Length::check(name, value, errors) {
                Length::Literal(length) => Some((value, length)),
                Length::Expr(_) => None,
            }
        };
        // What is wrong with them has been told.
        let told = &mut Errors::default();
        let timeout = match self.args.options.flag("shutdown_timeout") {
            Some(_) => known("shutdown_timeout", told).map(|(_, timeout)| timeout),
            None => Some(DEFAULT),
        };
        let delay = known("drain_delay", told);
        if let (Some((value, delay)), Some(timeout)) = (delay, timeout) {
            if told.len() == 0 && delay >= timeout {
                self.errors.push(
                    value,
                    format!(
                        "`drain_delay` is part of `shutdown_timeout`, {timeout:?}, and must be less"
                    ),
                    "write a shorter delay, or a longer `shutdown_timeout`",
                );
            }
        }
    }

    /// What an expression says of isolation, `run` tells.
    fn no_balance_of_processes(&mut self) {
        if let Some(balance) = self.args.options.flag("balance") {
            self.errors.push(
                balance,
                "`balance` is for thread workers, and `isolation` is `process`",
                "remove `balance`, or write `isolation = thread`",
            );
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

    fn main(&mut self) -> Option<Invoked> {
        let (_, value) = self.args.options.value("main")?;
        let Some(invoked) = Invoked::of(value) else {
            self.errors.push(
                value,
                format!(
                    "`main` takes the path of a function, or a call of one, not `{}`",
                    compact(value)
                ),
                "write for example `main = my_function`, or `main = my_function(config.url)`",
            );
            return None;
        };
        for argument in &invoked.arguments {
            if let Argument::Main(main) = argument {
                self.errors.push(
                    main,
                    "the main context can't take its own value",
                    "pass arguments of this function, or constants",
                );
            }
        }
        Some(invoked)
    }

    fn extras(&mut self) -> Vec<Invoked> {
        let Some((_, value)) = self.args.options.value("extra") else {
            return Vec::new();
        };
        let functions: Vec<Expr> = match value {
            Expr::Array(array) => array.elems.iter().cloned().map(ungrouped).collect(),
            Expr::Path(_) => vec![value.clone()],
            other => {
                self.errors.push(
                    other,
                    format!(
                        "`extra` takes a list of functions, not `{}`",
                        compact(other)
                    ),
                    "write for example `extra = [router, metrics(config.port)]`",
                );
                return Vec::new();
            }
        };
        let mut extras = Vec::new();
        for function in &functions {
            match Invoked::of(function) {
                Some(extra) => extras.push(extra),
                None => self.errors.push(
                    function,
                    format!(
                        "`extra` takes paths of functions, or calls of them, not `{}`",
                        compact(function)
                    ),
                    "write for example `extra = [router, metrics(config.port)]`",
                ),
            }
        }
        if !self.args.options.meant("main") {
            for argument in extras.iter().flat_map(|extra| &extra.arguments) {
                if let Argument::Main(main) = argument {
                    self.errors.push(
                        main,
                        "`main` is the main context's value here, and this server has no main context",
                        "add for example `main = my_function`, or pass something else",
                    );
                }
            }
        }
        extras
    }

    /// One of `words`, as a variant of the enum `of`, or an expression of that type. Which word, if one.
    fn word(
        &mut self,
        name: &str,
        of: &str,
        words: &[(&'static str, &str)],
    ) -> Option<&'static str> {
        let (_, value) = self.args.options.value(name)?;
        let krate = self.krate;
        let of = Ident::new(of, Span::call_site());
        let typed = compact(value);
        if let Some((word, variant)) = words.iter().find(|(word, _)| *word == typed) {
            let variant = Ident::new(variant, Span::call_site());
            self.call(name, quote!(#krate::#of::#variant));
            return Some(word);
        }
        if self.is_expression(value) {
            self.call_with(name, value, quote!(#krate::#of));
            return None;
        }
        let list: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let help = match nearest(&typed, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write for example `{name} = {}`", words[0].0),
        };
        self.errors.push(
            value,
            format!(
                "`{name}` is one of {} or an expression of type `{of}`, not `{typed}`",
                list.join(", ")
            ),
            help,
        );
        None
    }

    /// Whether it may be a value: a lone word is one only if it is an argument's name, or in capitals, as a constant's.
    fn is_expression(&self, value: &Expr) -> bool {
        let word = match value {
            Expr::Lit(_) => return false,
            Expr::Path(path) => path.path.get_ident(),
            _ => None,
        };
        let Some(word) = word else { return true };
        let mut arguments = caller_arguments(self.args, self.function);
        !word.to_string().contains(char::is_lowercase)
            || arguments
                .any(|argument| matches!(&*argument.pat, Pat::Ident(pat) if pat.ident == *word))
    }

    fn isolation(&mut self) -> MainGoesTo {
        let words = [("thread", "Thread"), ("process", "Process")];
        match self.word("isolation", "Isolation", &words) {
            Some("process") => MainGoesTo::Processes,
            None if self.args.options.flag("isolation").is_some() => MainGoesTo::Either,
            _ => MainGoesTo::Threads,
        }
    }

    fn on_failure(&mut self) {
        let words = [
            ("shutdown", "Shutdown"),
            ("restart", "Restart"),
            ("ignore", "Ignore"),
        ];
        self.word("on_failure", "OnFailure", &words);
    }

    fn upgrade(&mut self) {
        let words = [("notified", "Notified"), ("new_pid", "NewPid")];
        self.word("upgrade", "Upgrade", &words);
    }

    fn upgrade_signal(&mut self) {
        let Some((_, value)) = self.args.options.value("upgrade_signal") else {
            return;
        };
        let krate = self.krate;
        let typed = compact(value);
        if typed == "none" {
            self.call("upgrade_signal", quote!(::core::option::Option::None));
        } else if SIGNALS.contains(&typed.as_str()) {
            self.call(
                "upgrade_signal",
                quote!(::core::option::Option::Some(#krate::Signal::#value)),
            );
        } else if self.is_expression(value) && !typed.starts_with("SIG") {
            let ty = quote!(::core::option::Option<#krate::Signal>);
            self.call_with("upgrade_signal", value, ty);
        } else {
            self.errors.push(
                value,
                format!(
                    "`upgrade_signal` is `none`, one of {} or an expression of type `Option<Signal>`, not `{typed}`",
                    SIGNALS.join(", ")
                ),
                "write `upgrade_signal = none` for a program that uses SIGUSR2 itself",
            );
        }
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
        for element in array.elems.iter().cloned().map(ungrouped) {
            let typed = compact(&element);
            if SIGNALS.contains(&typed.as_str()) {
                signals.push(quote!(#krate::Signal::#element));
                continue;
            }
            let help = match typed.as_str() {
                "SIGKILL" | "SIGSTOP" => "no program can catch this one".to_owned(),
                "SIGUSR1" => "every worker gets this one as `worker.reloads()`".to_owned(),
                "SIGTTIN" | "SIGTTOU" => "this one changes the number of workers".to_owned(),
                _ => match nearest(&typed.to_uppercase(), SIGNALS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write for example `stop_signals = [SIGINT, SIGTERM]`".to_owned(),
                },
            };
            self.errors.push(
                element,
                format!(
                    "`{typed}` isn't a signal that can stop a server; those are {}",
                    SIGNALS.join(", ")
                ),
                help,
            );
        }
        self.call("stop_signals", quote!([#(#signals),*]));
    }
}

/// The arguments that the caller of the generated function passes.
pub(crate) fn caller_arguments<'f>(
    args: &Args,
    function: &'f RawFn,
) -> impl Iterator<Item = &'f PatType> {
    function.typed_args().skip(filled_in(args))
}
