//! What docs/design.md says about the code is true: no module uses a layer above its own, only what
//! offers journals uses their device, src/lib.rs describes the same layers, and all tests exist
//! that the invariants name. Also, no function is longer than CONTRIBUTING.md allows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names at the root of the crate, and the modules that define them. All others are defined in
/// `api`.
const OF_ROOT: [(&str, &str); 7] = [
    ("Error", "error"),
    ("Result", "error"),
    ("Counts", "fs"),
    ("Flush", "fs"),
    ("Flushes", "fs"),
    ("Storage", "fs"),
    ("Unwritten", "fs"),
];

/// The modules that use the device of a journal. All others see a block device.
const USE_TRANSACTIONS: [&str; 4] = ["journal", "api", "fuse", "cli"];

/// The most lines that a function has, from `fn` to the closing brace.
const LINES_MAX: usize = 80;

/// The modules of each layer, the lowest first.
fn layers(design: &str) -> Vec<Vec<String>> {
    let list = design.split("Each layer uses only those before it").nth(1).expect("the list");
    let list = list.split("\n\n").nth(1).expect("a paragraph of its own");
    list.split(" -").map(in_backquotes).collect()
}

/// The words between backquotes.
fn in_backquotes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The directory of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The names after `crate::` in a source file, outside comments and tests.
fn used(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = lines.flat_map(|line| [line, "\n"]).collect();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for behind in code.split("crate::").skip(1) {
        match behind.strip_prefix('{') {
            Some(list) => {
                let list = list.split("};").next().unwrap_or_default();
                names.extend(list.split(',').map(|name| name.trim().to_owned()));
            }
            None => names.push(behind.to_owned()),
        }
    }
    let first = |name: &String| name.split(|c| !is_name(c)).next().unwrap_or_default().to_owned();
    names.iter().map(first).filter(|name| !name.is_empty()).collect()
}

/// All source files of the library, with their paths inside `src`.
fn library() -> Vec<(String, String)> {
    let mut files = Vec::new();
    sources(&root().join("src"), "", &mut files);
    assert!(files.len() > 200, "{} files", files.len());
    files
}

/// The module at the root of the crate that a source file belongs to.
fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// All source files below `dir`, with their paths behind `inside`. What a build has written is left
/// out.
fn sources(dir: &Path, inside: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" {
            sources(&path, &format!("{inside}{name}/"), found);
        } else if name.ends_with(".rs") {
            found.push((format!("{inside}{name}"), fs::read_to_string(&path).expect("text")));
        }
    }
}

