//! What help, documents and manual pages say is what the program accepts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use littlefs::cli::options::Given;
use littlefs::cli::options::table::{self, Set};

// This is a program, so its functions are in no library. It is not run here, because it is built
// with the tests only if the feature `docs` is on.
#[path = "../../scripts/docs.rs"]
#[expect(dead_code)]
mod docs;

const COMMANDS: &str = include_str!("../../docs/commands.md");
const MOUNT: &str = include_str!("../../docs/mount.md");

/// Every option of `-o` in the form in which it is written: `ro`, `uid=`, `x-`.
fn known() -> BTreeSet<String> {
    let written = |(name, set): &(&str, Set)| match set {
        Set::Value(..) => format!("{name}="),
        Set::Flag(_) | Set::Nothing | Set::Prefix => (*name).to_owned(),
    };
    table::names().map(written).collect()
}

/// An option in the form of the documents, without the placeholder for its value.
fn bare(option: &str) -> String {
    match option.split_once('=') {
        Some((name, _)) => format!("{name}="),
        None => option.trim_end_matches("...").to_owned(),
    }
}

fn help(command: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_littlefs")).args([command, "--help"]).output();
    String::from_utf8(out.expect("the program should start").stdout).expect("UTF-8")
}

#[test]
fn the_help_fits_the_width_of_the_terminal() {
    let shown = |name: &str, args: &[&str], columns: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
        let out = command.arg0(name).args(args).env("COLUMNS", columns).output();
        let text = String::from_utf8(out.expect("the program should start").stdout).expect("UTF-8");
        assert!(!text.is_empty(), "{name} {args:?}");
        text.lines().map(str::len).max().unwrap_or(0)
    };
    for (name, args) in [
        ("littlefs", &["--help"][..]),
        ("littlefs", &["mount", "--help"]),
        ("littlefs", &["mount", "-h"]),
        ("littlefs", &["help", "clone"]),
        ("littlefs", &["journal", "log", "--help"]),
        ("mount.littlefs", &["--help"]),
        ("mklittlefs", &["--help"]),
    ] {
        assert!(shown(name, args, "80") <= 80, "{name} {args:?}");
        assert!(shown(name, args, "300") <= 100, "{name} {args:?}");
    }
    assert!(shown("littlefs", &["mount", "--help"], "300") > 80);
}

#[test]
fn every_option_does_what_the_table_says() {
    for (name, set) in table::names() {
        let taken = |option: &str| Given::parse(&[option], false);
        match set {
            Set::Flag(_) | Set::Nothing => assert!(taken(name).is_ok(), "{name}"),
            Set::Prefix => assert!(taken(&format!("{name}any=thing")).is_ok(), "{name}"),
            Set::Value(kind, _) => {
                // By the kind of its value, so that the help's word for it is right.
                let value = match *kind {
                    "BYTES" => "0x1000",
                    "N" | "SECONDS" | "MICROSECONDS" => "100",
                    "MASK" => "022",
                    "NAME" if *name == "profile" => "zephyr",
                    "NAME" if *name == "dialect" => "auto",
                    "NAME" => "none",
                    "PAGE" => "2048+64",
                    "TEXT" | "PARTITION" | "FILE" | "STATE" => "any",
                    other => panic!("{name}={other}: which values are these?"),
                };
                assert!(taken(&format!("{name}={value}")).is_ok(), "{name}={value}");
            }
        }
    }
}

