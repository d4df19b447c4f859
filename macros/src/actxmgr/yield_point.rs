//! Where the function yields: exactly once, awaited on the spot, in its own body.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Expr, ExprAwait, ExprCall, ExprReturn};

use crate::errors::Errors;

pub(super) const YIELD: &str = "yield_";

/// The one call of `yield_`.
#[derive(Clone)]
pub(super) struct YieldPoint {
    /// The name as it was typed: what is bound to it must have the same hygiene.
    pub(super) ident: Ident,
    /// `yield_()`
    pub(super) valueless: bool,
}

pub(super) enum Search {
    Found(YieldPoint),
    /// The body doesn't parse, and rustc says so.
    Unreadable,
    /// The mistake has been reported.
    Wrong,
}

/// Looks for the yield of the function `name` in its body.
pub(super) fn search(name: &Ident, body: &Group, errors: &mut Errors) -> Search {
    let Ok(block) = syn::parse2::<Block>(TokenTree::from(body.clone()).into()) else {
        return match calls_in(body.stream()).into_iter().next() {
            Some(point) => Search::Found(point),
            None => Search::Unreadable,
        };
    };
    let mut finder = Finder::default();
    finder.visit_block(&block);
    finder.conclude(name, errors)
}

/// What stands around a call.
#[derive(Clone)]
enum Scope {
    Loop,
    Closure,
    AsyncBlock,
    Item,
    Macro(String),
}

impl Scope {
    fn what_and_help(&self) -> (String, &'static str) {
        match self {
            Scope::Loop => (
                "`yield_` in a loop: it may be reached more than once, and a context yields exactly once".to_owned(),
                "move `yield_` out of the loop",
            ),
            Scope::Closure => (
                "`yield_` in a closure: only the annotated function's own body can be suspended".to_owned(),
                "move `yield_` out of the closure",
            ),
            Scope::AsyncBlock => (
                "`yield_` in an async block, a future of its own: only the annotated function's own body can be suspended".to_owned(),
                "move `yield_` out of the async block",
            ),
            Scope::Item => (
                "`yield_` in a nested function: only the annotated function's own body can be suspended".to_owned(),
                "move `yield_` out of the nested function, or annotate that one",
            ),
            Scope::Macro(name) => (
                format!("`yield_` in the macro call `{name}!`, which may run it more than once or never"),
                "await `yield_` outside of the macro call",
            ),
        }
    }
}

enum Fault {
    Scope(Scope),
    NotAwaited,
    NotCalled,
    Arguments(usize),
}

struct Call {
    tokens: TokenStream,
    point: YieldPoint,
    fault: Option<Fault>,
}

#[derive(Default)]
struct Finder {
    scopes: Vec<Scope>,
    calls: Vec<Call>,
    /// `return` and `return Ok(..)` seen before any call.
    early: Vec<TokenStream>,
    /// A `yield` without the underscore, which rustc rejects.
    keyword: bool,
}

impl Finder {
    fn within(&mut self, scope: Scope, visit: impl FnOnce(&mut Self)) {
        self.scopes.push(scope);
        visit(self);
        self.scopes.pop();
    }

    fn record(
        &mut self,
        tokens: impl ToTokens,
        ident: &Ident,
        valueless: bool,
        fault: Option<Fault>,
    ) {
        let fault = match self.scopes.last() {
            Some(scope) => Some(Fault::Scope(scope.clone())),
            None => fault,
        };
        self.calls.push(Call {
            tokens: tokens.to_token_stream(),
            point: YieldPoint {
                ident: ident.clone(),
                valueless,
            },
            fault,
        });
    }

    fn call(&mut self, call: &ExprCall, ident: &Ident, awaited: bool) {
        // In the order in which they run: what is in the arguments comes first.
        for argument in &call.args {
            self.visit_expr(argument);
        }
        let count = call.args.len();
        let fault = if count > 1 {
            Some(Fault::Arguments(count))
        } else if !awaited {
            Some(Fault::NotAwaited)
        } else {
            None
        };
        self.record(call, ident, count == 0, fault);
    }

    fn conclude(self, name: &Ident, errors: &mut Errors) -> Search {
        let before = errors.len();
        let mut found: Option<YieldPoint> = None;
        for call in self.calls {
            let (what, help) = match &call.fault {
                None if found.is_none() => {
                    found = Some(call.point);
                    continue;
                }
                None => (
                    "a second `yield_`: a context yields exactly once".to_owned(),
                    "remove it; for a choice between two values, yield once behind the `if` or `match`",
                ),
                Some(Fault::Scope(scope)) => scope.what_and_help(),
                Some(Fault::NotAwaited) => (
                    "`yield_(..)` must be awaited on the spot: it is the point where the function is suspended".to_owned(),
                    "write `yield_(..).await`",
                ),
                Some(Fault::NotCalled) => (
                    "`yield_` can only be called and awaited, not passed on".to_owned(),
                    "write `yield_(value).await`",
                ),
                Some(Fault::Arguments(count)) => (
                    format!("`yield_` takes one value, or none, not {count}"),
                    "to yield several values, yield a tuple: `yield_((a, b)).await`",
                ),
            };
            errors.push(&call.tokens, what, help);
            found.get_or_insert(call.point);
        }
        let Some(point) = found else {
            if !self.keyword {
                errors.push(
                    name,
                    format!(
                        "`{name}` never yields: a context has exactly one `yield_(value).await`"
                    ),
                    "write `let (value, exit) = yield_(value).await;` between setup and teardown, \
                     or `let exit = yield_().await;` to yield nothing",
                );
            }
            return Search::Wrong;
        };
        for early in &self.early {
            errors.push(
                early,
                "this leaves the function with success before it has yielded: there would be nothing to enter",
                "fail with `return Err(..)` or `?`, or yield first",
            );
        }
        if errors.len() > before {
            return Search::Wrong;
        }
        Search::Found(point)
    }
}

