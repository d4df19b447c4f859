//! What the files of a crate import, each name followed to the file that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem::replace;
use std::path::{Component, Path, PathBuf};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, Item, ItemMod, ItemUse, Lit, Meta, UseTree, Visibility};

/// A name that one file takes from another, by `use` or by a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: PathBuf,
    pub(crate) line: usize,
    pub(crate) to: PathBuf,
    pub(crate) name: String,
    /// Under `#[cfg(test)]`.
    pub(crate) in_tests: bool,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from.display(), self.to.display());
        write!(f, "{from}:{} imports `{}` of {to}", self.line, self.name)?;
        if self.in_tests {
            f.write_str(", in tests")?;
        }
        Ok(())
    }
}

/// A crate's files, and what they import of each other.
#[derive(Debug)]
pub(crate) struct Crate {
    pub(crate) files: BTreeSet<PathBuf>,
    pub(crate) imports: BTreeSet<Import>,
}

impl Crate {
    /// Reads the crate whose root is this file. `read` gives a file's text, if there is one.
    pub(crate) fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Crate {
        let mut reader = Reader {
            read,
            modules: Vec::new(),
            mentions: Vec::new(),
            at: 0,
            in_tests: false,
        };
        reader.module(root.to_owned(), parent(root));
        reader.file(root);
        let files = reader.modules.iter().map(|module| module.file.clone());
        let imports = reader.mentions.iter();
        Crate {
            files: files.collect(),
            imports: imports
                .flat_map(|mention| reader.imports(mention))
                .collect(),
        }
    }
}

fn parent(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}

struct Module {
    file: PathBuf,
    /// Where the files of its `mod name;` are.
    folder: PathBuf,
    parent: usize,
    /// `cfg` may give one name several meanings, and a module and a function may have the same.
    names: BTreeMap<String, Vec<Meaning>>,
    globs: Vec<Vec<String>>,
}

enum Meaning {
    Defined,
    Module(usize),
    Imported(Vec<String>),
}

/// What a path leads to.
#[derive(Clone)]
enum Target {
    Module(usize),
    /// What isn't a module, by the module that defines it.
    Item(usize, String),
}

/// A path where it is written.
struct Mention {
    module: usize,
    line: usize,
    path: Vec<String>,
    in_tests: bool,
}

struct Reader<'r> {
    read: &'r dyn Fn(&Path) -> Option<String>,
    /// The root first.
    modules: Vec<Module>,
    mentions: Vec<Mention>,
    /// The module and the kind of code that is being read.
    at: usize,
    in_tests: bool,
}

