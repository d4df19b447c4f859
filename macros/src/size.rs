//! Sizes: the literals `512MiB`, `64KiB`, `1GiB`, or any expression of type `u64`, in bytes.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Expr, ExprLit, Lit};

use crate::errors::Errors;
use crate::options::{compact, ungrouped};

const UNITS: [(&str, u32); 5] = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// What stands for this size in the expansion; none if it isn't legal, which has been reported.
pub(crate) fn size(name: &str, value: &Expr, errors: &mut Errors) -> Option<TokenStream> {
    let Expr::Lit(ExprLit { lit, .. }) = ungrouped(value.clone()) else {
        return Some(value.to_token_stream());
    };
    if let Some(bytes) = bytes(&lit) {
        return Some(quote!(#bytes));
    }
    errors.push(
        value,
        format!("`{name}` takes a size, not `{}`", compact(&lit)),
        "write for example `512MiB`, `64KiB`, `1GiB` or an expression of type `u64`, in bytes",
    );
    None
}

fn bytes(lit: &Lit) -> Option<u64> {
    let Lit::Int(number) = lit else { return None };
    let (_, shift) = UNITS.iter().find(|(unit, _)| *unit == number.suffix())?;
    let number: u64 = number.base10_parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let mut errors = Errors::default();
        let read = size("over", &syn::parse_str(text).unwrap(), &mut errors);
        assert_eq!(read.is_none(), errors.len() == 1);
        read.map(|tokens| tokens.to_string())
    }

    #[test]
    fn sizes_are_read_exactly() {
        for (text, bytes) in [
            ("1B", 1_u64),
            ("64KiB", 64 << 10),
            ("1_024MiB", 1 << 30),
            ("3GiB", 3 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(read(text), Some(format!("{bytes}u64")), "{text}");
        }
        assert_eq!(read("config.memory").unwrap(), "config . memory");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "512",
            "0MiB",
            "512MB",
            "1.5GiB",
            "99999999999TiB",
            "\"1MiB\"",
            "true",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
