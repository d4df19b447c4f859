//! Every violation is collected and reported on its own token; the item is emitted beside them.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The errors found so far, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    /// Reports `what` (found and allowed) on `tokens`, with the way out on a line of its own.
    pub(crate) fn push(
        &mut self,
        tokens: impl ToTokens,
        what: impl AsRef<str>,
        help: impl AsRef<str>,
    ) {
        let message = format!("{}\nhelp: {}", what.as_ref(), help.as_ref());
        self.0.push(syn::Error::new_spanned(tokens, message));
    }

    /// Takes over an error of syn's own parser.
    pub(crate) fn push_syntax(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl ToTokens for Errors {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.iter().map(syn::Error::to_compile_error));
    }
}

/// The one of `words` that `typed` is most probably a misspelling of.
pub(crate) fn nearest<'w>(
    typed: &str,
    words: impl IntoIterator<Item = &'w str>,
) -> Option<&'w str> {
    let allowed = typed.len().div_ceil(3);
    words
        .into_iter()
        .map(|word| (edit_distance(typed, word), word))
        .filter(|&(distance, word)| {
            distance <= allowed
                || (typed.len() > 2 && (word.starts_with(typed) || typed.starts_with(word)))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{edit_distance, nearest};

    #[test]
    fn nearest_word_is_offered_only_when_it_is_near() {
        let words = ["workers", "isolation", "main", "overlap"];
        assert_eq!(nearest("worker", words), Some("workers"));
        assert_eq!(nearest("wrokers", words), Some("workers"));
        assert_eq!(nearest("overlaps", words), Some("overlap"));
        assert_eq!(nearest("mian", words), Some("main"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest("", words), None);
    }

    #[test]
    fn three_letters_that_a_word_begins_with_are_near_and_two_are_not() {
        let words = ["isolation", "main"];
        for typed in ["iso", "isol", "isolat"] {
            assert_eq!(nearest(typed, words), Some("isolation"), "{typed}");
        }
        assert_eq!(nearest("mainframe", words), Some("main"));
        for typed in ["is", "i", "in"] {
            assert_eq!(nearest(typed, words), None, "{typed}");
        }
    }

    #[test]
    fn the_distance_is_the_number_of_letters_to_change() {
        for (a, b, distance) in [
            ("", "", 0),
            ("main", "main", 0),
            ("", "main", 4),
            ("ain", "main", 1),
            ("min", "main", 1),
            ("mai", "main", 1),
            ("maim", "main", 1),
            ("mian", "main", 2),
            ("kitten", "sitting", 3),
            ("saturday", "sunday", 3),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }
}
