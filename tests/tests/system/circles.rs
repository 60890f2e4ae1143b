//! No files of a crate use each other in a circle.
//!
//! A file uses another one if its code names something that is defined there, be it by a name under which a third file
//! passes it on (`pub use`). Declaring a module and passing its names on is no use. The files in a folder that has the
//! name of a file are parts of that file: it uses them, and they may name it.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::{code, has_word, sources};

/// A path in a crate, such as `log::record`.
type ModulePath = Vec<String>;

/// The files of a crate by their modules, without the names that they pass on.
struct Files {
    code: BTreeMap<ModulePath, String>,
    /// Those that may have parts: all but `mod.rs` and the crate's root.
    whole: BTreeSet<ModulePath>,
    /// Names that files pass on, and where they come from.
    passed_on: BTreeMap<ModulePath, ModulePath>,
}

impl Files {
    /// The files below `folder`.
    fn below(folder: &str, sources: &[(String, String)]) -> Self {
        let mut files = Self { code: BTreeMap::new(), whole: BTreeSet::new(), passed_on: BTreeMap::new() };
        let mut lists = Vec::new();
        for (path, text) in sources {
            let Some(inside) = path.strip_prefix(folder) else { continue };
            let names = inside.trim_end_matches(".rs").split('/');
            let module: ModulePath = names
                .clone()
                .filter(|name| !["mod", "lib", "main"].contains(name))
                .map(str::to_owned)
                .collect();
            if module.len() == names.count() {
                files.whole.insert(module.clone());
            }
            let (passed_on, rest) = split(text);
            files.code.entry(module.clone()).or_default().push_str(&rest);
            lists.push((module, passed_on));
        }
        for (module, list) in lists {
            for path in list {
                let Some(name) = path.last().cloned() else { continue };
                if let Some(origin) = files.absolute(&module, &path) {
                    // Naming it is then a use like any other.
                    if has_word(&files.code[&module], &name) {
                        let code = files.code.entry(module.clone()).or_default();
                        code.push_str(" crate::");
                        code.push_str(&origin.join("::"));
                    }
                    files.passed_on.insert([module.as_slice(), &[name]].concat(), origin);
                }
            }
        }
        files
    }

    /// The modules that are declared in the file of `module`.
    fn children<'f>(&'f self, module: &'f ModulePath) -> impl Iterator<Item = &'f String> {
        let below = self.code.keys().filter(move |known| known.starts_with(module));
        below.filter_map(|known| known.get(module.len())).collect::<BTreeSet<_>>().into_iter()
    }

    /// A path that is written in `module`, from the crate's root on; `None` if it leads to another crate.
    fn absolute(&self, module: &ModulePath, path: &[String]) -> Option<ModulePath> {
        let ups = path.iter().take_while(|name| *name == "super").count();
        let (base, rest) = match path[0].as_str() {
            "crate" => (&[][..], &path[1..]),
            "self" => (module.as_slice(), &path[1..]),
            "super" => (&module[..module.len().saturating_sub(ups)], &path[ups..]),
            name => {
                self.children(module).find(|child| *child == name)?;
                (module.as_slice(), path)
            }
        };
        Some([base, rest].concat())
    }

    /// The file that defines what has this path.
    fn file_of(&self, path: &[String]) -> Option<ModulePath> {
        let mut ends = 1..=path.len();
        let passed_on = ends.find_map(|end| {
            let origin = self.passed_on.get(&path[..end])?;
            (!self.code.contains_key(&path[..end])).then(|| [origin.as_slice(), &path[end..]].concat())
        });
        match passed_on {
            Some(origin) => self.file_of(&origin),
            None => (0..=path.len())
                .rev()
                .map(|end| &path[..end])
                .find_map(|known| self.code.contains_key(known).then(|| known.to_vec())),
        }
    }

    /// The files that the one of `module` uses.
    fn used_by(&self, module: &ModulePath) -> BTreeSet<ModulePath> {
        let mut named = Vec::new();
        let roots = ["crate", "self", "super"].into_iter().chain(self.children(module).map(String::as_str));
        for root in roots {
            take_named(&self.code[module], root, &mut named);
        }
        let named = named.iter().filter_map(|path| self.file_of(&self.absolute(module, path)?));
        let is_own = |used: &ModulePath| self.whole.contains(used) && module.starts_with(used);
        let parts = self.code.keys().filter(|part| {
            self.whole.contains(module) && part.len() == module.len() + 1 && part.starts_with(module)
        });
        named.filter(|used| used != module && !is_own(used)).chain(parts.cloned()).collect()
    }
}

/// The paths that a source passes on, and the code without them.
fn split(text: &str) -> (Vec<ModulePath>, String) {
    let (mut passed_on, mut rest) = (Vec::new(), String::new());
    let text = code(text).collect::<Vec<_>>().join(" ");
    for statement in text.split_inclusive(';') {
        let starts = ["pub use ", "pub(crate) use ", "pub(super) use "];
        match starts.iter().find_map(|start| statement.split_once(start)) {
            Some((before, list)) => {
                rest.push_str(before);
                take_paths(list, &ModulePath::new(), &mut passed_on);
            }
            None => rest.push_str(statement),
        }
    }
    (passed_on, rest)
}

