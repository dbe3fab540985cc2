//! The examples run, and do what they claim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program of an example. `cargo test` builds all examples, next to the tests.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let target = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let program = target.join("examples").join(name);
    assert!(program.exists(), "'cargo build --examples' makes {}", program.display());
    program
}

/// What an example prints.
fn run(name: &str, args: &[&str]) -> String {
    let output = Command::new(program(name)).args(args).output().expect(name);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{name}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn an_image_is_built_listed_and_edited() {
    let dir = tempfile::tempdir().expect("tempdir");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("etc")).expect("create_dir_all");
    fs::write(tree.join("etc/colour"), "blue, light blue").expect("write");
    fs::write(tree.join("large"), vec![1; 100_000]).expect("write");
    let (tree, image) = (tree.to_str().expect("utf-8"), dir.path().join("new.img"));
    let image = image.to_str().expect("utf-8");
    assert!(run("build", &[tree, image, "1048576"]).ends_with(" of 256 blocks used\n"));
    assert_eq!(run("edit", &[image, "/etc/colour", "blue", "green"]), "/etc/colour: 2 times\n");
    let listed = run("list", &[image]);
    let lines: Vec<&str> = listed.lines().map(str::trim_start).collect();
    assert_eq!(lines[..3], ["0 etc/", "18 etc/colour", "100000 large"]);
    assert!(lines[3].ends_with(" of 256 blocks are free"), "{listed}");
    assert_eq!(run("kv", &[image]), "started 1 times\n");
    assert_eq!(run("kv", &[image]), "started 2 times\n");
}

#[test]
fn an_image_is_mounted_while_a_command_runs() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (tree, image) = (dir.path().join("tree"), dir.path().join("new.img"));
    fs::create_dir(&tree).expect("create_dir");
    fs::write(tree.join("colour"), "blue").expect("write");
    let path = |path: &Path| path.to_str().expect("utf-8").to_owned();
    run("build", &[&path(&tree), &path(&image), "65536"]);
    let at = dir.path().join("at");
    fs::create_dir(&at).expect("create_dir");
    let command = format!("cd '{}' && cat colour && echo more >> colour", at.display());
    assert_eq!(run("mount", &[&path(&image), &path(&at), "sh", "-c", &command]), "blue");
    assert!(fs::read_dir(&at).expect("read_dir").next().is_none(), "it is unmounted again");
    assert!(run("list", &[&path(&image)]).contains("9 colour\n"));
}
