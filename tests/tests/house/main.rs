//! The rooms of the house, as the code keeps them: no import runs in a circle, and none upwards.

mod guide;
mod imports;
mod pictures;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use imports::Crate;

/// Files and folders of the runtime, and what they import nothing of.
const UPWARDS: &[(&str, &str)] = &[
    ("context", "server"),
    ("teardown", "server"),
    ("timer", "server"),
    ("scope", "server"),
    ("backoff", "server"),
    ("census", "server"),
    ("census", "context"),
    ("census", "teardown"),
    ("census", "timer"),
    ("census", "scope"),
    ("server/line", "server/supervisor"),
    ("server/line", "server/worker"),
    ("server/supervisor", "server/worker"),
    ("server/worker", "server/supervisor"),
    ("server/line", "server/monitor"),
    ("server/supervisor", "server/monitor"),
    ("server/worker", "server/monitor"),
];

/// What an `Exit` tells of a server that stops.
const GRANTED: (&str, &str) = ("context/exit.rs", "Stop");

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles: Vec<String> = crates().iter().flat_map(circles).collect();
    assert!(
        circles.is_empty(),
        "files that import each other:\n\n{}",
        circles.join("\n")
    );
}

#[test]
fn no_import_runs_upwards() {
    let runtime = Crate::read(Path::new("runtime/src/lib.rs"), &in_repository);
    let upwards = upwards(&runtime, Path::new("runtime/src"));
    assert!(
        upwards.is_empty(),
        "imports that run upwards:\n{}",
        upwards.join("\n")
    );
}

#[test]
fn every_file_is_read() {
    let read: BTreeSet<PathBuf> = crates().into_iter().flat_map(|read| read.files).collect();
    let mut missing = BTreeSet::new();
    for package in packages() {
        for folder in ["src", "tests", "benches"] {
            missing.extend(sources(&package.join(folder)));
        }
    }
    assert!(missing.len() > 100, "{missing:?}");
    missing.retain(|file| !read.contains(file));
    assert!(missing.is_empty(), "{missing:?}");
}

/// The names that one file imports of another, and the line of the first.
type Names<'c> = BTreeMap<(&'c Path, &'c Path), (usize, BTreeSet<&'c str>)>;

/// Without unit tests: they may use what stands above, as any test does.
fn names(of: &Crate) -> Names<'_> {
    let mut names = Names::new();
    for import in of.imports.iter().filter(|import| !import.in_tests) {
        let pair = (import.from.as_path(), import.to.as_path());
        let (_, names) = names.entry(pair).or_insert((import.line, BTreeSet::new()));
        names.insert(&import.name);
    }
    names
}

fn told(((from, to), (line, names)): (&(&Path, &Path), &(usize, BTreeSet<&str>))) -> String {
    let names: Vec<&str> = names.iter().copied().collect();
    let (from, to, names) = (from.display(), to.display(), names.join(", "));
    format!("{from}:{line} imports {names} of {to}\n")
}

/// The files that import each other, with what they import: a text for each circle.
fn circles(of: &Crate) -> Vec<String> {
    let names = names(of);
    let reached = |file| {
        let mut reached = BTreeSet::new();
        let mut next = vec![file];
        while let Some(from) = next.pop() {
            let direct = names.keys().filter(|pair| pair.0 == from);
            next.extend(direct.map(|pair| pair.1).filter(|to| reached.insert(*to)));
        }
        reached
    };
    let files = of.files.iter().map(|file| file.as_path());
    let reached: BTreeMap<_, _> = files.map(|file| (file, reached(file))).collect();
    let in_circle = |a: &Path, b: &Path| reached[a].contains(b) && reached[b].contains(a);

    // Each by the first of its files.
    let mut circles: BTreeMap<&Path, String> = BTreeMap::new();
    for import in &names {
        let (from, to) = *import.0;
        if in_circle(from, to) {
            let first = reached[from].iter().find(|file| in_circle(from, file));
            *circles.entry(first.unwrap_or(&from)).or_default() += &told(import);
        }
    }
    circles.into_values().collect()
}

/// The imports that the rules forbid.
fn upwards(of: &Crate, sources: &Path) -> Vec<String> {
    let room = |file: &Path| {
        file.strip_prefix(sources)
            .unwrap_or(file)
            .with_extension("")
    };
    let mut upwards = names(of);
    upwards.retain(|(from, to), (_, names)| {
        if *from == sources.join(GRANTED.0) {
            names.remove(GRANTED.1);
        }
        let (from, to) = (room(from), room(to));
        let mut rules = UPWARDS.iter();
        !names.is_empty() && rules.any(|rule| from.starts_with(rule.0) && to.starts_with(rule.1))
    });
    upwards.iter().map(told).collect()
}