/// Takes the paths that begin with `root`, those in braces spelt out.
fn take_named(text: &str, root: &str, found: &mut Vec<ModulePath>) {
    for (at, _) in text.match_indices(&format!("{root}::")) {
        let before = &text[..at];
        let is_inner = before.ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        // How far something is visible is no use.
        if !is_inner && !before.ends_with("pub(in ") {
            take_paths(&text[at..], &ModulePath::new(), found);
        }
    }
}

/// Takes a path, or a list of them in braces, from the front of a text, and returns the rest.
fn take_paths<'a>(text: &'a str, prefix: &ModulePath, found: &mut Vec<ModulePath>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut list) = text.strip_prefix('{') {
        loop {
            list = take_paths(list, prefix, found);
            let end = list.find([',', '}']).expect("a list ends");
            let is_last = list[end..].starts_with('}');
            list = &list[end + 1..];
            if is_last {
                return list;
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        // Behind the last comma of a list, or a star, which stands for all names of the prefix.
        if rest.starts_with('*') {
            found.push(prefix.clone());
        }
        return rest;
    }
    let mut path = prefix.clone();
    path.push(name.to_owned());
    if let Some(rest) = rest.strip_prefix("::") {
        return take_paths(rest, &path, found);
    }
    found.push(path);
    rest
}

/// The files below `folder` that use each other in circles, each with those of them that it uses.
fn circles(folder: &str, sources: &[(String, String)]) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
    let files = Files::below(folder, sources);
    let modules = files.code.keys();
    let graph: BTreeMap<_, _> = modules.map(|module| (module, files.used_by(module))).collect();
    let leads_to = |from: &ModulePath, to: &ModulePath| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            if module == *to {
                return true;
            }
            next.extend(graph[&module].iter().filter(|used| !seen.contains(*used)).cloned());
            seen.insert(module);
        }
        false
    };
    let in_circles = graph.iter().map(|(module, used)| {
        let back: BTreeSet<_> = used.iter().filter(|used| leads_to(used, module)).cloned().collect();
        ((*module).clone(), back)
    });
    in_circles.filter(|(_, used)| !used.is_empty()).collect()
}

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let sources = sources();
    let folder = |path: &String| path.split_once("/src/").map(|(of_crate, _)| format!("{of_crate}/src/"));
    let folders: BTreeSet<_> = sources.iter().filter_map(|(path, _)| folder(path)).collect();
    assert!(folders.len() > 10, "only {folders:?} were found");
    for folder in folders {
        let found = circles(&folder, &sources);
        assert!(found.is_empty(), "{folder}: {found:#?}");
    }
}

#[test]
fn circles_of_files_are_found() {
    let circles = |files: &[(&str, &str)]| {
        let owned = |(path, text): &(&str, &str)| (format!("c/{path}"), (*text).to_owned());
        circles("c/", &files.iter().map(owned).collect::<Vec<_>>()).len()
    };
    let (lib, lower) = (("lib.rs", "use crate::a::{b::B, c};"), ("a/d.rs", "use std::fmt;"));
    assert_eq!(circles(&[lib, ("a/b.rs", "use super::d::D;"), lower, ("a/c.rs", "crate::a::d::f()")]), 0);
    let lists = "use crate::{\n    a::d::Y,\n    a::{d, c::{C as E, f}},\n};";
    assert_eq!(circles(&[lib, ("a/b.rs", lists), lower, ("a/c.rs", "fn f() -> super::b::B {}")]), 2);
    assert_eq!(circles(&[lib, ("a/b.rs", "use crate::Root;")]), 2);
    assert_eq!(circles(&[("a.rs", "use crate::b::*;"), ("b.rs", "use super::{a::{*, A}};")]), 2);
    assert_eq!(circles(&[lib, ("a/b.rs", "// use crate::a::c::C;"), ("a/c.rs", "use crate::a::b::B;")]), 0);
    assert_eq!(circles(&[("a/mod.rs", "mod b; use b::B;"), ("a/b.rs", "pub(in crate::a) fn f() {}")]), 0);
    assert_eq!(circles(&[("a/mod.rs", "mod b; use b::B;"), ("a/b.rs", "use super::A;")]), 2);
    // A name that is passed on leads to where it is defined.
    let passing_on = ("lib.rs", "mod a; pub use a::A;");
    assert_eq!(circles(&[passing_on, ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::A;")]), 2);
    assert_eq!(circles(&[passing_on, ("a.rs", "use crate::Root;")]), 0);
    assert_eq!(circles(&[("lib.rs", "pub use a::A; fn f() -> A {}"), ("a.rs", "use crate::Root;")]), 2);
    // Parts of a file may name it, but not each other in a circle; what they use, it uses.
    assert_eq!(circles(&[("a.rs", "use crate::a::b::B;"), ("a/b.rs", "use super::A;")]), 0);
    assert_eq!(circles(&[("a.rs", ""), ("a/b.rs", "use super::c::C;"), ("a/c.rs", "use super::b::B;")]), 2);
    assert_eq!(circles(&[("a.rs", ""), ("a/b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")]), 3);
}
