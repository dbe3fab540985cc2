//! Entries: making, listing, renaming, copying and removing them; metadata and attributes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use littlefs::bd::{Geometry, RamDevice};
use littlefs::{Error, FileType, FormatOptions, Littlefs, SetMetadata};

use super::{device, empty, unix};

fn names(fs: &Littlefs, dir: &str) -> Vec<String> {
    let entries = fs.read_dir(dir).expect("read_dir");
    let name = |e: littlefs::DirEntry| String::from_utf8(e.name().to_vec()).expect("utf-8");
    entries.map(|e| name(e.expect("entry"))).collect()
}

fn walked(fs: &Littlefs, dir: &str) -> Vec<String> {
    let entry = |e: littlefs::WalkEntry| {
        let path = String::from_utf8(e.path().to_vec()).expect("utf-8");
        assert_eq!(e.name(), path.rsplit('/').next().expect("a name").as_bytes());
        format!("{path}:{}:{}", e.metadata().len(), e.depth())
    };
    fs.walk(dir).expect("walk").map(|e| entry(e.expect("entry"))).collect()
}

#[test]
fn paths_are_bytes_or_strings_and_lead_to_the_same() {
    let fs = empty();
    fs.create_dir_all("/a//./b/").expect("create_dir_all");
    fs.create_dir_all("a/b/c").expect("what is there stays");
    fs.write("a/b/f", b"1").expect("write");
    for path in ["a/b/f", "/a/b/f", "./a/b/./f", "//a//b//f/"] {
        assert_eq!(fs.read(path).expect(path), b"1");
        assert_eq!(fs.read(path.as_bytes()).expect(path), b"1");
        assert_eq!(fs.read(format!("{path}/")).expect(path), b"1");
    }
    let odd: &[u8] = b"a/\xff\x01 \n";
    fs.write(odd, "2").expect("any bytes but / and NUL");
    assert_eq!(fs.read(odd).expect("read"), b"2");
    for path in ["../a", "a/..", "a/../a/b/f"] {
        assert!(matches!(fs.read(path), Err(Error::InvalidName)), "{path}");
        assert!(matches!(fs.create_dir_all(path), Err(Error::InvalidName)), "{path}");
    }
    assert!(matches!(fs.write("a/b\0", ""), Err(Error::InvalidName)));
}

#[test]
fn what_is_there_already_or_of_another_kind_is_refused() {
    let fs = empty();
    fs.create_dir("d").expect("create_dir");
    fs.write("f", "x").expect("write");
    assert!(matches!(fs.create_dir("d"), Err(Error::Exists)));
    assert!(matches!(fs.create_dir("f"), Err(Error::Exists)));
    assert!(matches!(fs.create_dir("/"), Err(Error::Exists)));
    assert!(matches!(fs.create_dir("no/d"), Err(Error::NotFound)));
    assert!(matches!(fs.create_dir_all("f/d"), Err(Error::NotDirectory)));
    assert!(matches!(fs.write("d", ""), Err(Error::IsDirectory)));
    assert!(matches!(fs.write("/", ""), Err(Error::IsDirectory)));
    assert!(matches!(fs.write("f/g", ""), Err(Error::NotDirectory)));
    assert!(matches!(fs.write("no/g", ""), Err(Error::NotFound)));
    assert!(matches!(fs.read("d"), Err(Error::IsDirectory)));
    assert!(matches!(fs.read("/"), Err(Error::IsDirectory)));
    assert!(matches!(fs.read_dir("f").err(), Some(Error::NotDirectory)));
    assert!(matches!(fs.remove_file("d"), Err(Error::IsDirectory)));
    assert!(matches!(fs.remove_dir("f"), Err(Error::NotDirectory)));
    assert!(matches!(fs.remove_dir("/"), Err(Error::Invalid(_))));
    assert!(matches!(fs.remove_dir_all("f"), Err(Error::NotDirectory)));
    assert!(fs.exists("/").expect("root") && fs.exists("f").expect("f"));
    assert!(!fs.exists("f/g").expect("below a file") && !fs.exists("g").expect("g"));
}

#[test]
fn directories_are_listed_with_kinds_and_sizes() {
    let fs = empty();
    for i in 0..1000 {
        fs.write(format!("f{i:03}"), vec![7; i % 60]).expect("write");
    }
    fs.create_dir("sub").expect("create_dir");
    let entries: Vec<_> = fs.read_dir("").expect("read_dir").map(|e| e.expect("entry")).collect();
    assert_eq!(entries.len(), 1001);
    for (i, entry) in entries.iter().take(1000).enumerate() {
        let metadata = entry.metadata().expect("metadata");
        assert_eq!(entry.name(), format!("f{i:03}").as_bytes());
        assert!(
            metadata.is_file() && metadata.len() == i as u64 % 60 && metadata.modified().is_none()
        );
    }
    let sub = entries[1000].metadata().expect("metadata");
    assert_eq!((sub.file_type(), sub.len()), (FileType::Dir, 0));

    // Entries come and go while the directory is read; those that stay are seen once.
    let mut seen = 0;
    for entry in fs.read_dir("/").expect("read_dir") {
        let entry = entry.expect("entry");
        if entry.name().starts_with(b"f") {
            seen += 1;
            fs.remove_file(entry.name()).expect("remove");
        }
    }
    assert_eq!((seen, names(&fs, "/")), (1000, vec!["sub".to_owned()]));
}