fn ungroup(mut expr: &Expr) -> &Expr {
    loop {
        expr = match expr {
            Expr::Group(group) => &group.expr,
            Expr::Paren(paren) => &paren.expr,
            other => return other,
        };
    }
}

/// The callee, if `expr` is a call of `yield_`.
fn yield_call(expr: &Expr) -> Option<(&ExprCall, &Ident)> {
    let Expr::Call(call) = ungroup(expr) else {
        return None;
    };
    Some((call, yield_path(&call.func)?))
}

fn yield_path(expr: &Expr) -> Option<&Ident> {
    let Expr::Path(path) = ungroup(expr) else {
        return None;
    };
    let ident = path.path.get_ident()?;
    (path.qself.is_none() && ident == YIELD).then_some(ident)
}

/// Whether an attribute of the function's own gives it a `yield_` of its own.
fn yields_itself(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let last = attr.path().segments.last();
        last.is_some_and(|last| last.ident == "actxmgr" || last.ident == "server")
    })
}

/// `return` and `return Ok(..)`.
fn is_success(expr: &ExprReturn) -> bool {
    let Some(value) = &expr.expr else { return true };
    let Expr::Call(call) = ungroup(value) else {
        return false;
    };
    match ungroup(&call.func) {
        Expr::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| last.ident == "Ok"),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_expr(&mut self, expr: &'ast Expr) {
        if let Some((call, ident)) = yield_call(expr) {
            self.call(call, ident, false);
        } else if let Some(ident) = yield_path(expr) {
            self.record(expr, ident, false, Some(Fault::NotCalled));
        } else {
            visit::visit_expr(self, expr);
        }
    }

    fn visit_expr_await(&mut self, expr: &'ast ExprAwait) {
        match yield_call(&expr.base) {
            Some((call, ident)) => self.call(call, ident, true),
            None => visit::visit_expr_await(self, expr),
        }
    }

    fn visit_expr_closure(&mut self, expr: &'ast syn::ExprClosure) {
        self.within(Scope::Closure, |this| visit::visit_expr_closure(this, expr));
    }

    fn visit_expr_async(&mut self, expr: &'ast syn::ExprAsync) {
        self.within(Scope::AsyncBlock, |this| {
            visit::visit_expr_async(this, expr)
        });
    }

    fn visit_expr_loop(&mut self, expr: &'ast syn::ExprLoop) {
        self.within(Scope::Loop, |this| visit::visit_expr_loop(this, expr));
    }

    fn visit_expr_while(&mut self, expr: &'ast syn::ExprWhile) {
        self.within(Scope::Loop, |this| visit::visit_expr_while(this, expr));
    }

    fn visit_expr_for_loop(&mut self, expr: &'ast syn::ExprForLoop) {
        // Only the body is run again and again.
        self.visit_expr(&expr.expr);
        self.within(Scope::Loop, |this| this.visit_block(&expr.body));
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.within(Scope::Item, |this| visit::visit_item(this, item));
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !yields_itself(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !yields_itself(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if !yields_itself(&function.attrs) {
            visit::visit_trait_item_fn(self, function);
        }
    }

    fn visit_expr_return(&mut self, expr: &'ast ExprReturn) {
        visit::visit_expr_return(self, expr);
        let own = self.scopes.iter().all(|scope| matches!(scope, Scope::Loop));
        if own && self.calls.is_empty() && is_success(expr) {
            self.early.push(expr.to_token_stream());
        }
    }

    fn visit_expr_yield(&mut self, expr: &'ast syn::ExprYield) {
        self.keyword = true;
        visit::visit_expr_yield(self, expr);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let name = mac.path.segments.last().map(|last| last.ident.to_string());
        let scope = Scope::Macro(name.unwrap_or_default());
        for point in calls_in(mac.tokens.clone()) {
            let ident = point.ident.clone();
            self.within(scope.clone(), |this| {
                this.record(&ident, &ident, false, None)
            });
        }
    }
}

/// Every `yield_(..)` in tokens that cannot be, or aren't to be, parsed.
fn calls_in(tokens: TokenStream) -> Vec<YieldPoint> {
    let mut points = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if ident == YIELD => {
                let valueless = match tokens.peek() {
                    Some(TokenTree::Group(group))
                        if group.delimiter() == Delimiter::Parenthesis =>
                    {
                        group.stream().is_empty()
                    }
                    _ => continue,
                };
                points.push(YieldPoint { ident, valueless });
            }
            TokenTree::Group(group) => points.extend(calls_in(group.stream())),
            _ => {}
        }
    }
    points
}
