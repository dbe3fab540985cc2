//! Images of version 1 that `create` makes. They are sound and have the right tree for the C
//! driver.

use std::fs;
use std::path::Path;

use super::converting::migrated;
use super::{Model, content, littlefs, tree, varied};
use testkit::tree::{Kind, Tree, diff};

/// Put a tree into a directory of the host.
fn on_host(tree: &Tree, dir: &Path) {
    fs::create_dir(dir).expect("made");
    for (path, entry) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        let path = dir.join(std::str::from_utf8(path).expect("text"));
        match &entry.kind {
            Kind::Dir => fs::create_dir(path).expect("made"),
            Kind::File(bytes) => fs::write(path, bytes).expect("written"),
        }
    }
}

/// The exit code and both outputs of `create --disk-version 1`, and the image.
fn create(model: &Tree, more: &[&str]) -> (i32, String, Vec<u8>) {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, image) = (dir.path().join("source"), dir.path().join("new.img"));
    on_host(model, &source);
    let (source, image) = (source.to_str().expect("UTF-8"), image.to_str().expect("UTF-8"));
    let (code, out, err) =
        littlefs(&[&["create", "--disk-version", "1"], more, &[image, source]].concat());
    (code, out + &err, fs::read(image).unwrap_or_default())
}

#[test]
fn what_is_made_is_what_the_c_driver_reads() {
    for block_size in ["128", "256", "512", "4096"] {
        let model = varied(block_size.parse().expect("a number"));
        let size = ["--block-size", block_size, "--block-count", "240"];
        let (code, said, image) = create(&model, &size);
        assert_eq!(code, 0, "{said}");
        diff("shown", &tree(&image), "stored", &model).unwrap();
        diff("lfs_migrate", &migrated(&image), "stored", &model).unwrap();
        let (_dir, path) = super::file(&image);
        let (code, out, _) = littlefs(&["check", &path]);
        assert!(code == 0 && out.contains("clean, 0 errors, 1 note"), "{out}");
        let (_, out, _) = littlefs(&["info", "--json", &path]);
        let info: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let used = format!("{} blocks used", info["blocks_used"]);
        assert!(said.contains(&used) && info["disk_version"] == "1.1", "{said} {out}");
        // the same again
        assert!(create(&model, &size).2 == image, "the bytes differ");
    }
}

#[test]
fn as_small_as_possible() {
    let model = varied(128);
    let (code, said, least) = create(&model, &["--block-size", "128", "--size", "min"]);
    assert!(code == 0 && said.contains(", 0 free"), "{said}");
    diff("shown", &tree(&least), "stored", &model).unwrap();
    let blocks = least.len() / 128;
    let fewer = (blocks - 1).to_string();
    let (code, said, _) = create(&model, &["--block-size", "128", "--block-count", &fewer]);
    assert!(code == 1 && said.contains(&blocks.to_string()), "{said}");
    let (code, said, empty) = create(&Model::new().0, &["--block-size", "512", "--size", "min"]);
    assert_eq!((code, empty.len()), (0, 4 * 512), "{said}");
    assert_eq!(tree(&empty).len(), 1);
}

#[test]
fn what_version_1_cannot_hold() {
    let mut model = Model::new();
    model.file(&"n".repeat(97), content(1, 5));
    let (code, said, _) = create(&model.0, &["--block-size", "128", "--size", "64K"]);
    assert!(
        code == 1 && said.contains("the name has 97 bytes, but the image allows only 96"),
        "{said}"
    );
    let (code, said, _) = create(&Model::new().0, &["--size", "64K", "--attrs", "unix"]);
    assert!(code == 1 && said.contains("littlefs version 1 has no attributes"), "{said}");
    let dir = tempfile::tempdir().expect("a directory");
    let image = dir.path().join("new.img");
    let image = image.to_str().expect("UTF-8");
    let (code, _, err) = littlefs(&["mkfs", "--disk-version", "1", "--size", "64K", image]);
    assert!(code == 1 && err.contains("'littlefs create'"), "{err}");
    assert!(!Path::new(image).exists());
}
