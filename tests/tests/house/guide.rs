//! What the guide shows without compiling it is what an example does.

use std::path::Path;

use crate::{entries, in_repository, sources};

/// Code without its indentation and its empty lines, as one text.
fn plain(code: &str) -> String {
    let lines = code.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

#[test]
fn code_that_is_not_compiled_stands_in_an_example() {
    let examples = sources(Path::new("examples/src/bin")).into_iter();
    let examples = examples.map(|file| in_repository(&file).expect("a file"));
    let examples: Vec<String> = examples.map(|code| plain(&code)).collect();
    let mut shown = 0;
    let pages = entries(Path::new("runtime/src/guide")).into_iter();
    for page in pages.filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let text = in_repository(&page).expect("a page");
        for fence in text.split("```ignore\n").skip(1) {
            let code = fence.split("```").next().map(plain).expect("an end");
            let stands = examples.iter().any(|example| example.contains(&code));
            assert!(stands, "{}: no example has\n{code}", page.display());
            shown += 1;
        }
    }
    assert!(shown > 0);
}
