//! The pictures of the documentation are the same in rustdoc, which is given them in links, as in files.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pictures() -> Vec<PathBuf> {
    let folder = root().join("runtime/src/guide/pictures");
    let files = fs::read_dir(folder).expect("the folder of pictures");
    let files = files.map(|file| file.expect("a file").path());
    files
        .filter(|file| file.extension().is_some_and(|end| end == "svg"))
        .collect()
}

fn name(picture: &Path) -> String {
    let name = picture.file_name().expect("a name");
    name.to_string_lossy().into_owned()
}

fn decoded(url: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = url.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
            let digits = std::str::from_utf8(&digits).expect("ASCII");
            bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn links_hold_the_pictures() {
    let pictures = pictures();
    assert!(pictures.len() >= 6);
    for picture in pictures {
        let link = fs::read_to_string(picture.with_extension("md")).expect("a link");
        let before = format!("[{}]: <data:image/svg+xml,", name(&picture));
        let url = link.strip_prefix(&before).expect("a definition");
        let url = url.trim_end().strip_suffix('>').expect("an end");
        let drawn = fs::read_to_string(&picture).expect("a picture");
        assert_eq!(decoded(url), drawn.replace('\n', ""), "run draw.py");
    }
}

#[test]
fn readme_and_pages_show_pictures_that_exist() {
    let guide = root().join("runtime/src/guide");
    let pages = ["cancellation.md", "production.md"].map(|page| guide.join(page));
    let readme = root().join("README.md");
    for page in pages.iter().chain([&readme]) {
        let text = fs::read_to_string(page).expect("a page");
        let shown: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("!["))
            .map(|line| line.split("][").nth(1).expect("a label"))
            .map(|rest| rest.trim_end_matches(']'))
            .collect();
        assert!(!shown.is_empty(), "{page:?}");
        for label in shown {
            let definition = format!("\n[{label}]: ");
            let (_, path) = text.split_once(&definition).expect("a definition");
            let path = path.lines().next().expect("a path");
            let picture = page.parent().expect("a folder").join(path);
            assert!(picture.exists(), "{picture:?} of {page:?}");
        }
    }
}
