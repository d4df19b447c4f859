//! Lists of options, of an attribute `#[paint]`.

use super::*;
use crate::tests::{Left, tokens};

const KNOWN: [Known; 4] = [
    Known::flag("quiet"),
    Known::value("depth", "4"),
    Known::either("color", "red"),
    Known::value("quality", "9"),
];

/// What `text` gives, each option as `key` or `key = value`, a bare expression by itself; and what is wrong with it.
fn read(text: &str, positional: bool) -> (Vec<String>, Vec<String>) {
    let mut errors = Errors::default();
    let mut options = Options::parse("paint", tokens(text), positional, &KNOWN, &mut errors);
    let mut found: Vec<String> = options.positional().iter().map(compact).collect();
    for known in &KNOWN {
        match (options.flag(known.key), options.value(known.key)) {
            (_, Some((key, value))) => found.push(format!("{key} = {}", compact(value))),
            (Some(key), None) => found.push(key.to_string()),
            (None, None) => {}
        }
    }
    (found, Left::of(&errors.to_token_stream()).errors)
}

#[test]
fn what_is_right_is_read() {
    for (positional, text, found) in [
        (false, "", &[][..]),
        (false, "quiet", &["quiet"]),
        (
            false,
            "color, depth = 3, quiet,",
            &["quiet", "depth = 3", "color"],
        ),
        (
            false,
            "depth = a.b(c), color = red",
            &["depth = a.b(c)", "color = red"],
        ),
        (false, "depth = fragment!(5)", &["depth = 5"]),
        // In first place even the name of an option is an expression.
        (true, "quiet", &["quiet"]),
        (true, "period", &["period"]),
        (true, "period, quiet", &["period", "quiet"]),
        (true, "period * 2, depth = 1", &["period * 2", "depth = 1"]),
        (true, "a == b, quiet", &["a == b", "quiet"]),
        (true, "fragment!(period)", &["period"]),
        (true, "depth = 1, quiet", &["quiet", "depth = 1"]),
    ] {
        let (given, errors) = read(text, positional);
        assert!(errors.is_empty(), "{text}: {errors:?}");
        assert_eq!(given, found, "{text}");
    }
}

#[test]
fn each_mistake_is_told_once_and_the_rest_is_kept() {
    for (positional, text, says, found) in [
        (
            false,
            "deep",
            "unknown option `deep` of `#[paint]`",
            &[][..],
        ),
        (
            false,
            "dept = 3, quiet",
            "did you mean `depth`?",
            &["quiet"],
        ),
        (
            false,
            "quite, depth = 1",
            "did you mean `quiet`?",
            &["depth = 1"],
        ),
        (
            false,
            "size = 3",
            "help: the options are `quiet`, `depth = 4`, `color`",
            &[],
        ),
        (
            false,
            "quiet = true",
            "`quiet` is a flag and takes no value",
            &[],
        ),
        (
            false,
            "quiet =, depth = 1",
            "`quiet` is a flag and takes no value",
            &["depth = 1"],
        ),
        (
            false,
            "depth",
            "`depth` needs a value\nhelp: write for example `depth = 4`",
            &[],
        ),
        (false, "depth =", "`depth` needs a value after the `=`", &[]),
        (
            false,
            "depth = , quiet",
            "`depth` needs a value after the `=`",
            &["quiet"],
        ),
        (false, "color =", "`color` needs a value after the `=`", &[]),
        (
            false,
            "quiet, depth = 1, quiet",
            "`quiet` is given twice",
            &["quiet", "depth = 1"],
        ),
        (
            false,
            "5, quiet",
            "`5` is not an option of `#[paint]`\nhelp: the options are",
            &["quiet"],
        ),
        (
            false,
            "depth(3), quiet",
            "`depth(3)` is not an option",
            &["quiet"],
        ),
        (false, "quiet == 3", "`quiet == 3` is not an option", &[]),
        (
            true,
            "quiet, 5",
            "`5` is not an option of `#[paint]`\nhelp: the options are",
            &["quiet"],
        ),
        (
            true,
            "depth = 1, 5",
            "help: a value without a name stands first",
            &["depth = 1"],
        ),
        (true, "5, depth(1)", "`depth(1)` is not an option", &["5"]),
        (
            false,
            "quiet depth = 1, color",
            "separated by commas",
            &["quiet", "color"],
        ),
        (
            false,
            "depth = 1 quiet, color",
            "separated by commas",
            &["depth = 1", "color"],
        ),
        (
            false,
            "depth = 1 quiet color",
            "separated by commas",
            &["depth = 1"],
        ),
        (
            false,
            "depth = +, color",
            "expected an expression",
            &["color"],
        ),
        (
            false,
            "depth = ; quiet color = red, quiet",
            "expected an expression",
            &["quiet"],
        ),
    ] {
        let (given, errors) = read(text, positional);
        assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
        assert!(errors[0].contains(says), "{text}: {errors:#?}");
        assert_eq!(given, found, "{text}");
    }
}

#[test]
fn what_was_meant_is_known_although_it_is_refused() {
    let meant = |text: &str, key: &str| {
        let options = Options::parse("paint", tokens(text), false, &KNOWN, &mut Errors::default());
        options.meant(key)
    };
    for text in ["depth = 1", "depth", "depth =", "dept = 1"] {
        assert!(meant(text, "depth"), "{text}");
        assert!(!meant(text, "quiet"), "{text}");
    }
    assert!(meant("depth = 1, depth = 2", "depth"));
    assert!(!meant("size = 1", "depth"));
}

#[test]
fn the_token_that_needs_a_comma_in_front_is_looked_at_only() {
    let parser = |input: ParseStream<'_>| {
        let next = next_token(input).map(|token| token.to_string());
        let rest: TokenStream = input.parse()?;
        Ok((next, rest.to_string()))
    };
    let looked_at = parser.parse2(tokens("b c")).expect("tokens");
    assert_eq!(looked_at, (Some("b".to_owned()), "b c".to_owned()));
}

#[test]
fn a_word_is_one_plain_name() {
    let word = |text: &str| {
        let expr: Expr = syn::parse2(tokens(text)).expect("an expression");
        as_word(&expr).map(Ident::to_string)
    };
    assert_eq!(word("skip").as_deref(), Some("skip"));
    assert_eq!(word("fragment!(skip)").as_deref(), Some("skip"));
    for text in ["a::skip", "skip(3)", "\"skip\"", "<T>::skip", "3"] {
        assert_eq!(word(text), None, "{text}");
    }
}

#[test]
fn a_name_is_found_at_any_depth() {
    let peers = Ident::new("peers", proc_macro2::Span::call_site());
    for text in [
        "peers",
        "2 * peers.len()",
        "f(a, [g({ peers })])",
        "fragment!(peers)",
    ] {
        assert!(mentions(&tokens(text), &peers), "{text}");
    }
    for text in ["", "peer", "f(a, [b])", "\"peers\"", "peers_of(a)"] {
        assert!(!mentions(&tokens(text), &peers), "{text}");
    }
}

#[test]
fn messages_have_code_as_a_person_writes_it() {
    for text in [
        "f(a, b).c",
        "x: &'static str",
        "[a, b]",
        "Option<Vec<u8>>",
        "&[u8]",
    ] {
        assert_eq!(compact(tokens(text)), text);
    }
}