/// Lines of the help that are indented by two spaces begin with options, which end before two
/// spaces.
#[test]
fn the_help_names_every_option_and_no_other() {
    let help = help("mount");
    let (_, table) = help.split_once("Options for -o").expect("a table of options");
    let (table, _) = table.split_once("Sizes may be").expect("its end");
    let labels = table.lines().filter_map(|line| line.strip_prefix("  "));
    let labels = labels.filter(|line| !line.starts_with(' '));
    let named: BTreeSet<String> = labels
        .filter_map(|line| line.split("  ").next())
        .flat_map(|label| label.split(", "))
        .map(|option| bare(option.trim_end_matches(',')))
        .collect();
    assert_eq!(named, known());
    for title in ["Image:", "Device:", "Writing:", "Attributes:", "Permissions:"] {
        assert!(help.lines().any(|line| line == title), "no group {title} in {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn the_document_names_every_option_and_no_other() {
    let (_, section) = MOUNT.split_once("## Mount options\n").expect("a section");
    let (table, accepted) = section.split_once("Some options are accepted").expect("a sentence");
    let (accepted, _) = accepted.split_once("Any other option").expect("a sentence");
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let text = cells.chain([accepted]).collect::<Vec<_>>().join(" ");
    let quoted = text.split('`').skip(1).step_by(2).filter(|word| !word.contains("...K"));
    let named: BTreeSet<String> =
        quoted.filter(|w| !w.starts_with("0x") && !w.starts_with("...")).map(bare).collect();
    assert_eq!(named, known());
}

#[test]
fn the_list_of_commands_names_every_command() {
    let commands = littlefs::cli::command_lines();
    let program = commands.iter().find(|c| c.get_name() == "littlefs").expect("the program");
    let text: BTreeSet<&str> = COMMANDS.split('`').skip(1).step_by(2).collect();
    let named: BTreeSet<&str> = text.iter().filter_map(|code| code.split(' ').next()).collect();
    for command in program.get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = command.get_name();
        assert!(name == "help" || named.contains(name), "docs/commands.md does not name {name}");
    }
}

/// The commands for which a table gives other exit statuses than usual, each with its numbers.
type Statuses = BTreeSet<(String, BTreeSet<String>)>;

/// The numbers in the description of exit statuses, without those of pages, as in fsck(8).
fn numbers(text: &str) -> BTreeSet<String> {
    let words = text.split([' ', ',', ';', ':']);
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

#[test]
fn the_help_and_the_document_give_the_same_exit_statuses() {
    let (_, section) = COMMANDS.split_once("## Exit statuses\n").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let documented: Statuses = rows
        .flat_map(|(names, text)| {
            names.split('`').step_by(2).map(move |name| (name.to_owned(), numbers(text)))
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();

    let mut command = Command::new(env!("CARGO_BIN_EXE_littlefs"));
    let out = command.arg("--help").env("COLUMNS", "100").output();
    let out = out.expect("the program should start");
    let help = String::from_utf8(out.stdout).expect("UTF-8");
    let (_, table) = help.split_once("Exit status:\n").expect("a table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let mut listed = Statuses::new();
    let mut names: Vec<String> = Vec::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("  ")) {
        let (label, text) = line.split_once("  ").unwrap_or((line, ""));
        if !label.is_empty() {
            names = label.split(", ").map(str::to_owned).collect();
        }
        if !text.is_empty() {
            let text = numbers(text);
            listed.extend(names.iter().map(|name| (name.clone(), text.clone())));
        }
    }
    listed.retain(|(name, _)| name != "all commands");
    assert!(listed.len() > 20, "{listed:?}");
    assert_eq!(listed, documented);
}

/// The features and their defaults are listed for users in two places.
#[test]
fn every_feature_is_documented() {
    let manifest = include_str!("../../Cargo.toml");
    let (_, features) = manifest.split_once("\n[features]\n").expect("a section");
    let (features, _) = features.split_once("\n[").expect("another section");
    let lines = features.lines();
    let entries: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(" = [")).collect();
    let (_, defaults) = entries.iter().find(|(name, _)| *name == "default").expect("default");
    let guide = include_str!("../../docs/library.md");
    let (_, guide) = guide.split_once("\n## Features\n").expect("a section");
    let library = include_str!("../../src/lib.rs");
    for (name, _) in entries.iter().filter(|(name, _)| *name != "default") {
        let row = guide.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/library.md has no row for {name}"));
        let is_default = defaults.contains(&format!("\"{name}\""));
        assert_eq!(row.contains("| yes |"), is_default, "{row}");
        let item = if is_default {
            format!("//! - `{name}` (default):")
        } else {
            format!("//! - `{name}`:")
        };
        assert!(library.contains(&item), "src/lib.rs has no {item}");
    }
    let rows = guide.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, entries.len() - 1, "docs/library.md names features that are not there");
}

#[test]
fn every_command_has_a_manual_page_with_all_its_options() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    docs::write_all(dir.path()).expect("the pages should be written");
    // What the page says, without the marks of roff.
    let page = |name: &str| {
        let text = fs::read_to_string(dir.path().join(name)).expect(name);
        text.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace('\\', "")
    };
    let mut pages = 0;
    for command in littlefs::cli::command_lines() {
        let is_program = command.get_name() == "littlefs";
        let section = if is_program { 1 } else { 8 };
        let top = page(&format!("man{section}/{}.{section}", command.get_name()));
        let visible = command.get_subcommands().filter(|c| !c.is_hide_set());
        let subs = visible.map(|sub| {
            assert!(top.contains(&format!("littlefs-{}(1)", sub.get_name())), "{top}");
            let text = page(&format!("man1/littlefs-{}.1", sub.get_name()));
            for inner in sub.get_subcommands().filter(|c| c.get_name() != "help") {
                let name = format!("littlefs-{}-{}", sub.get_name(), inner.get_name());
                assert!(text.contains(&format!("{name}(1)")), "{text}");
                assert!(page(&format!("man1/{name}.1")).contains(".SH SYNOPSIS"));
            }
            (text, sub)
        });
        for (text, command) in subs.chain([(top.clone(), &command)]) {
            pages += 1;
            let name = command.get_name();
            for heading in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
                assert!(text.contains(heading), "{name}: no {heading}");
            }
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let long = arg.get_long().map(|long| format!("--{long}"));
                let short = arg.get_short().map(|short| format!("-{short}"));
                for flag in long.iter().chain(&short) {
                    assert!(text.contains(flag), "{name}: no {flag} in {text}");
                }
            }
            // Nothing is left of the help's own layout.
            assert!(!text.contains(".SH EXTRA"), "{name}");
        }
    }
    assert!(pages >= 10, "{pages}");

    let mount = page("man1/littlefs-mount.1");
    let (_, table) = mount.split_once(".SH \"MOUNT OPTIONS\"").expect("a section");
    for group in table::GROUPS {
        assert!(table.contains(group.title), "no {} in {table}", group.title);
        for item in group.items {
            assert!(table.contains(&item.label()), "no {} in {table}", item.label());
        }
    }
    assert!(table.contains("Sizes may be hexadecimal"), "{table}");
    assert!(mount.contains(".SH EXAMPLES\n.nf\n  littlefs mount dump.bin /mnt "), "{mount}");
    assert!(page("man8/mount.littlefs.8").contains("littlefs-mount(1) lists"));
}

