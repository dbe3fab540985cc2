//! What is said when something is wrong: what happened, where, and what to do.

use testkit::desk::{Desk, tar_of};

/// A file of the host that cannot be read is named, in the same words by every command.
#[test]
fn files_of_the_host_that_do_not_exist_are_named() {
    let desk = Desk::with_image();
    for (args, code) in [
        (&["put", "new.img", "gone", "/"][..], 1),
        (&["put", "--sync", "new.img", "gone", "/"], 1),
        (&["put", "--exclude-from", "gone", "new.img", "data", "/"], 1),
        (&["create", "--size", "64K", "x.img", "gone"], 1),
        (&["diff", "new.img", "gone"], 2),
    ] {
        let said = desk.fails(args, code, &[]).stderr;
        assert_eq!(said, "littlefs: gone: no such file or directory\n", "{args:?}");
    }
    let said = desk.fails(&["undo", "gone", "new.img"], 1, &[]).stderr;
    assert!(said.ends_with("cannot be read: no such file or directory\n"), "{said}");
    let said = desk.fed(&["shell", "new.img"], b"lcd gone\n").stderr;
    assert!(said.contains("littlefs: gone: no such file or directory\n"), "{said}");
}

#[test]
fn a_file_in_the_place_of_a_directory_is_said_to_be_there() {
    let desk = Desk::with_image();
    // so that there is something to recover
    desk.file("file", b"x").ok(&["rm", "-r", "new.img", "www"]);
    for verb in ["extract", "recover"] {
        for dir in ["file", "file/below"] {
            let words = [&format!("{dir}: a file is in the place of this directory"), "give"];
            desk.fails(&[verb, "-C", dir, "new.img"], 1, &words);
        }
    }
}

#[test]
fn what_is_no_tar_archive_is_said_to_be_none() {
    let desk = Desk::with_image();
    let tar = tar_of(&desk.path("data"));
    let mut broken = tar.clone();
    let second = &mut broken[512..1024];
    second.fill(b'x');
    for (input, words) in [
        (b"text".repeat(1000), "it has no tar header at its start; 'tar -cf - -C DIR .' writes"),
        (b"text".to_vec(), "it has no tar header at its start"),
        (desk.read("new.img"), "it has no tar header at its start"),
        (Vec::new(), "it is empty"),
        (broken, "it is damaged, or ends too early, after 1 entry"),
    ] {
        for args in [&["create", "--size", "64K", "x.img", "-"][..], &["diff", "new.img", "-"]] {
            let ran = desk.fed(args, &input);
            assert!(ran.code > 0, "{args:?}");
            let start =
                format!("littlefs: standard input cannot be read as a tar archive: {words}");
            assert!(ran.stderr.starts_with(&start), "{args:?}: {}", ran.stderr);
        }
    }
    desk.file("a.tar", &[&tar[..], b""].concat()[..700]);
    desk.fails(&["diff", "new.img", "a.tar"], 2, &["a.tar cannot be read as a tar archive: it is"]);
    assert_eq!(desk.fed(&["create", "--size", "64K", "x.img", "-"], &[0; 1024]).code, 0);
}

#[test]
fn an_image_that_is_its_own_journal_is_refused() {
    let desk = Desk::with_image();
    desk.file("file", b"x");
    let before = desk.read("new.img");
    std::os::unix::fs::symlink("new.img", desk.path("link.img")).expect("a link");
    for args in [
        &["put", "--journal", "./new.img", "new.img", "file", "/"][..],
        &["ls", "--journal", "new.img", "link.img"],
        &["kv", "--journal", "new.img", "new.img", "set", "a", "b"],
        &["journal", "commit", "new.img", "new.img"],
    ] {
        desk.fails(args, 1, &["new.img: is the image itself", "give the journal another name"]);
    }
    assert_eq!(desk.read("new.img"), before);
}

