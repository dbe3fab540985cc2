//! What is said when something is wrong: what happened, where, and what to do.

use super::desk::{Desk, tar_of};

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
    desk.file("file", b"x");
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
