//! Open files.

use std::io::{Read, Seek, SeekFrom, Write};
use std::thread;

use littlefs::{Error, FileOptions, FormatOptions, Littlefs};

use super::{device, empty, unix};

#[test]
fn a_file_reads_writes_and_seeks() {
    let fs = empty();
    let mut file =
        FileOptions::new().read(true).write(true).create_new(true).open(&fs, "f").expect("open");
    file.write_all(b"0123456789").expect("write");
    assert_eq!(file.seek(SeekFrom::Start(3)).expect("seek"), 3);
    file.write_all(b"abc").expect("write");
    assert_eq!(file.seek(SeekFrom::Current(-4)).expect("seek"), 2);
    let mut rest = String::new();
    file.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, "2abc6789");
    assert_eq!(file.seek(SeekFrom::End(5)).expect("seek"), 15);
    file.write_all(b"!").expect("write");
    assert_eq!(fs.read("f").expect("read"), b"012abc6789\0\0\0\0\0!");
    assert!(file.seek(SeekFrom::Current(-17)).is_err());
    file.set_len(3).expect("set_len");
    let mut buf = [0; 8];
    assert_eq!(file.read_at(&mut buf, 1).expect("read_at"), 2);
    assert_eq!((&buf[..2], file.len()), (&b"12"[..], 3));
    assert_eq!(file.read_at(&mut buf, u64::MAX).expect("read_at"), 0);
    file.close().expect("close");
}

#[test]
fn options_allow_what_they_say() {
    let fs = empty();
    let open = |options: FileOptions| options.open(&fs, "f");
    assert!(matches!(open(FileOptions::new()).err(), Some(Error::Invalid(_))));
    assert!(matches!(
        open(FileOptions::new().read(true).create(true)).err(),
        Some(Error::Invalid(_))
    ));
    assert!(matches!(open(FileOptions::new().write(true)).err(), Some(Error::NotFound)));
    let append = FileOptions::new().append(true).create(true);
    for _ in 0..2 {
        open(append).expect("append").write_at(b"ab", 1000).expect("the offset does not count");
    }
    assert_eq!(fs.read("f").expect("read"), b"abab");
    assert!(matches!(open(append.create_new(true)).err(), Some(Error::Exists)));
    let reader = open(FileOptions::new().read(true)).expect("read");
    assert!(matches!(reader.write_at(b"x", 0), Err(Error::Invalid(_))));
    let writer = open(FileOptions::new().write(true)).expect("write");
    assert!(matches!(writer.read_at(&mut [0], 0), Err(Error::Invalid(_))));
    assert_eq!(writer.len(), 4);
    assert!(open(FileOptions::new().write(true).truncate(true)).expect("truncate").is_empty());
    assert!(writer.is_empty(), "handles of one file see each other's changes");
    fs.create_dir("d").expect("create_dir");
    assert!(matches!(fs.open_file("d").err(), Some(Error::IsDirectory)));
    assert!(matches!(fs.open_file("/").err(), Some(Error::IsDirectory)));
}

#[test]
fn a_file_follows_its_name_and_outlives_it() {
    let fs = empty();
    for content in [vec![1; 10], vec![2; 100_000]] {
        fs.write("f", &content).expect("write");
        let file = fs.open_file("f").expect("open");
        fs.create_dir_all("a/b").expect("create_dir_all");
        fs.rename("f", "a/b/g").expect("rename");
        fs.rename("a", "c").expect("rename");
        assert_eq!(file.path().as_deref(), Some(&b"c/b/g"[..]));
        fs.write("f", "another").expect("write");
        let mut read = vec![0; content.len() + 1];
        assert_eq!(file.read_at(&mut read, 0).expect("read"), content.len());
        fs.remove_dir_all("c").expect("remove");
        assert!(!file.is_linked() && file.path().is_none());
        assert!(matches!(file.metadata(), Err(Error::NotFound)));
        fs.flush().expect("flush");
        assert_eq!(file.read_at(&mut read, 0).expect("read"), content.len());
        assert_eq!(read[..content.len()], content);
    }
}

#[test]
fn writing_a_value_leaves_open_files_what_they_were() {
    let fs = empty();
    fs.write("f", "old").expect("write");
    let file = fs.open_file("f").expect("open");
    fs.write("f", "new").expect("write");
    let mut buf = [0; 3];
    file.read_at(&mut buf, 0).expect("read");
    assert_eq!((&buf, file.is_linked()), (b"old", false));
}

#[test]
fn close_reports_the_last_error() {
    let fs = FormatOptions::new().file_max(1000).open_new(device()).expect("format");
    let file = fs.create_file("f").expect("create");
    file.write_at(b"x", 999).expect("write");
    assert!(matches!(file.write_at(b"x", 1000), Err(Error::FileTooLarge)));
    file.write_at(b"y", 0).expect("write");
    assert!(matches!(file.close(), Err(Error::FileTooLarge)));
    let mut file = fs.create_file("g").expect("create");
    let e = file.write_all(&[0; 1001]).expect_err("too large");
    assert_eq!(e.kind(), std::io::ErrorKind::FileTooLarge);
    assert!(e.get_ref().is_some_and(|e| e.is::<Error>()), "the cause is in it");
    drop(file);
    fs.create_file("h").expect("create").close().expect("nothing failed");
}

#[test]
fn what_is_not_flushed_is_dropped() {
    let dev = device();
    let fs = FormatOptions::new().open_new(dev.clone()).expect("format");
    fs.write("a", "1").expect("write");
    assert!(fs.unwritten().pairs > 0 && fs.flushes().done == 0);
    fs.flush().expect("flush");
    assert_eq!((fs.unwritten().pairs, fs.flushes().done), (0, 1));
    fs.write("b", "2").expect("write");
    drop(fs);
    let fs = Littlefs::open_device(dev).expect("open");
    assert!(fs.exists("a").expect("a") && !fs.exists("b").expect("b"));
}

#[test]
fn a_write_sets_the_time_of_the_last_change() {
    let dev = device();
    let fs = FormatOptions::new().convention(unix()).open_new(dev).expect("format");
    fs.write("f", "x").expect("write");
    let before = fs.metadata("f").expect("metadata").modified().expect("a time");
    thread::sleep(std::time::Duration::from_millis(2));
    let file = FileOptions::new().write(true).open(&fs, "f").expect("open");
    file.write_at(b"y", 0).expect("write");
    assert!(file.metadata().expect("metadata").modified().expect("a time") > before);
}

#[test]
fn several_threads_share_a_filesystem() {
    let fs = empty();
    thread::scope(|scope| {
        for t in 0..4u8 {
            let fs = fs.clone();
            scope.spawn(move || {
                for i in 0..50 {
                    let path = format!("{t}-{i}");
                    fs.write(&path, vec![t; i * 100]).expect("write");
                    assert_eq!(fs.read(&path).expect("read"), vec![t; i * 100]);
                    if i % 16 == 0 {
                        fs.flush().expect("flush");
                    }
                    if i % 2 == 0 {
                        fs.remove_file(&path).expect("remove");
                    }
                }
            });
        }
    });
    assert_eq!(fs.read_dir("/").expect("read_dir").count(), 4 * 25);
}
