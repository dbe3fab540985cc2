//! What scripts/desktop teaches other programs: file(1) and desktops recognise images by their
//! content.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{flash, small, without_tree};
use testkit::clfs::Config;
use testkit::v1::V1;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// What a program prints, without the end of the line.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

/// Files that are images, each with the output of file(1) that is expected, and files that are not
/// images.
fn samples() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let old = Config { disk_version: 0x0002_0000, ..small() };
    vec![
        (without_tree(&small()), Some("littlefs filesystem, version 2.1, 64 blocks of 512 bytes")),
        (without_tree(&flash()), Some("littlefs filesystem, version 2.1, 32 blocks of 4096 bytes")),
        (without_tree(&old), Some("littlefs filesystem, version 2.0, 64 blocks of 512 bytes")),
        (
            V1::new(512, 40).image(),
            Some("littlefs filesystem, version 1.1, 40 blocks of 512 bytes"),
        ),
        (b"# about littlefs, in Markdown, and it is not short of characters\n".to_vec(), None),
        (b"A text of forty characters, and now comes littlefs: not an image".to_vec(), None),
        (vec![0xff; 8192], None),
    ]
}

#[test]
fn file_names_images_with_version_and_geometry() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("image");
    for (bytes, expected) in samples() {
        fs::write(&path, bytes).expect("write");
        let file = || {
            let mut command = Command::new("file");
            command.arg("-b").arg("-m").arg(script("desktop/magic"));
            command
        };
        let description = said(file().arg(&path));
        let mime = said(file().arg("--mime-type").arg(&path));
        match expected {
            Some(expected) => {
                assert_eq!(description, expected);
                assert_eq!(mime, "application/x-littlefs");
            }
            None => assert!(!format!("{description}{mime}").contains("littlefs"), "{description}"),
        }
    }
}

#[test]
fn desktops_know_images_by_content_whatever_their_name() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let place = |from: &str, to: &str| {
        let directory = data.path().join(to);
        fs::create_dir_all(&directory).expect("a directory");
        fs::copy(script("desktop").join(from), directory.join(from)).expect("copied");
    };
    place("littlefs.xml", "mime/packages");
    place("littlefs.desktop", "applications");
    said(Command::new("update-mime-database").arg(data.path().join("mime")));
    said(Command::new("desktop-file-validate").arg(script("desktop/littlefs.desktop")));
    said(Command::new("update-desktop-database").arg(data.path().join("applications")));
    let query = |what: &str, of: &Path| {
        let mut command = Command::new("xdg-mime");
        command.args(["query", what]).arg(of);
        // The way of GNOME is to ask GIO, which reads the database of types; others ask file(1).
        said(command.env("XDG_CURRENT_DESKTOP", "GNOME").env("XDG_DATA_HOME", data.path()))
    };
    for (bytes, expected) in samples() {
        for name in ["dump.img", "flash.bin", "image.littlefs", "named-by-nothing"] {
            let path = data.path().join(name);
            fs::write(&path, &bytes).expect("write");
            let mime = query("filetype", &path);
            let known = expected.is_some() || name.ends_with(".littlefs");
            assert_eq!(mime == "application/x-littlefs", known, "{name}: {mime}, {expected:?}");
        }
    }
    assert_eq!(query("default", Path::new("application/x-littlefs")), "littlefs.desktop");
}

/// The functions of scripts/install.sh that teach file(1).
#[test]
fn installing_keeps_other_local_magic() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let local = scratch.path().join("magic");
    let theirs = "# Theirs.\n0\tstring\tTHEIRS\ttheir format\n";
    fs::write(&local, theirs).expect("write");
    let run = |prefix: &str, calls: &str| {
        let functions =
            r#"sed -n '/^# Where file(1) looks/,/^# update_databases/p' scripts/install.sh"#;
        let script = format!("set -eu\n. <({functions})\nlocal_magic=$1\n{calls}");
        let mut bash = Command::new("bash");
        bash.args(["-c", &script, "bash"]).arg(&local).env("prefix", prefix);
        said(bash.current_dir(env!("CARGO_MANIFEST_DIR")));
        fs::read_to_string(&local).expect("read")
    };
    let once = run("/usr/local", "put_magic");
    assert!(once.starts_with(theirs), "{once}");
    assert_eq!(run("/usr/local", "put_magic"), once, "a second time changes nothing");
    run("/opt/tools", "put_magic");
    let image = scratch.path().join("image");
    fs::write(&image, without_tree(&small())).expect("write");
    let description = said(Command::new("file").arg("-b").arg("-m").arg(&local).arg(&image));
    assert_eq!(description, "littlefs filesystem, version 2.1, 64 blocks of 512 bytes");
    assert_ne!(run("/usr/local", "remove_magic"), theirs, "that of another prefix stays");
    assert_eq!(run("/opt/tools", "remove_magic"), theirs);
    fs::remove_file(&local).expect("removed");
    run("/usr/local", "put_magic; remove_magic; touch \"$1\"");
    assert_eq!(fs::read(&local).expect("read"), b"", "what is missing is not made");
}