/// The completions that bash offers for a line, with the cursor at its end.
fn offered(script: &str, directory: &std::path::Path, line: &str) -> Vec<String> {
    let test = r#"
        source "$1" 2>/dev/null
        COMP_LINE=$2 COMP_POINT=${#2}
        eval "COMP_WORDS=($2)"
        [[ $2 == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _littlefs_with_paths littlefs "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" 2>/dev/null
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_littlefs")).parent().expect("a parent");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a path"));
    let out = Command::new("bash")
        .args(["--norc", "-c", test, "bash", script, line])
        .current_dir(directory)
        .env("PATH", path)
        .output()
        .expect("bash");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_paths_inside_of_images() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    docs::write_all(dir.path()).expect("the completions should be written");
    let script = dir.path().join("completions/littlefs.bash");
    let script = script.to_str().expect("UTF-8");
    let image = littlefs::Littlefs::create(dir.path().join("an image"), 1 << 18).expect("an image");
    for path in ["etc/sub", "etc/$(touch broken)", "etc/bad\nname", "etc/.hidden", "two words"] {
        image.create_dir_all(path).expect(path);
    }
    image.write("etc/file", "").and_then(|()| image.close()).expect("a file");
    let offered = |line: &str| offered(script, dir.path(), line);
    assert_eq!(offered("littlefs ls an\\ image "), ["etc/", "two words/"]);
    assert_eq!(
        offered("littlefs -v rm -r 'an image' etc/"),
        ["etc/$(touch broken)/", "etc/file", "etc/sub/"]
    );
    assert_eq!(offered("littlefs cat --offset 0 'an image' etc/f"), ["etc/file"]);
    assert_eq!(offered("littlefs stat 'an image' etc/.h"), ["etc/.hidden/"]);
    assert_eq!(offered("littlefs attr 'an image' get t"), ["two words/"]);
    assert!(offered("littlefs put 'an image' x an").contains(&"an image".to_owned()));
    assert!(offered("littlefs put 'an image' x e").contains(&"etc/".to_owned()));
    // options and commands are completed as before
    assert!(offered("littlefs ls --off").contains(&"--offset".to_owned()));
    assert!(offered("littlefs trun").contains(&"truncate".to_owned()));
    // what is no image has nothing inside
    fs::write(dir.path().join("junk"), "junk").expect("a file");
    assert!(offered("littlefs ls junk ").is_empty());
    assert!(!dir.path().join("broken").exists());
    for shell in ["_littlefs", "littlefs.fish"] {
        let text = fs::read_to_string(dir.path().join("completions").join(shell)).expect(shell);
        assert!(text.contains("complete-paths"), "{shell}");
    }
}
