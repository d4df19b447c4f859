//! Whatever they are put on: the attributes don't panic, and leave an item or an error behind.

use proc_macro2::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::raw_fn::RawFn;

type Attribute = fn(TokenStream, TokenStream) -> TokenStream;

const ATTRIBUTES: [(&str, Attribute); 3] = [
    ("actxmgr", crate::actxmgr::attribute),
    ("server", crate::server::attribute),
    ("timer", crate::timer::attribute),
];

const WORDS: [&str; 66] = [
    "async",
    "await",
    "const",
    "crate",
    "dyn",
    "enum",
    "extern",
    "fn",
    "for",
    "impl",
    "in",
    "let",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "pub",
    "ref",
    "return",
    "self",
    "Self",
    "static",
    "struct",
    "trait",
    "type",
    "unsafe",
    "use",
    "where",
    "while",
    "yield",
    "yield_",
    "main",
    "Worker",
    "Tick",
    "Result",
    "Always",
    "borrowed",
    "finish_setup",
    "setup_timeout",
    "workers",
    "isolation",
    "process",
    "extra",
    "stop_signals",
    "on_failure",
    "share_port",
    "after",
    "first",
    "now",
    "overlap",
    "skip",
    "allow",
    "queue",
    "cancel",
    "missed",
    "burst",
    "jitter",
    "phase",
    "random",
    "timeout",
    "grace",
    "name",
    "interval",
    "SIGTERM",
    "_",
];

const LITERALS: [&str; 14] = [
    "0",
    "1",
    "100ms",
    "1.5s",
    "5w",
    "1h30m",
    "0x10",
    "1e400",
    "99999999999999999999",
    "\"1h 30m\"",
    "\"\"",
    "'a'",
    "b\"x\"",
    "4u64",
];

const PUNCTUATION: &str = "=,;:.<>&*!?#$@|+-/^%~'";

/// What is annotated and with what, before anything happens to it.
const SEEDS: [(&str, &str); 10] = [
    (
        "setup_timeout = 5s, teardown_timeout = LIMIT, finish_setup",
        "pub async fn connection(url: String) -> io::Result<Connection> { let (c, exit) = yield_(open(url)?).await; c.close(exit).await }",
    ),
    (
        "borrowed",
        "async fn lock<'a, T>(&'a self, of: &mut T) -> Always<&'a str> { yield_(\"\").await; }",
    ),
    (
        "",
        "async fn nothing() { for x in y { || async { yield_() }; } tokio::select! { _ = yield_() => {} } }",
    ),
    (
        "workers = 4, isolation = process, main = database, extra = [router, metrics], init = log, on_failure = restart",
        "#[must_use] async fn main(worker: Worker, db: Db) -> io::Result<()> { let stop = yield_().await; Ok(()) }",
    ),
    (
        "stop_signals = [SIGINT, SIGTERM], shutdown_timeout = 25s, max_restarts = 10, share_port, crate = a::b",
        "async fn echo<T: Clone, const N: usize>(w: Worker, (a, b): (u8, [T; N])) where T: Send { yield_().await }",
    ),
    (
        "100ms, first = interval, overlap = queue(8), missed = burst(2), jitter = 10ms, phase = random, name = \"x\"",
        "pub async fn heartbeat(tick: Tick, mut peers: Arc<Peers>) -> Result<(), Error> { tick.cancel(); Ok(()) }",
    ),
    (
        "after = delay * 2, timeout = 1s, grace = 1s",
        "async fn beat(self: Arc<Self>, delay: Duration) {}",
    ),
    ("", "unsafe extern \"C\" fn f(x: u8, ...) -> impl Trait;"),
    ("", "impl<T> Trait for S { const X: u8 = 1; fn f() {} }"),
    ("", "struct S(pub u8);"),
];

fn leaf() -> impl Strategy<Value = TokenTree> {
    let ident = |word: &str| TokenTree::from(Ident::new(word, Span::call_site()));
    let literal = |text: &str| TokenTree::from(text.parse::<Literal>().expect("a literal"));
    let punct = |(character, joint): (char, bool)| {
        let spacing = if joint {
            Spacing::Joint
        } else {
            Spacing::Alone
        };
        TokenTree::from(Punct::new(character, spacing))
    };
    prop_oneof![
        4 => select(&WORDS[..]).prop_map(ident),
        1 => select(&LITERALS[..]).prop_map(literal),
        3 => (select(PUNCTUATION.chars().collect::<Vec<_>>()), any::<bool>()).prop_map(punct),
    ]
}

fn tree() -> impl Strategy<Value = TokenTree> {
    leaf().prop_recursive(4, 48, 8, |inner| {
        let delimiters = vec![
            Delimiter::Brace,
            Delimiter::Parenthesis,
            Delimiter::Bracket,
            Delimiter::None,
        ];
        (select(delimiters), prop::collection::vec(inner, 0..8)).prop_map(|(delimiter, trees)| {
            Group::new(delimiter, trees.into_iter().collect()).into()
        })
    })
}

