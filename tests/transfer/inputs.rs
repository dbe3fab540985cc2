//! What is collected from directories, files, tar streams, patterns and links.

use std::io::Cursor;

use littlefs::FormatOptions;
use littlefs::transfer::{
    Gather, GatherError, Input, Kind, Links, Manifest, Patterns, Size, gather,
};

use super::fixture::{Host, build, how, manifest, pattern};

fn paths(manifest: &Manifest) -> Vec<String> {
    manifest.items().iter().map(|i| String::from_utf8_lossy(&i.path).into_owned()).collect()
}

fn from_tar(stream: &[u8], how: &Gather) -> Result<Manifest, GatherError> {
    gather(vec![Input::Tar(&mut Cursor::new(stream))], how)
}

fn tar_of(host: &Host) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", host.path()).expect("a stream");
    builder.into_inner().expect("a stream")
}

#[test]
fn a_tar_stream_makes_the_same_image_as_its_directory() {
    let host = Host::varied();
    host.file(&format!("long/{}", "n".repeat(180)), b"long name");
    let from_dir = manifest(&[host.path()], &how()).expect("a manifest");
    let from_tar = from_tar(&tar_of(&host), &how()).expect("a manifest");
    assert_eq!(paths(&from_dir), paths(&from_tar));
    let image =
        |m: &Manifest| build(m, FormatOptions::new(), Size::Blocks(256)).expect("an image").0;
    assert_eq!(image(&from_dir), image(&from_tar));
}

#[test]
fn tar_streams_end_early_lead_outside_or_are_none() {
    let stream = tar_of(&Host::varied());
    assert!(matches!(from_tar(&stream[..stream.len() / 2], &how()), Err(GatherError::Tar(_))));
    assert!(matches!(from_tar(&[], &how()), Err(GatherError::Tar(_))));
    assert!(matches!(from_tar(&pattern(5000, 3), &how()), Err(GatherError::Tar(_))));
    match from_tar(b"\x1f\x8b\x08\0\0\0\0\0", &how()) {
        Err(GatherError::Tar(e)) => assert!(e.to_string().contains("zcat"), "{e}"),
        other => panic!("{other:?}"),
    }
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..8].copy_from_slice(b"../../xy");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).expect("an entry");
    let stream = builder.into_inner().expect("a stream");
    assert!(matches!(from_tar(&stream, &how()), Err(GatherError::Outside(p)) if p == b"../../xy"));
    let exclude = Gather { exclude: Patterns::new(["xy"]).expect("a pattern"), ..how() };
    assert!(matches!(from_tar(&stream, &exclude), Err(GatherError::Outside(_))));
}

#[test]
fn hard_links_of_a_tar_stream_are_files_and_later_entries_count() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(7);
        builder.append_data(&mut header, path, content).expect("an entry");
    };
    add("dir/file", b"old");
    add("dir/file", b"new content");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, "other", "dir/file").expect("a link");
    let stream = builder.into_inner().expect("a stream");
    let m = from_tar(&stream, &how()).expect("a manifest");
    assert_eq!(paths(&m), ["dir", "other", "dir/file"]);
    assert_eq!(m.bytes(), 22);
    assert_eq!(m.items()[0].kind, Kind::Dir, "implied");

    let mut builder = tar::Builder::new(Vec::new());
    builder.append_link(&mut header, "other", "missing").expect("a link");
    let stream = builder.into_inner().expect("a stream");
    assert!(matches!(from_tar(&stream, &how()), Err(GatherError::LinkTarget { .. })));
}

#[test]
fn patterns_leave_out_names_and_what_is_below() {
    let host = Host::new();
    host.file("keep/a.txt", b"").file("keep/a.bak", b"").file(".git/config", b"").file("x~", b"");
    let exclude = Patterns::new(["*.bak", ".git", "*~"]).expect("patterns");
    let gather = Gather { exclude, ..how() };
    let m = manifest(&[host.path()], &gather).expect("a manifest");
    assert_eq!(paths(&m), ["keep", "keep/a.txt"]);
    let m = from_tar(&tar_of(&host), &gather).expect("a manifest");
    assert_eq!(paths(&m), ["keep", "keep/a.txt"]);
}

#[test]
fn links_are_followed_stored_or_refused() {
    let host = Host::new();
    host.file("file", b"content").file("dir/inner", b"inner");
    std::os::unix::fs::symlink("file", host.at("to-file")).expect("a link");
    std::os::unix::fs::symlink("dir", host.at("to-dir")).expect("a link");
    let m = manifest(&[host.path()], &how()).expect("a manifest");
    assert_eq!(paths(&m), ["dir", "file", "to-dir", "to-file", "dir/inner", "to-dir/inner"]);
    let store = Gather { links: Links::Store, ..how() };
    let m = manifest(&[host.path()], &store).expect("a manifest");
    let links = m.items().iter().filter(|i| i.kind == Kind::Symlink).count();
    assert_eq!((links, m.items().len()), (2, 5));
    let refuse = Gather { links: Links::Refuse, ..how() };
    match manifest(&[host.path()], &refuse) {
        Err(GatherError::Links(found)) => assert_eq!(found.len(), 2),
        other => panic!("{other:?}"),
    }
    match from_tar(&tar_of(&host), &how()) {
        Err(GatherError::TarLinks(found)) => assert_eq!(found.len(), 2),
        other => panic!("{other:?}"),
    }
    std::os::unix::fs::symlink("..", host.at("dir/loop")).expect("a link");
    let e = manifest(&[host.path()], &how()).expect_err("a loop");
    assert!(e.to_string().contains("loop"), "{e}");
    std::fs::remove_file(host.at("dir/loop")).expect("removed");
    std::os::unix::fs::symlink("nowhere", host.at("dangling")).expect("a link");
    assert!(matches!(manifest(&[host.path()], &how()), Err(GatherError::Unreadable(..))));
}

#[test]
fn several_inputs_are_put_together_unless_they_clash() {
    let (a, b) = (Host::new(), Host::new());
    a.file("shared/one", b"1").file("only-a", b"");
    b.file("shared/two", b"2").file("single", b"3");
    let m = manifest(&[a.path(), b.path(), &a.at("only-a")], &how()).expect_err("twice");
    assert!(matches!(m, GatherError::Twice(p) if p == b"only-a"));
    let m = manifest(&[a.path(), b.path()], &how()).expect("a manifest");
    assert_eq!(paths(&m), ["only-a", "shared", "single", "shared/one", "shared/two"]);
    b.file("only-a/below", b"");
    let e = manifest(&[a.path(), b.path()], &how()).expect_err("a file and a directory");
    assert!(matches!(e, GatherError::Twice(p) if p == b"only-a"));
}

#[test]
fn special_files_are_refused_by_what_cannot_keep_them() {
    let host = Host::new();
    let fifo = std::process::Command::new("mkfifo").arg(host.at("fifo")).status().expect("mkfifo");
    assert!(fifo.success());
    let m = manifest(&[host.path()], &how()).expect("a manifest");
    let e = build(&m, FormatOptions::new(), Size::Blocks(64)).expect_err("no place for a FIFO");
    assert!(e.to_string().contains("FIFO"), "{e}");
}
