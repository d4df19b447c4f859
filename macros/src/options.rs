//! The one reader of an attribute's comma-separated list: `positional, key, key = value`.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, ExprPath, Ident, Token};

use crate::errors::Errors;

/// What may follow a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `key`
    Flag,
    /// `key = value`
    Value,
    /// `key`, or `key = value`
    Either,
}

/// A key that an attribute knows, and an example of a value for its messages.
pub(crate) struct Known {
    pub(crate) key: &'static str,
    pub(crate) shape: Shape,
    pub(crate) example: &'static str,
}

impl Known {
    pub(crate) const fn flag(key: &'static str) -> Self {
        Known {
            key,
            shape: Shape::Flag,
            example: "",
        }
    }

    pub(crate) const fn value(key: &'static str, example: &'static str) -> Self {
        Known {
            key,
            shape: Shape::Value,
            example,
        }
    }

    pub(crate) const fn either(key: &'static str, example: &'static str) -> Self {
        Known {
            key,
            shape: Shape::Either,
            example,
        }
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.shape {
            Shape::Flag | Shape::Either => f.write_str(self.key),
            Shape::Value => write!(f, "{} = {}", self.key, self.example),
        }
    }
}

/// One option as it was typed.
pub(crate) struct Given {
    pub(crate) key: Ident,
    /// Absent for a flag.
    pub(crate) value: Option<Expr>,
}

/// The options of one attribute: each key known, at most once, with a value where one is due.
pub(crate) struct Options {
    positional: Option<Expr>,
    given: Vec<Given>,
    /// The keys of options that were reported and left out; of a misspelt one, what was probably meant.
    refused: Vec<&'static str>,
}

impl Options {
    /// Reads `tokens`, reporting what is wrong and keeping what is right. `attribute` is the name for
    /// messages; `positional` tells whether the first item may be a bare expression.
    pub(crate) fn parse(
        attribute: &str,
        tokens: TokenStream,
        positional: bool,
        known: &[Known],
        errors: &mut Errors,
    ) -> Options {
        let mut options = Options {
            positional: None,
            given: Vec::new(),
            refused: Vec::new(),
        };
        let parser = |input: ParseStream<'_>| {
            let mut first = true;
            while !input.is_empty() {
                let place = match (positional, first) {
                    (false, _) => Place::Keyed,
                    (true, true) => Place::First,
                    (true, false) => Place::AfterFirst,
                };
                let item = options.item(attribute, input, place, known, errors);
                first = false;
                if let Err(error) = item {
                    errors.push_syntax(error);
                    skip_to_comma(input);
                }
                if input.is_empty() {
                    break;
                }
                if !input.peek(Token![,]) {
                    errors.push(
                        next_token(input),
                        format!("the options of `#[{attribute}]` are separated by commas, and there is none before this"),
                        "write a `,` in front of it",
                    );
                    skip_to_comma(input);
                }
                let _ = input.parse::<Token![,]>();
            }
            Ok(())
        };
        if let Err(error) = parser.parse2(tokens) {
            errors.push_syntax(error);
        }
        options
    }

    fn item(
        &mut self,
        attribute: &str,
        input: ParseStream<'_>,
        place: Place,
        known: &[Known],
        errors: &mut Errors,
    ) -> syn::Result<()> {
        let positional = place == Place::First;
        let keyed = input.peek(Ident::peek_any)
            && (input.peek2(Token![=]) && !input.peek2(Token![==])
                // No expression that could stand here has two names in a row: a comma is missing.
                || (!positional
                    && (input.peek2(Token![,]) || input.peek2(Ident::peek_any) || is_last(input))));
        if !keyed {
            let value = ungrouped(input.parse()?);
            if positional {
                self.positional = Some(value);
            } else {
                let help = if place == Place::AfterFirst && self.positional.is_none() {
                    "a value without a name stands first, before the named options".to_owned()
                } else {
                    allowed(known)
                };
                errors.push(
                    &value,
                    format!("`{}` is not an option of `#[{attribute}]`", compact(&value)),
                    help,
                );
            }
            return Ok(());
        }

        let key = input.call(Ident::parse_any)?;
        let value = if input.peek(Token![=]) {
            let equals: Token![=] = input.parse()?;
            if input.is_empty() || input.peek(Token![,]) {
                Some(Err(equals))
            } else {
                Some(Ok(ungrouped(input.parse()?)))
            }
        } else {
            None
        };

        let name = key.to_string();
        let Some(known_as) = known.iter().find(|known| known.key == name) else {
            let help = match nearest(&name, known) {
                Some(near) => {
                    self.refused.push(near);
                    format!("did you mean `{near}`? {}", allowed(known))
                }
                None => allowed(known),
            };
            errors.push(
                &key,
                format!("unknown option `{name}` of `#[{attribute}]`"),
                help,
            );
            return Ok(());
        };
        if self.given.iter().any(|given| given.key == key) {
            errors.push(
                &key,
                format!("`{name}` is given twice; each option is allowed once"),
                format!("remove one of the two `{name}`"),
            );
            return Ok(());
        }
        self.refused.push(known_as.key);
        let value = match (known_as.shape, value) {
            (Shape::Flag | Shape::Either, None) => None,
            (Shape::Flag, Some(value)) => {
                let typed = match value {
                    Ok(value) => value.to_token_stream(),
                    Err(equals) => equals.to_token_stream(),
                };
                errors.push(
                    typed,
                    format!("`{name}` is a flag and takes no value"),
                    format!("write `{name}` alone, or leave it out"),
                );
                return Ok(());
            }
            (Shape::Value, None) => {
                errors.push(
                    &key,
                    format!("`{name}` needs a value"),
                    format!("write for example `{known_as}`"),
                );
                return Ok(());
            }
            (Shape::Value | Shape::Either, Some(Err(equals))) => {
                errors.push(
                    equals,
                    format!("`{name}` needs a value after the `=`"),
                    format!("write for example `{known_as}`"),
                );
                return Ok(());
            }
            (Shape::Value | Shape::Either, Some(Ok(value))) => Some(value),
        };
        self.refused.pop();
        self.given.push(Given { key, value });
        Ok(())
    }

    /// The bare expression in first place.
    pub(crate) fn positional(&mut self) -> Option<Expr> {
        self.positional.take()
    }

    /// The key's token, if the option was given.
    pub(crate) fn flag(&self, key: &str) -> Option<&Ident> {
        self.given
            .iter()
            .find(|given| given.key == key)
            .map(|given| &given.key)
    }

    /// Whether the option was given, if only with a mistake that has been reported.
    pub(crate) fn meant(&self, key: &str) -> bool {
        self.flag(key).is_some() || self.refused.contains(&key)
    }

    /// Key and value, if the option was given.
    pub(crate) fn value(&self, key: &str) -> Option<(&Ident, &Expr)> {
        let given = self.given.iter().find(|given| given.key == key)?;
        Some((&given.key, given.value.as_ref()?))
    }
}