#[test]
fn no_module_uses_a_layer_above_its_own() {
    let layers = layers(&read("docs/design.md"));
    let rank = |module: &str| layers.iter().position(|layer| layer.iter().any(|m| m == module));
    let mut wrong = Vec::new();
    for (path, source) in &library() {
        let module = module_of(path);
        // `error` has variants for the errors of other layers, see docs/design.md
        if matches!(module, "lib" | "main" | "error") {
            continue;
        }
        let Some(own) = rank(module) else {
            wrong.push(format!("{path}: docs/design.md has no layer of {module}"));
            continue;
        };
        for name in used(source) {
            let of_root = OF_ROOT.iter().find(|(n, _)| *n == name).map(|(_, module)| *module);
            let is_of_api = name.starts_with(|c: char| c.is_ascii_uppercase());
            let module = of_root.unwrap_or(if is_of_api { "api" } else { &name });
            if rank(module).is_none_or(|theirs| theirs > own) {
                wrong.push(format!("{path} uses {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn transactions_are_beside_the_engine() {
    let layers = layers(&read("docs/design.md"));
    let below = layers.iter().take_while(|layer| !layer.contains(&"transactions".to_owned()));
    let below: Vec<&String> = below.flatten().collect();
    assert_eq!(below.last().map(|name| name.as_str()), Some("bd"));
    let mut users = BTreeSet::new();
    for (path, source) in &library() {
        let module = module_of(path);
        let names = used(source);
        if module == "transactions" {
            let above: Vec<&String> = names.iter().filter(|name| !below.contains(name)).collect();
            assert!(above.is_empty(), "{path} uses {above:?}");
        } else if names.contains(&"transactions".to_owned()) {
            users.insert(module.to_owned());
        }
        if module == "vfs" {
            assert!(!names.contains(&"journal".to_owned()), "{path} uses the journal");
        }
    }
    assert_eq!(users, USE_TRANSACTIONS.map(str::to_owned).into());
}

#[test]
fn the_library_tells_the_same_layers() {
    let lib = read("src/lib.rs");
    let table = lib.split("//! | layer | modules | job |").nth(1).expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("//! |"));
    let modules: Vec<String> = rows
        .flat_map(|row| in_backquotes(row.split('|').nth(2).unwrap_or_default()))
        .map(|name| name.trim_start_matches("mod@").to_owned())
        .map(|name| if name == "Littlefs" { "api".to_owned() } else { name })
        .collect();
    assert_eq!(modules, layers(&read("docs/design.md")).concat());
}

#[test]
fn every_invariant_names_tests() {
    let design = read("docs/design.md");
    let section = design.split("\n## Invariants\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut number = 0u32;
    while let Some((_, behind)) = section.split_once(&format!("\n{}. ", number + 1)) {
        number += 1;
        let text = behind.split(&format!("\n{}. ", number + 1)).next().unwrap_or_default();
        let (mut source, mut tests) = (String::new(), 0);
        for name in in_backquotes(text) {
            if name.ends_with(".rs") {
                source = read(&name);
            } else {
                assert!(source.contains(&format!("#[test]\nfn {name}(")), "{number}: {name}");
                tests += 1;
            }
        }
        assert!(tests > 0, "invariant {number} names no test");
    }
    assert!(number > 5, "{number} invariants");
}

#[test]
fn a_layer_above_is_found() {
    let code = "use crate::{check::Report, fs};\n// crate::cli\nfn f() { crate::kv::open() }\n";
    assert_eq!(used(code), ["check", "fs", "kv"]);
    let tests = "use crate::disk;\n#[cfg(test)]\nmod tests { use crate::api; }\n";
    assert_eq!(used(tests), ["disk"]);
}

/// The functions in a source file, with their lengths in lines. The file is formatted, so the
/// closing brace of a function is below its first line.
fn functions(source: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = source.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some((before, behind)) = line.split_once("fn ") else { continue };
        let is_qualifier = |word: &str| {
            matches!(word, "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"")
                || word.starts_with("pub(")
        };
        let name = behind.split(['(', '<']).next().unwrap_or_default();
        // one with a `$` gets its name, and its end, from a macro
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !is_name || !before.split_whitespace().all(is_qualifier) {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_last = |line: &&str| match line.strip_prefix(indent) {
            // of a trait, without a body
            Some(rest) if rest.starts_with(')') => rest.ends_with(';'),
            Some(rest) => rest == "}",
            None => false,
        };
        let is_of_one_line = line.ends_with('}') || line.ends_with(';');
        let rest = if is_of_one_line { Some(0) } else { lines[i..].iter().position(is_last) };
        found.push((name, rest.expect("a closing brace") + 1));
    }
    found
}

#[test]
fn no_function_is_too_long() {
    let mut files = Vec::new();
    for directory in ["src", "tests", "benches", "examples", "fuzz", "scripts"] {
        sources(&root().join(directory), &format!("{directory}/"), &mut files);
    }
    let mut too_long = Vec::new();
    let mut seen = 0;
    for (path, source) in &files {
        for (name, lines) in functions(source) {
            seen += 1;
            if lines > LINES_MAX {
                too_long.push(format!("{path}: {name} has {lines} lines"));
            }
        }
    }
    assert!(seen > 5000, "{seen} functions");
    assert!(too_long.is_empty(), "{too_long:#?}");
}

#[test]
fn functions_are_measured() {
    let code = "fn one() {}\nimpl A {\n    pub(super) const fn two(\n        a: u8,\n    ) {\n        \
                if a {\n        }\n    }\n    fn three(\n        a: u8,\n    );\n}\n// fn no\n";
    assert_eq!(functions(code), [("one", 1), ("two", 6), ("three", 3)]);
}