/// All crates of the workspace, each test and program too.
fn crates() -> Vec<Crate> {
    let mut crates = Vec::new();
    for package in packages() {
        let roots = ["src/lib.rs", "src/main.rs", "build.rs"].map(|root| package.join(root));
        let mut roots: Vec<PathBuf> = roots.into_iter().filter(|root| exists(root)).collect();
        for folder in ["src/bin", "tests", "benches", "examples"] {
            for entry in entries(&package.join(folder)) {
                let main = entry.join("main.rs");
                if entry.extension().is_some_and(|extension| extension == "rs") {
                    roots.push(entry);
                } else if exists(&main) {
                    roots.push(main);
                }
            }
        }
        crates.extend(roots.iter().map(|root| Crate::read(root, &in_repository)));
    }
    crates
}

/// The folders of the workspace's members.
fn packages() -> Vec<PathBuf> {
    let manifest = in_repository(Path::new("Cargo.toml")).unwrap();
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let members = members
        .split(',')
        .map(|member| member.trim().trim_matches('"'));
    members
        .filter(|member| !member.is_empty())
        .map(PathBuf::from)
        .collect()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn in_repository(file: &Path) -> Option<String> {
    fs::read_to_string(repository().join(file)).ok()
}

fn exists(file: &Path) -> bool {
    repository().join(file).is_file()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(repository().join(folder)) else {
        return Vec::new();
    };
    entries
        .map(|entry| folder.join(entry.unwrap().file_name()))
        .collect()
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let (folders, files): (Vec<_>, Vec<_>) = entries(folder)
        .into_iter()
        .partition(|entry| repository().join(entry).is_dir());
    let rust = files
        .into_iter()
        .filter(|file| file.extension().is_some_and(|e| e == "rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder)))
        .collect()
}

/// A crate that consists of these files.
fn crate_of(files: &[(&str, &str)]) -> Crate {
    let files: BTreeMap<&Path, &str> = files
        .iter()
        .map(|(file, text)| (Path::new(*file), *text))
        .collect();
    Crate::read(Path::new("lib.rs"), &|file| {
        files.get(file).map(|text| (*text).to_owned())
    })
}

fn imports_of(files: &[(&str, &str)]) -> Vec<String> {
    crate_of(files)
        .imports
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_import_is_followed_to_the_file_that_defines_the_name() {
    let told = imports_of(&[
        ("lib.rs", "mod inner; mod outer;\npub use inner::*;"),
        (
            "inner/mod.rs",
            "mod deep;\npub use self::deep::{Deep as Known, deep};",
        ),
        ("inner/deep.rs", "pub struct Deep; pub fn deep() {}"),
        (
            "outer.rs",
            "use super::inner::{self, Known};\nfn f(_: crate::Known) { inner::deep() }",
        ),
    ]);
    assert_eq!(
        told,
        [
            "outer.rs:1 imports `Deep` of inner/deep.rs",
            "outer.rs:2 imports `Deep` of inner/deep.rs",
            "outer.rs:2 imports `deep` of inner/deep.rs",
        ]
    );
}

#[test]
fn an_import_is_found_wherever_it_is_written() {
    let upper = "
        pub struct Type<T>(T);
        pub enum Word { First }
        pub const LENGTH: usize = 1;
        pub trait Trait {}
        macro_rules! make { ($name:ident) => { pub struct $name; } }
        make!(Made);
        pub(crate) use make;
        pub fn call() {}
    ";
    for (place, name) in [
        ("use crate::upper::Type;", "Type"),
        ("type A = crate::upper::Type<u8>;", "Type"),
        ("type A = Vec<super::upper::Type<u8>>;", "Type"),
        ("const A: [u8; crate::upper::LENGTH] = [0];", "LENGTH"),
        ("impl crate::upper::Trait for u8 {}", "Trait"),
        ("fn f<T: crate::upper::Trait>() {}", "Trait"),
        ("fn f() { crate::upper::call(); }", "call"),
        ("fn f() { use crate::upper::Word::*; First; }", "Word"),
        (
            "fn f(word: u8) { match word { crate::upper::Word::First => {} } }",
            "Word",
        ),
        (
            "fn f() { println!(\"{}\", crate::upper::LENGTH); }",
            "LENGTH",
        ),
        ("crate::upper::make!(B);", "make"),
        ("macro_rules! m { () => { $crate::upper::call() } }", "call"),
        ("#[attribute(with = crate::upper::call)] fn f() {}", "call"),
        ("use super::*;\nfn f() { upper::call(); }", "call"),
        ("use super::upper::*;\nfn f() { call(); }", "call"),
        ("fn f(_: crate::upper::Made) {}", "Made"),
        (
            "mod inner { fn f() { super::super::upper::call(); } }",
            "call",
        ),
    ] {
        let lower = format!("// A line.\n{place}");
        let read = crate_of(&[
            ("lib.rs", "mod lower; mod upper;"),
            ("lower.rs", &lower),
            ("upper.rs", upper),
        ]);
        let told: Vec<(&str, &str)> = read
            .imports
            .iter()
            .map(|import| (import.from.to_str().unwrap(), import.name.as_str()))
            .collect();
        assert_eq!(told, [("lower.rs", name)], "{place}");
        let line = read.imports.first().unwrap().line;
        assert_eq!(line, 1 + place.lines().count(), "{place}");
    }
}

#[test]
fn other_crates_and_re_exports_are_no_imports() {
    let told = imports_of(&[
        ("lib.rs", "mod a; mod b;\npub use b::B;"),
        (
            "a.rs",
            "use std::io;\nuse ::b::B;\nfn f() { ::b::call!(b::x, ::b::B, |b| b); io::stdout(); }",
        ),
        ("b.rs", "pub struct B;\npub(crate) use super::a::f;"),
    ]);
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_circle_is_told_with_its_imports() {
    let told = circles(&crate_of(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\npub use a::A;"),
        (
            "a.rs",
            "use super::b::B;\npub struct A(B);\nuse super::d::D;",
        ),
        ("b.rs", "use super::c::C;\n\npub struct B(C);"),
        ("c.rs", "pub struct C;\nfn f() { vec![crate::A] }"),
        (
            "d.rs",
            "pub struct D;\n#[cfg(test)] mod tests { use super::super::a::A; }",
        ),
    ]));
    assert_eq!(
        told,
        ["a.rs:1 imports B of b.rs\nb.rs:1 imports C of c.rs\nc.rs:2 imports A of a.rs\n"]
    );
}

#[test]
fn a_file_may_be_in_a_circle_with_its_own_folder() {
    let told = circles(&crate_of(&[
        ("lib.rs", "mod a;"),
        (
            "a.rs",
            "mod inner;\nuse inner::Inner;\npub struct A(Inner);",
        ),
        ("a/inner.rs", "pub struct Inner(Option<super::A>);"),
    ]));
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn an_import_that_runs_upwards_is_told() {
    let read = crate_of(&[
        (
            "lib.rs",
            "mod context; mod server; mod timer;\npub use server::Worker;",
        ),
        ("context/mod.rs", "mod exit; mod frame;"),
        (
            "context/exit.rs",
            "use crate::server::Stop;\nuse crate::server::line::Line;",
        ),
        (
            "context/frame.rs",
            "use crate::server::Stop;\n#[cfg(test)] use crate::Worker;",
        ),
        ("timer.rs", "fn f() -> Option<crate::Worker> { None }"),
        (
            "server/mod.rs",
            "mod line; mod supervisor; mod worker;\npub use worker::*;\npub struct Stop;",
        ),
        (
            "server/line.rs",
            "use super::worker::Worker;\nuse crate::timer::f;\npub struct Line;",
        ),
        ("server/supervisor/mod.rs", "mod driver;"),
        (
            "server/supervisor/driver.rs",
            "use crate::server::{Stop, Worker, line};\nstruct Driver(line::Line);",
        ),
        (
            "server/worker/mod.rs",
            "use super::line::Line;\nuse super::supervisor::driver::Driver;\npub struct Worker;",
        ),
    ]);
    assert_eq!(
        upwards(&read, Path::new("")).concat(),
        "\
context/exit.rs:2 imports Line of server/line.rs
context/frame.rs:1 imports Stop of server/mod.rs
server/line.rs:1 imports Worker of server/worker/mod.rs
server/supervisor/driver.rs:1 imports Worker of server/worker/mod.rs
server/worker/mod.rs:2 imports Driver of server/supervisor/driver.rs
timer.rs:1 imports Worker of server/worker/mod.rs
"
    );
}