/// Where an item stands in the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where a bare expression may stand.
    First,
    AfterFirst,
    /// In a list without bare expressions.
    Keyed,
}

fn is_last(input: ParseStream<'_>) -> bool {
    let fork = input.fork();
    fork.call(Ident::parse_any).is_ok() && fork.is_empty()
}

fn next_token(input: ParseStream<'_>) -> Option<TokenTree> {
    input.fork().parse().ok()
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}

fn allowed(known: &[Known]) -> String {
    let list: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
    format!("the options are {}", list.join(", "))
}

/// The known word that is most probably meant by `typed`.
fn nearest(typed: &str, known: &[Known]) -> Option<&'static str> {
    crate::errors::nearest(typed, known.iter().map(|known| known.key))
}

/// Without the invisible group that `macro_rules!` puts around a fragment.
pub(crate) fn ungrouped(mut expr: Expr) -> Expr {
    while let Expr::Group(group) = expr {
        expr = *group.expr;
    }
    expr
}

/// A single plain name.
pub(crate) fn as_word(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Path(ExprPath {
            qself: None, path, ..
        }) => path.get_ident(),
        Expr::Group(group) => as_word(&group.expr),
        _ => None,
    }
}

/// Whether `name` stands anywhere in `tokens`: an argument that only an option uses is used.
pub(crate) fn mentions(tokens: &TokenStream, name: &Ident) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(&group.stream(), name),
        _ => false,
    })
}

/// The tokens as a person would write them, for a message.
pub(crate) fn compact(tokens: impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (spaced, tight) in [
        (" (", "("),
        (" :: ", "::"),
        (" : ", ": "),
        ("& ", "&"),
        (" . ", "."),
        (" ,", ","),
        ("( ", "("),
        (" )", ")"),
        (" < ", "<"),
        (" >", ">"),
        ("& ", "&"),
    ] {
        text = text.replace(spaced, tight);
    }
    text
}

#[cfg(test)]
mod tests;