#[test]
fn a_name_in_two_sources_is_said_to_be_there_twice() {
    let desk = Desk::new();
    desk.file("a/pic.bin", b"a").file("b/pic.bin", b"b");
    let args = ["create", "--size", "64K", "x.img", "a", "b"];
    desk.fails(&args, 1, &["pic.bin: two of the sources have", "rename one of the two"]);
}

#[test]
fn a_write_protected_image_is_said_to_be_that_once() {
    let desk = Desk::with_image();
    desk.file("file", b"x");
    let protected = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    std::fs::set_permissions(desk.path("new.img"), protected).expect("chmod");
    for args in [
        &["put", "new.img", "file", "/"][..],
        &["resize", "--size", "512K", "new.img"],
        &["kv", "new.img", "set", "a", "b"],
        &["mkfs", "--force", "new.img"],
    ] {
        let said = desk.fails(args, 1, &["write-protected", "'chmod u+w'"]).stderr;
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_map_without_runs_has_no_averages() {
    let desk = Desk::new();
    desk.file("data/small", b"x");
    desk.ok(&["create", "-q", "--size", "min", "full.img", "data"]);
    let text = desk.ok(&["map", "full.img"]).text().to_owned();
    assert!(text.ends_with("\nfree runs: 0\nfiles with blocks: 0\n"), "{text}");
    desk.ok(&["create", "-q", "--size", "64K", "one.img", "data"]);
    let text = desk.ok(&["map", "one.img"]).text().to_owned();
    assert!(text.contains("\nfree runs: 1, of 14 blocks\n"), "{text}");
}

#[test]
fn one_entry_that_does_not_fit_is_one_entry() {
    let desk = Desk::new();
    desk.file("data/a_long_name", b"").ok(&["mkfs", "--size", "64K", "--name-max", "5", "x.img"]);
    let words = ["1 entry cannot be stored in the image:\n  a_long_name: the name has 11 bytes"];
    desk.fails(&["put", "x.img", "data/a_long_name", "/"], 1, &words);
    desk.fails(&["create", "--name-max", "5", "--size", "64K", "y.img", "data"], 1, &words);
    std::os::unix::fs::symlink("gone", desk.path("data/link")).expect("a link");
    let args = ["create", "--links=refuse", "--size", "64K", "y.img", "data"];
    desk.fails(&args, 1, &["1 symbolic link was found:"]);
}

#[test]
fn a_missing_directory_is_named() {
    let desk = Desk::with_image();
    for (path, missing) in [("a/b/c", "/a"), ("etc/b/c", "/etc/b"), ("a/b", "/a")] {
        let words = [&format!("/{path}: the directory {missing} does not exist; -p makes it")[..]];
        desk.fails(&["mkdir", "new.img", path], 1, &words);
    }
}

#[test]
fn a_script_that_fails_says_where_it_ended() {
    let desk = Desk::with_image();
    let said = desk.fed(&["shell", "new.img"], b"mkdir one\nrm gone\nmkdir two\n").stderr;
    assert!(said.contains("line 2 failed, so the script ended there; what earlier"), "{said}");
    assert!(desk.ok(&["ls", "new.img"]).text().contains("one"));
}

#[test]
fn an_image_without_links_tells_how_to_store_them() {
    let desk = Desk::new();
    desk.ok(&["mkfs", "-q", "--size", "64K", "x.img"]);
    desk.fails(&["ln", "-s", "x.img", "a", "b"], 1, &["no symbolic links; give '--attrs unix'"]);
    desk.ok(&["ln", "-s", "--attrs", "unix", "x.img", "a", "b"]);
}

#[test]
fn an_action_in_the_wrong_place_is_told_its_place() {
    let desk = Desk::with_image();
    for (args, tip) in [
        (
            &["kv", "get", "new.img", "key"][..],
            "'get' comes after the image: littlefs kv IMAGE get",
        ),
        (&["attr", "get", "new.img", "etc", "0x80"], "littlefs attr IMAGE get ..."),
        (&["journal", "new.img", "log"], "'log' comes first: littlefs journal log ..."),
    ] {
        desk.fails(args, 1, &[tip]);
    }
    let said = desk.fails(&["kv", "new.img", "get", "a", "b"], 1, &["unexpected argument 'b'"]);
    assert!(!said.stderr.contains("comes"), "{}", said.stderr);
}

#[test]
fn standard_input_is_not_said_to_be_write_protected() {
    let desk = Desk::with_image();
    let mut damaged = desk.read("new.img");
    damaged[2 * 4096..4 * 4096].fill(0);
    for (args, code) in [
        (&["kv", "-", "set", "a", "b"][..], 1),
        (&["put", "-", "data/etc/config.txt", "/"], 1),
        (&["attr", "-", "set", "file", "1", "x"], 1),
        (&["resize", "--size", "512K", "-"], 1),
        (&["check", "-y", "-"], 8),
    ] {
        let ran = desk.fed(args, &damaged);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        let word = "standard input can only be read: give the name of an image file";
        assert!(ran.stderr.contains(word) && !ran.stderr.contains("chmod"), "{}", ran.stderr);
    }
}

#[test]
fn every_command_that_only_reads_reads_standard_input() {
    let desk = Desk::with_image();
    desk.ok(&["wrap", "--format", "hex", "--base", "0", "new.img", "new.hex"]);
    let (image, hex) = (desk.read("new.img"), desk.read("new.hex"));
    let found = desk.fed(&["scan", "--json", "-"], &image).json();
    let of_file = desk.ok(&["scan", "--json", "new.img"]).json();
    let (found, of_file) = (&found["files"][0], &of_file["files"][0]);
    assert_eq!(found["filesystems"][0]["size"], of_file["filesystems"][0]["size"]);
    assert_eq!(found["filesystems"][0]["command"], "littlefs mount -o offset=0x0 FILE DIR");
    desk.fails(&["scan", "-", "-"], 1, &["standard input can be read only once"]);
    assert_eq!(desk.fed(&["unwrap", "-", "raw"], &hex).code, 0);
    assert!(desk.read("raw") == image);
    let ran = desk.fed(&["unwrap", "--unpack-limit", "10", "-", "raw2"], &hex);
    assert!(ran.code == 1 && ran.stderr.contains("--unpack-limit"), "{}", ran.stderr);
}

/// A new image is no remedy if the file is one that is compared, searched or wrapped.
#[test]
fn mkfs_is_not_advised_for_a_file_that_is_only_read() {
    let desk = Desk::with_image();
    desk.file("x.hex", b"");
    for (args, code) in [
        (&["verify", "new.img", "gone"][..], 2),
        (&["map", "new.img", "gone"], 1),
        (&["scan", "gone"], 1),
        (&["unwrap", "gone", "raw"], 1),
        (&["wrap", "--format", "hex", "gone", "out"], 1),
        (&["wrap", "--like", "gone", "new.img", "out"], 1),
    ] {
        let said = desk.fails(args, code, &["gone: no such file"]).stderr;
        assert!(!said.contains("mkfs"), "{args:?}: {said}");
    }
    desk.fails(&["info", "gone"], 1, &["mkfs"]);
}

#[test]
fn a_journal_that_is_given_as_its_image_is_told_so() {
    let desk = Desk::with_image();
    desk.ok(&["mkdir", "--journal", "j", "new.img", "more"]);
    std::os::unix::fs::symlink("j", desk.path("link")).expect("a link");
    for file in ["new.img", "j"] {
        for (args, code) in [
            (&["journal", "verify", "--image", file][..], 8),
            (&["journal", "log", "--image", file], 1),
            (&["journal", "squash", "--image", file], 1),
        ] {
            let words = [&format!("{file}: is given as the journal and as its image")];
            desk.fails(&[args, &[file]].concat(), code, &[words[0]]);
        }
    }
    desk.fails(&["journal", "log", "--image", "link", "j"], 1, &["as the journal and as its"]);
    desk.ok(&["journal", "verify", "--image", "new.img", "j"]);
}

/// The help offers nothing that the command refuses.
#[test]
fn commands_that_write_do_not_offer_to_read() {
    let desk = Desk::new();
    for verb in ["put", "cp", "mv", "rm", "mkdir", "touch", "truncate", "ln", "edit", "resize"] {
        let help = desk.ok(&[verb, "--help"]).text().to_owned();
        assert!(!help.contains("'-' is standard input") && !help.contains("--at "), "{help}");
        assert_eq!(help.contains("--journal "), verb != "resize", "{help}");
    }
    assert!(desk.ok(&["ls", "--help"]).text().contains("'-' is standard input"));
    let help = desk.ok(&["put", "--help"]).text().to_owned();
    assert!(!help.contains("standard input"), "{help}");
    let in_words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let writes = "changes go to the journal";
    for verb in ["ls", "recover", "clone", "map", "extract", "info"] {
        let help = in_words(desk.ok(&[verb, "--help"]).text());
        assert!(help.contains("--journal ") && !help.contains(writes), "{help}");
    }
    for verb in ["put", "kv", "attr", "check", "shell"] {
        assert!(in_words(desk.ok(&[verb, "--help"]).text()).contains(writes), "{verb}");
    }
}

/// A program that reads JSON need not look at standard error to know why there is no result.
#[test]
fn a_command_that_fails_prints_its_error_as_json() {
    let desk = Desk::with_image();
    desk.file("garbage", &[7; 70_000]).file("x", b"x");
    for (args, code) in [
        (&["check", "garbage"][..], 8),
        (&["check", "gone"], 8),
        (&["info", "garbage"], 1),
        (&["ls", "gone"], 1),
        (&["stat", "gone", "x"], 1),
        (&["du", "gone"], 1),
        (&["map", "gone"], 1),
        (&["inspect", "gone", "superblock"], 1),
        (&["diff", "gone", "new.img"], 2),
        (&["verify", "new.img", "gone"], 2),
        (&["extract", "gone"], 1),
        (&["get", "gone", "x", "y"], 1),
        (&["put", "gone", "x", "/"], 1),
        (&["rm", "new.img", "none"], 1),
        (&["attr", "gone", "list", "x"], 1),
        (&["create", "--size", "64K", "new.img", "data"], 1),
        (&["convert", "--from", "v1", "new.img"], 1),
        (&["recover", "gone", "-C", "found"], 1),
        (&["kv", "new.img", "get", "none"], 1),
        (&["journal", "verify", "gone"], 8),
    ] {
        let with_json = [args, &["--json"]].concat();
        let ran = desk.fails(&with_json, code, &[]);
        let told = ran.json();
        let error = told["error"].as_str().unwrap_or_else(|| panic!("{args:?}: {told}"));
        assert_eq!(told.as_object().map(|object| object.len()), Some(1), "{args:?}: {told}");
        assert!(ran.stderr.contains(error.trim_end()), "{args:?}: {error} in {}", ran.stderr);
        assert!(desk.fails(args, code, &[]).stdout.is_empty(), "{args:?}");
    }
    desk.fails(&["map", "--format", "json", "gone"], 1, &[]).json();
    // what was printed before the failure stays the only object
    let ran = desk.fails(&["ls", "--json", "new.img", "none", "x"], 1, &[]);
    assert_eq!(ran.json()["errors"].as_array().map(Vec::len), Some(2), "{}", ran.text());
}

#[test]
fn a_mount_does_not_read_standard_input() {
    let desk = Desk::with_image();
    let image = desk.read("new.img");
    desk.dir("mnt");
    for there_is_such_a_file in [false, true] {
        if there_is_such_a_file {
            desk.file("-", &image);
        }
        for (args, code) in [
            (&["mount", "-", "mnt"][..], 1),
            (&["mount", "-o", "ro", "-", "mnt"], 1),
            (&["run", "-", "--", "true"], 125),
        ] {
            let ran = desk.fed(args, &image);
            assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
            let words = "standard input or output cannot be used for this; give a name, or './-'";
            assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
        }
    }
    assert!(desk.read("-") == image);
}