/// Reading.
impl Reader<'_> {
    fn module(&mut self, file: PathBuf, folder: PathBuf) -> usize {
        self.modules.push(Module {
            file,
            folder,
            parent: self.at,
            names: BTreeMap::new(),
            globs: Vec::new(),
        });
        self.modules.len() - 1
    }

    fn file(&mut self, file: &Path) {
        let text = (self.read)(file).unwrap_or_else(|| panic!("{} is missing", file.display()));
        let parsed = syn::parse_file(&text);
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.visit_file(&parsed);
    }

    fn name(&mut self, name: String, meaning: Meaning) {
        let names = &mut self.modules[self.at].names;
        names.entry(name).or_default().push(meaning);
    }

    fn mention(&mut self, path: Vec<String>, line: usize) {
        self.mentions.push(Mention {
            module: self.at,
            line,
            path,
            in_tests: self.in_tests,
        });
    }

    /// In what a macro is given, names with `::` between them are a path, unless one begins with `::`.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        let colons = |at| colon(at) && colon(at + 1);
        let mut at = 0;
        while at < tokens.len() {
            let of_another_crate = colons(at);
            if of_another_crate {
                at += 2;
            }
            let mut path: Vec<&Ident> = Vec::new();
            while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
                path.push(ident);
                at += 1;
                if !colons(at) {
                    break;
                }
                at += 2;
            }
            if let (Some(first), false) = (path.first(), of_another_crate) {
                let line = first.span().start().line;
                self.mention(path.iter().map(ToString::to_string).collect(), line);
            }
            if let (true, Some(token)) = (path.is_empty(), tokens.get(at)) {
                if let TokenTree::Group(group) = token {
                    self.tokens(group.stream());
                }
                at += 1;
            }
        }
    }

    /// `re_exported` names belong to the file, but it doesn't import them.
    fn used(&mut self, tree: &UseTree, prefix: &[String], re_exported: bool) {
        let with = |ident: &Ident| match ident == "self" {
            true => prefix.to_owned(),
            false => [prefix, &[ident.to_string()]].concat(),
        };
        let (ident, path, known_as) = match tree {
            UseTree::Path(tree) => {
                let prefix = [prefix, &[tree.ident.to_string()]].concat();
                return self.used(&tree.tree, &prefix, re_exported);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.used(tree, prefix, re_exported);
                }
                return;
            }
            UseTree::Glob(glob) => {
                if !re_exported {
                    // Of an enum; what is used of a module is written where it is used.
                    self.mention(prefix.to_owned(), glob.star_token.spans[0].start().line);
                }
                return self.modules[self.at].globs.push(prefix.to_owned());
            }
            UseTree::Name(name) => {
                let path = with(&name.ident);
                let last = path.last().cloned();
                (&name.ident, path, last.unwrap_or_default())
            }
            UseTree::Rename(name) => (&name.ident, with(&name.ident), name.rename.to_string()),
        };
        if !re_exported {
            self.mention(path.clone(), ident.span().start().line);
        }
        self.name(known_as, Meaning::Imported(path));
    }
}

/// `#[cfg(test)]` counts until the end of what it stands at, whose attributes are visited first.
macro_rules! with_attributes {
    ($($visit:ident($node:ident)),*) => {$(
        fn $visit(&mut self, node: &'ast syn::$node) {
            let in_tests = self.in_tests;
            visit::$visit(self, node);
            self.in_tests = in_tests;
        }
    )*};
}

impl<'ast> Visit<'ast> for Reader<'_> {
    with_attributes!(
        visit_file(File),
        visit_impl_item(ImplItem),
        visit_trait_item(TraitItem),
        visit_field(Field),
        visit_field_value(FieldValue),
        visit_variant(Variant),
        visit_arm(Arm),
        visit_stmt(Stmt)
    );

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            let cfg = list.path.is_ident("cfg");
            self.in_tests |= cfg && list.tokens.to_string() == "test";
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_item(&mut self, item: &'ast Item) {
        let ident = match item {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Macro(item) => item.ident.as_ref(),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::TraitAlias(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        if let Some(ident) = ident {
            self.name(ident.to_string(), Meaning::Defined);
        }
        let in_tests = self.in_tests;
        visit::visit_item(self, item);
        self.in_tests = in_tests;
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
        let name = item.ident.to_string();
        let Module { file, folder, .. } = &self.modules[self.at];
        let folder = folder.join(&name);
        let (file, folder) = match (&item.content, path_attribute(&item.attrs)) {
            (Some(_), _) => (file.clone(), folder),
            (None, Some(path)) => {
                let file = normal(&parent(file).join(path));
                let folder = parent(&file);
                (file, folder)
            }
            (None, None) => {
                let beside = folder.with_extension("rs");
                match (self.read)(&beside) {
                    Some(_) => (beside, folder),
                    None => (folder.join("mod.rs"), folder),
                }
            }
        };
        let module = self.module(file.clone(), folder);
        self.name(name, Meaning::Module(module));
        let outer = replace(&mut self.at, module);
        match &item.content {
            Some((_, items)) => items.iter().for_each(|item| self.visit_item(item)),
            None => self.file(&file),
        }
        self.at = outer;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
        if item.leading_colon.is_none() {
            let re_exported = !matches!(item.vis, Visibility::Inherited);
            self.used(&item.tree, &[], re_exported);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let idents = path.segments.iter().map(|segment| &segment.ident);
            let line = path.segments[0].ident.span().start().line;
            self.mention(idents.map(Ident::to_string).collect(), line);
        }
        visit::visit_path(self, path);
    }

    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        self.tokens(tokens.clone());
    }
}

