//! What the tests of the attributes share: what an attribute makes of an item, and what it says.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::LitStr;

pub(crate) type Attribute = fn(TokenStream, TokenStream) -> TokenStream;

/// The tokens of `text`. In place of `fragment!(..)` stands the invisible group that `macro_rules!` puts around one.
pub(crate) fn tokens(text: &str) -> TokenStream {
    grouped(text.parse().expect("a token stream"))
}

fn grouped(tokens: TokenStream) -> TokenStream {
    let mut trees: Vec<TokenTree> = Vec::new();
    for tree in tokens {
        let TokenTree::Group(group) = tree else {
            trees.push(tree);
            continue;
        };
        let before = trees.len().saturating_sub(2);
        let of_macro: String = trees[before..].iter().map(ToString::to_string).collect();
        let mut delimiter = group.delimiter();
        if of_macro == "fragment!" {
            trees.truncate(before);
            delimiter = Delimiter::None;
        }
        trees.push(Group::new(delimiter, grouped(group.stream())).into());
    }
    trees.into_iter().collect()
}

/// What an attribute leaves.
pub(crate) struct Left {
    /// The item, with spaces between its tokens.
    pub(crate) item: String,
    pub(crate) errors: Vec<String>,
}

impl Left {
    /// Tells the item and the errors in an expansion apart.
    pub(crate) fn of(output: &TokenStream) -> Left {
        let text = output.to_string();
        let mut parts = text.split(":: core :: compile_error ! {");
        let item = parts.next().unwrap_or_default().to_owned();
        let message = |rest: &str| {
            let literal = rest.trim().trim_end_matches('}');
            syn::parse_str(literal).map_or_else(|_| rest.to_owned(), |text: LitStr| text.value())
        };
        Left {
            item,
            errors: parts.map(message).collect(),
        }
    }
}

/// Expects one error for each of `says`, in which it stands, parts of it on both sides of a `…`; and no others. Gives the
/// item that is left.
#[track_caller]
pub(crate) fn refuses(attribute: Attribute, args: &str, item: &str, says: &[&str]) -> String {
    let left = Left::of(&attribute(tokens(args), tokens(item)));
    let told = left.errors.len() == says.len()
        && says
            .iter()
            .zip(&left.errors)
            .all(|(says, error)| says.split('…').all(|part| error.contains(part.trim())));
    assert!(
        told,
        "({args}) {item}\nexpected {says:#?}\nbut it says {:#?}",
        left.errors
    );
    left.item
}

/// Expects no error. Gives what the item becomes.
#[track_caller]
pub(crate) fn accepts(attribute: Attribute, args: &str, item: &str) -> String {
    refuses(attribute, args, item, &[])
}
