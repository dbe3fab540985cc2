//! Times, which are kept in memory while the image is mounted.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use crate::operations::drop_caches;
use testkit::mounted::{Mounted, sh};

fn mtime(m: &Mounted, name: &str) -> SystemTime {
    fs::metadata(m.path(name)).expect("stat").modified().expect("mtime")
}

#[test]
fn an_untouched_file_shows_the_time_of_the_image() {
    let mut m = Mounted::new("1M");
    fs::write(m.path("f"), b"x").expect("write");
    m.unmount();
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let image = File::options().write(true).open(m.image()).expect("open");
    image.set_modified(then).expect("utimens");
    drop(image);
    m.mount("rw");
    assert_eq!((mtime(&m, "f"), mtime(&m, ".")), (then, then));
    m.finish();
}

#[test]
fn times_that_were_set_stay_when_the_kernel_forgets_the_file() {
    let m = Mounted::new("1M");
    fs::create_dir(m.path("d")).expect("mkdir");
    fs::write(m.path("d/f"), b"x").expect("write");
    let then = SystemTime::UNIX_EPOCH + Duration::new(4_000_000_000, 5);
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1000);
    File::open(m.path("d")).expect("open").set_modified(then).expect("utimens");
    let f = File::open(m.path("d/f")).expect("open");
    f.set_times(fs::FileTimes::new().set_modified(then).set_accessed(before)).expect("utimens");
    drop(f);
    drop_caches(&m.dir());
    assert_eq!((mtime(&m, "d"), mtime(&m, "d/f")), (then, then));
    assert_eq!(fs::metadata(m.path("d/f")).expect("stat").accessed().expect("atime"), before);
    m.finish();
}

#[test]
fn changes_show_in_the_times() {
    let m = Mounted::new("1M");
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    fs::create_dir_all(m.path("d/sub")).expect("mkdir");
    fs::create_dir(m.path("e")).expect("mkdir");
    let age = |name: &str| {
        File::open(m.path(name)).expect("open").set_modified(past).expect("utimens");
    };
    let changed = |what: &str, names: &[&str], change: &dyn Fn()| {
        for name in names {
            age(name);
        }
        change();
        for name in names {
            assert!(mtime(&m, name) > past, "{what}: mtime of {name}");
        }
    };
    changed("create", &["d"], &|| fs::write(m.path("d/f"), b"x").expect("write"));
    changed("write", &["d/f"], &|| fs::write(m.path("d/f"), b"yy").expect("write"));
    changed("truncate", &["d/f"], &|| {
        File::options()
            .write(true)
            .open(m.path("d/f"))
            .expect("open")
            .set_len(1)
            .expect("truncate");
    });
    changed("rename", &["d", "e"], &|| {
        fs::rename(m.path("d/f"), m.path("e/f")).expect("rename");
    });
    changed("unlink", &["e"], &|| fs::remove_file(m.path("e/f")).expect("unlink"));
    changed("rmdir", &["d"], &|| fs::remove_dir(m.path("d/sub")).expect("rmdir"));
    age("d");
    fs::write(m.path("e/g"), b"").expect("write");
    assert_eq!(mtime(&m, "d"), past, "nothing happened in d");
    let ctime = fs::metadata(m.path("d")).expect("stat").ctime();
    assert!(ctime > 1_000_000, "setting a time is a change of the inode");
    m.finish();
}

#[test]
fn make_rebuilds_what_changed_and_nothing_else() {
    let m = Mounted::new("4M");
    sh(
        &m.dir(),
        r#"printf 'all: b c\nb: a\n\tcp a b; echo b >> log\nc: b\n\tcp b c; echo c >> log\n' > Makefile
           echo 1 > a
           make -s && make -s
           test "$(cat log)" = "b
c"
           touch -d '+2 seconds' a
           make -s 2>/dev/null
           test "$(wc -l < log)" = 4"#,
        &[],
    );
    m.finish();
}