/// A `mod` says by `#[path = ".."]` where its file is.
fn path_attribute(attributes: &[Attribute]) -> Option<PathBuf> {
    attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::NameValue(value) if value.path.is_ident("path") => match &value.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(path),
                    ..
                }) => Some(path.value().into()),
                _ => None,
            },
            _ => None,
        })
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// Following names.
impl Reader<'_> {
    fn imports(&self, mention: &Mention) -> Vec<Import> {
        let from = &self.modules[mention.module].file;
        let targets = self.follow(mention.module, &mention.path, &mut BTreeSet::new());
        let items = targets.into_iter().filter_map(|target| match target {
            Target::Item(module, name) => Some((&self.modules[module].file, name)),
            Target::Module(_) => None,
        });
        items
            .filter(|(to, _)| *to != from)
            .map(|(to, name)| Import {
                from: from.clone(),
                line: mention.line,
                to: to.clone(),
                name,
                in_tests: mention.in_tests,
            })
            .collect()
    }

    /// Where a path in a module leads to: nowhere when it is another crate's.
    fn follow(&self, module: usize, path: &[String], seen: &mut Seen) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else {
            return Vec::new();
        };
        let mut targets = match self.keyword(module, first) {
            Some(module) => vec![Target::Module(module)],
            None => self.named(module, first, seen).unwrap_or_default(),
        };
        for segment in rest {
            let modules: Vec<usize> = targets.iter().filter_map(Target::module).collect();
            if modules.is_empty() {
                // An associated item, or an enum's variant.
                break;
            }
            targets = Vec::new();
            for module in modules {
                let found = match self.keyword(module, segment) {
                    Some(module) => Some(vec![Target::Module(module)]),
                    None => self.named(module, segment, seen),
                };
                // What isn't seen there is made by a macro.
                let made = || vec![Target::Item(module, segment.clone())];
                targets.extend(found.unwrap_or_else(made));
            }
        }
        targets
    }

    fn keyword(&self, module: usize, segment: &str) -> Option<usize> {
        match segment {
            "crate" => Some(0),
            "self" => Some(module),
            "super" => Some(self.modules[module].parent),
            _ => None,
        }
    }

    /// What a name means in a module; `None` if it isn't known there.
    fn named(&self, module: usize, name: &str, seen: &mut Seen) -> Option<Vec<Target>> {
        let Module { names, globs, .. } = &self.modules[module];
        if let Some(meanings) = names.get(name) {
            let targets = meanings.iter().flat_map(|meaning| match meaning {
                Meaning::Defined => vec![Target::Item(module, name.to_owned())],
                Meaning::Module(module) => vec![Target::Module(*module)],
                Meaning::Imported(path) => self.imported(module, path, name, seen),
            });
            return Some(targets.collect());
        }
        globs.iter().find_map(|glob| {
            let targets = self.imported(module, glob, name, seen);
            let mut modules = targets.iter().filter_map(Target::module);
            modules.find_map(|module| self.named(module, name, seen))
        })
    }

    fn imported(&self, module: usize, path: &[String], name: &str, seen: &mut Seen) -> Vec<Target> {
        match seen.insert((module, path.to_owned(), name.to_owned())) {
            true => self.follow(module, path, seen),
            false => Vec::new(),
        }
    }
}

/// The imports that were followed on the way, each for the name it was to give, so that none is followed in a circle.
type Seen = BTreeSet<(usize, Vec<String>, String)>;

impl Target {
    fn module(&self) -> Option<usize> {
        match self {
            Target::Module(module) => Some(*module),
            Target::Item(..) => None,
        }
    }
}
