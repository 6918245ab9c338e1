//! Reads the modules of a crate, and the paths that each module imports, from the crate's source files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// Path of a module: the names of the modules from the child of the crate root down to it. The path of the root is
/// empty.
pub(crate) type ModulePath = Vec<String>;

/// An import by the module `from`. `path` is the path as it is written in `file`, without a `*` at its end.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) from: ModulePath,
    pub(crate) path: Vec<String>,
    pub(crate) file: PathBuf,
}

/// Modules and imports of one crate. Excludes items under `#[cfg(test)]`, because tests may import anything.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) modules: BTreeSet<ModulePath>,
    pub(crate) imports: Vec<Import>,
    /// For each module, the names that its `use` items introduce. Each name maps to the imported path.
    pub(crate) names: BTreeMap<ModulePath, BTreeMap<String, Vec<String>>>,
}

impl Source {
    /// Reads the crate whose root is `src/lib.rs`, or `src/main.rs` if there is no library.
    pub(crate) fn read(src: &Path) -> Result<Self> {
        let mut source = Self::default();
        let root = ["lib.rs", "main.rs"].map(|file| src.join(file)).into_iter().find(|file| file.is_file());
        source.read_file(&root.with_context(|| format!("{} holds no crate", src.display()))?, src, Vec::new())?;
        Ok(source)
    }

    /// Reads a module's file, then the files of its child modules, which are in `folder`.
    fn read_file(&mut self, file: &Path, folder: &Path, module: ModulePath) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let syntax = syn::parse_file(&text).with_context(|| file.display().to_string())?;
        let mut visitor = Visitor { source: self, file, module: module.clone(), children: Vec::new() };
        visitor.source.modules.insert(module);
        visitor.visit_file(&syntax);
        for child in visitor.children {
            let name = child.last().context("a child module has a name")?;
            let (flat, nested) = (folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs"));
            let file = if flat.is_file() { flat } else { nested };
            self.read_file(&file, &folder.join(name), child)?;
        }
        Ok(())
    }

    /// Returns the module that defines the item at `path`, as imported by the module `from`. Follows up to eight
    /// re-exports. Returns `None` for a path that leads out of the crate.
    pub(crate) fn resolve(&self, from: &ModulePath, path: &[String]) -> Option<ModulePath> {
        self.resolve_within(from, path, 8)
    }

    fn resolve_within(&self, from: &ModulePath, path: &[String], hops_left: usize) -> Option<ModulePath> {
        let mut at = from.clone();
        let mut segments = path;
        let mut anchored = false;
        while let Some((first, rest)) = segments.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "super" => drop(at.pop()?),
                "self" => {}
                _ => break,
            }
            (segments, anchored) = (rest, true);
        }
        for (index, segment) in segments.iter().enumerate() {
            let child = [at.as_slice(), std::slice::from_ref(segment)].concat();
            if self.modules.contains(&child) {
                (at, anchored) = (child, true);
                continue;
            }
            // The module `at` does not define this name but imports it. For an import by another module, that is a
            // re-export.
            let imported = self.names.get(&at).and_then(|names| names.get(segment));
            if let Some(imported) = imported.filter(|_| anchored && hops_left > 0 && at != *from) {
                let path = [imported.as_slice(), &segments[index + 1..]].concat();
                return self.resolve_within(&at, &path, hops_left - 1);
            }
            break;
        }
        anchored.then_some(at)
    }
}

struct Visitor<'a> {
    source: &'a mut Source,
    file: &'a Path,
    module: ModulePath,
    /// Child modules that have their own files.
    children: Vec<ModulePath>,
}

impl Visitor<'_> {
    fn import(&mut self, path: Vec<String>, name: Option<String>) {
        if let Some(name) = name {
            self.source.names.entry(self.module.clone()).or_default().insert(name, path.clone());
        }
        self.source.imports.push(Import { from: self.module.clone(), path, file: self.file.to_path_buf() });
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.use_tree(&path.tree, &with(path.ident.to_string())),
            UseTree::Name(name) if name.ident == "self" => self.import(prefix.to_vec(), prefix.last().cloned()),
            UseTree::Name(name) => self.import(with(name.ident.to_string()), Some(name.ident.to_string())),
            UseTree::Rename(name) => self.import(with(name.ident.to_string()), Some(name.rename.to_string())),
            UseTree::Glob(_) => self.import(prefix.to_vec(), None),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, prefix)),
        }
    }
}

impl Visit<'_> for Visitor<'_> {
    fn visit_item(&mut self, item: &Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &ItemMod) {
        self.module.push(item.ident.to_string());
        match &item.content {
            Some(_) => {
                self.source.modules.insert(self.module.clone());
                visit::visit_item_mod(self, item);
            }
            None => self.children.push(self.module.clone()),
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    /// Records paths in expressions and types as imports if they begin with `crate`, `super` or `self`.
    fn visit_path(&mut self, path: &syn::Path) {
        let segments = Vec::from_iter(path.segments.iter().map(|segment| segment.ident.to_string()));
        if matches!(segments[0].as_str(), "crate" | "super" | "self") && segments.len() > 1 {
            self.import(segments, None);
        }
        visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}