fn stream() -> impl Strategy<Value = TokenStream> {
    prop::collection::vec(tree(), 0..24).prop_map(TokenStream::from_iter)
}

#[derive(Clone, Debug)]
enum Edit {
    Remove(Index),
    Double(Index),
    Swap(Index, Index),
    Insert(Index, TokenTree),
    Wrap(Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        any::<Index>().prop_map(Edit::Remove),
        any::<Index>().prop_map(Edit::Double),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Edit::Swap(a, b)),
        (any::<Index>(), tree()).prop_map(|(at, tree)| Edit::Insert(at, tree)),
        any::<Index>().prop_map(Edit::Wrap),
    ];
    prop::collection::vec(edit, 0..6)
}

/// A piece of a stream without nesting, so that an edit may happen at any depth.
#[derive(Clone)]
enum Flat {
    Token(TokenTree),
    Open(Delimiter),
    Close,
}

fn flatten(tokens: TokenStream, flat: &mut Vec<Flat>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                flat.push(Flat::Open(group.delimiter()));
                flatten(group.stream(), flat);
                flat.push(Flat::Close);
            }
            other => flat.push(Flat::Token(other)),
        }
    }
}

/// Closes what was left open, and opens nothing for what is closed too often.
fn rebuild(flat: Vec<Flat>) -> TokenStream {
    let mut open: Vec<(Delimiter, Vec<TokenTree>)> = vec![(Delimiter::None, Vec::new())];
    let close = |open: &mut Vec<(Delimiter, Vec<TokenTree>)>| {
        if open.len() < 2 {
            return;
        }
        if let Some((delimiter, trees)) = open.pop() {
            let group = Group::new(delimiter, trees.into_iter().collect());
            if let Some((_, outer)) = open.last_mut() {
                outer.push(group.into());
            }
        }
    };
    for piece in flat {
        match piece {
            Flat::Token(token) => {
                if let Some((_, trees)) = open.last_mut() {
                    trees.push(token);
                }
            }
            Flat::Open(delimiter) => open.push((delimiter, Vec::new())),
            Flat::Close => close(&mut open),
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop()
        .map(|(_, trees)| trees)
        .unwrap_or_default()
        .into_iter()
        .collect()
}

fn edited(text: &str, edits: &[Edit]) -> TokenStream {
    let mut flat = Vec::new();
    flatten(text.parse().expect("a token stream"), &mut flat);
    for edit in edits {
        if flat.is_empty() {
            break;
        }
        let len = flat.len();
        match edit {
            Edit::Remove(at) => drop(flat.remove(at.index(len))),
            Edit::Double(at) => flat.insert(at.index(len), flat[at.index(len)].clone()),
            Edit::Swap(a, b) => flat.swap(a.index(len), b.index(len)),
            Edit::Insert(at, tree) => flat.insert(at.index(len), Flat::Token(tree.clone())),
            Edit::Wrap(at) => {
                let at = at.index(len);
                flat.insert(at + 1, Flat::Close);
                flat.insert(at, Flat::Open(Delimiter::None));
            }
        }
    }
    rebuild(flat)
}

/// A function of that name is among the items.
fn declares(items: &TokenStream, name: &Ident) -> bool {
    let tokens: Vec<TokenTree> = items.clone().into_iter().collect();
    tokens.windows(2).any(|pair| {
        matches!(pair, [TokenTree::Ident(word), TokenTree::Ident(kept)] if word == "fn" && kept == name)
    })
}

fn check(args: &TokenStream, item: &TokenStream) -> Result<(), TestCaseError> {
    for (name, attribute) in ATTRIBUTES {
        let output = attribute(args.clone(), item.clone());
        let text = output.to_string();
        let refused = text.contains("compile_error");
        prop_assert!(
            refused || !output.is_empty(),
            "#[{name}({args})] {item} leaves nothing"
        );
        let Ok(function) = syn::parse2::<RawFn>(item.clone()) else {
            prop_assert!(refused, "#[{name}({args})] {item} is let through: {text}");
            continue;
        };
        prop_assert!(
            declares(&output, function.name()),
            "#[{name}({args})] {item} is lost: {text}"
        );
        // One whose body doesn't parse leaves that to rustc.
        if syn::parse2::<syn::ItemFn>(item.clone()).is_ok() {
            prop_assert!(
                syn::parse2::<syn::File>(output).is_ok(),
                "#[{name}({args})] {item} becomes what doesn't parse: {text}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_tokens(args in stream(), item in stream()) {
        check(&args, &item)?;
    }

    #[test]
    fn random_options_of_a_function(args in stream(), seed in 0..7usize) {
        check(&args, &SEEDS[seed].1.parse().expect("a token stream"))?;
    }

    #[test]
    fn damaged_functions(
        seed in 0..SEEDS.len(),
        of_args in edits(),
        of_item in edits(),
    ) {
        let (args, item) = SEEDS[seed];
        check(&edited(args, &of_args), &edited(item, &of_item))?;
    }
}