#[test]
fn a_walk_sees_everything_once_and_can_leave_out_directories() {
    let fs = empty();
    for path in ["a/x/1", "a/x/2", "a/y", "b", "c/z"] {
        if let Some((dir, _)) = path.rsplit_once('/') {
            fs.create_dir_all(dir).expect("create_dir_all");
        }
        fs.write(path, path).expect("write");
    }
    let all =
        ["a:0:0", "a/x:0:1", "a/x/1:5:2", "a/x/2:5:2", "a/y:3:1", "b:1:0", "c:0:0", "c/z:3:1"];
    assert_eq!(walked(&fs, "/"), all);
    assert_eq!(walked(&fs, "./a/"), ["a/x:0:0", "a/x/1:5:1", "a/x/2:5:1", "a/y:3:0"]);
    let mut walk = fs.walk("").expect("walk");
    let mut met = Vec::new();
    while let Some(entry) = walk.next() {
        let entry = entry.expect("entry");
        met.push(entry.path().to_vec());
        if entry.path() == b"a/x" {
            walk.skip_dir();
        }
    }
    assert_eq!(met, [&b"a"[..], b"a/x", b"a/y", b"b", b"c", b"c/z"]);
}

#[test]
fn trees_are_renamed_and_removed() {
    let dev = Arc::new(RamDevice::new(Geometry::new(512, 2000).expect("a geometry")));
    let fs = FormatOptions::new().open_new(dev.clone()).expect("format");
    for i in 0..300 {
        fs.create_dir_all(format!("tree/{}/{i}", i % 7)).expect("create_dir_all");
        fs.write(format!("tree/{}/{i}/f", i % 7), vec![1; 40]).expect("write");
    }
    fs.write("keep", "me").expect("write");
    fs.flush().expect("flush");
    fs.rename("tree", "wood").expect("rename");
    assert!(matches!(fs.rename_new("wood", "keep"), Err(Error::Exists)));
    assert!(matches!(fs.rename("wood", "keep"), Err(Error::NotDirectory)));
    assert!(matches!(fs.rename("wood", "wood/0/wood"), Err(Error::Invalid(_))));
    assert!(matches!(fs.rename("tree", "x"), Err(Error::NotFound)));
    assert!(matches!(fs.remove_dir("wood"), Err(Error::NotEmpty)));
    assert_eq!(walked(&fs, "wood").len(), 7 + 2 * 300);
    fs.remove_dir_all("wood").expect("remove_dir_all");
    fs.close().expect("close");
    let fs = Littlefs::open_device(dev.clone()).expect("open");
    assert_eq!(walked(&fs, "/"), ["keep:2:0"]);
    assert_eq!(fs.usage().expect("usage").blocks_used, 2);
    let report = littlefs::check::check(dev).expect("check");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn copies_have_content_and_attributes() {
    let fs = empty();
    for (name, len) in [("small", 10), ("large", 200_000)] {
        let content: Vec<u8> = (0..len).map(|i: u32| i as u8).collect();
        fs.write(name, &content).expect("write");
        fs.set_attr(name, 0x42, name).expect("set_attr");
        fs.write("copy", vec![9; 50_000]).expect("write");
        assert_eq!(fs.copy(name, "copy").expect("copy"), u64::from(len));
        assert_eq!(fs.read("copy").expect("read"), content);
        assert_eq!(fs.attrs("copy").expect("attrs"), [(0x42, name.as_bytes().to_vec())]);
        assert_eq!(fs.copy(name, format!("./{name}")).expect("onto itself"), u64::from(len));
        assert_eq!(fs.read(name).expect("read"), content);
    }
    fs.write("huge", vec![1; 400_000]).expect("write");
    assert!(matches!(fs.copy("huge", "no room"), Err(Error::NoSpace)));
    assert!(!fs.exists("no room").expect("exists"));
    fs.create_dir("d").expect("create_dir");
    assert!(matches!(fs.copy("d", "e"), Err(Error::IsDirectory)));
}

#[test]
fn attributes_are_set_by_path_and_by_open_file() {
    let fs = empty();
    fs.create_dir("d").expect("create_dir");
    fs.write("d/f", "x").expect("write");
    for path in ["/", "d", "d/f"] {
        assert!(matches!(fs.attr(path, 7), Err(Error::NoAttr)), "{path}");
        fs.set_attr(path, 9, b"nine").expect(path);
        fs.set_attr(path, 7, path).expect(path);
        assert_eq!(fs.attr(path, 7).expect(path), path.as_bytes());
        assert_eq!(
            fs.attrs(path).expect(path).iter().map(|(ty, _)| *ty).collect::<Vec<_>>(),
            [7, 9]
        );
        fs.remove_attr(path, 9).expect(path);
        assert!(matches!(fs.remove_attr(path, 9), Err(Error::NoAttr)), "{path}");
    }
    assert!(matches!(fs.set_attr("d", 1, vec![0; 1023]), Err(Error::AttrTooLarge)));
    let file = fs.open_file("d/f").expect("open_file");
    fs.rename("d/f", "g").expect("rename");
    file.set_attr(8, "eight").expect("set_attr");
    assert_eq!(fs.attr("g", 8).expect("attr"), b"eight");
    assert_eq!(file.attrs().expect("attrs").len(), 2);
    file.remove_attr(7).expect("remove_attr");
    assert!(matches!(file.attr(7), Err(Error::NoAttr)));
    fs.remove_file("g").expect("remove");
    assert!(matches!(file.attr(8), Err(Error::NotFound)));
    assert!(matches!(file.set_attr(8, ""), Err(Error::NotFound)));
    assert!(matches!(file.close(), Err(Error::NotFound)));
}

#[test]
fn metadata_is_kept_by_convention() {
    let dev = device();
    let fs = FormatOptions::new().convention(unix()).open_new(dev.clone()).expect("format");
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    let set = SetMetadata {
        modified: Some(at(1_000_000_000)),
        permissions: Some(0o4751),
        uid: Some(12),
        gid: Some(34),
        ..SetMetadata::default()
    };
    fs.write_with("f", "content", &set).expect("write_with");
    fs.symlink("f", "link").expect("symlink");
    fs.make_special("pipe", FileType::Fifo, "", &SetMetadata::default()).expect("make_special");
    assert!(matches!(fs.symlink("f", "link"), Err(Error::Exists)));
    let before = SystemTime::now() - Duration::from_secs(1);
    fs.create_dir("d").expect("create_dir");
    fs.close().expect("close");

    let fs = Littlefs::open_device(dev).expect("open");
    assert_eq!(fs.convention().map(|c| c.name), Some("unix"));
    let f = fs.metadata("f").expect("metadata");
    assert_eq!((f.modified(), f.accessed()), (Some(at(1_000_000_000)), Some(at(1_000_000_000))));
    assert_eq!((f.permissions(), f.uid(), f.gid()), (Some(0o4751), Some(12), Some(34)));
    assert!(f.is_file() && f.len() == 7);
    assert!(fs.metadata("link").expect("metadata").is_symlink());
    assert_eq!(fs.read_link("link").expect("read_link"), b"f");
    assert!(matches!(fs.read_link("f"), Err(Error::Invalid(_))));
    assert_eq!(fs.metadata("pipe").expect("metadata").file_type(), FileType::Fifo);
    let d = fs.metadata("d").expect("metadata");
    assert!(d.modified().expect("a time") > before && d.permissions() == Some(0o755));

    // A change sets the time of the last change; others stay.
    fs.write("f", "new").expect("write");
    let f = fs.metadata("f").expect("metadata");
    assert!(f.modified().expect("a time") > before && f.accessed() == Some(at(1_000_000_000)));
    assert_eq!((f.permissions(), f.uid()), (Some(0o4751), Some(12)));
    fs.set_metadata("d", &SetMetadata { uid: Some(7), ..set }).expect("set_metadata");
    let d = fs.metadata("d").expect("metadata");
    assert_eq!((d.modified(), d.uid()), (Some(at(1_000_000_000)), Some(7)));
    fs.write("d/new", "").expect("write");
    assert!(fs.metadata("d").expect("metadata").modified().expect("a time") > before);
    fs.set_metadata("/", &SetMetadata { gid: Some(5), ..SetMetadata::default() }).expect("root");
    assert_eq!(fs.metadata("/").expect("metadata").gid(), Some(5));
}

#[test]
fn without_a_convention_no_attribute_is_written() {
    let fs = empty();
    fs.write("f", "x").expect("write");
    fs.set_metadata("f", &SetMetadata { uid: Some(1), ..SetMetadata::default() }).expect("ignored");
    assert!(fs.attrs("f").expect("attrs").is_empty());
    assert!(matches!(fs.symlink("f", "link"), Err(Error::Invalid(_))));
}
