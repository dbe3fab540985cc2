//! Permission bits if the image stores none: they come from the options of the mount, and what
//! chmod(2) sets lasts until the end of the mount.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::operations::drop_caches;
use testkit::mounted::{Mounted, as_root, littlefs, output, run, sh};

/// The permission bits of an entry in the mount.
fn mode(m: &Mounted, name: &str) -> u32 {
    fs::metadata(m.path(name)).expect("stat").mode() & 0o7777
}

fn chmod(m: &Mounted, name: &str, mode: u32) {
    fs::set_permissions(m.path(name), Permissions::from_mode(mode)).expect("chmod");
}

/// Mount with a shell whose umask is `umask`.
fn mount(m: &mut Mounted, umask: &str, options: &str) {
    let script = format!("umask {umask}; \"$1\" mount -q -o {options} \"$2\" \"$3\"");
    let program = littlefs().get_program().to_owned();
    sh(&m.beside(""), &script, &[program.as_ref(), &m.image(), &m.dir()]);
    m.adopt(options);
}

/// An image with a file `f`, a directory `d` and a program `program`. It is not mounted.
fn image() -> Mounted {
    let mut m = Mounted::new("1M");
    sh(&m.dir(), "echo x > f; mkdir d; printf '#!/bin/sh\\nexit 3\\n' > program", &[]);
    m.unmount();
    m
}

#[test]
fn without_masks_files_cannot_be_run_and_the_umask_counts() {
    let mut m = image();
    for (umask, options, file, dir) in [
        ("022", "rw", 0o644, 0o755),
        ("077", "rw", 0o600, 0o700),
        ("0", "rw", 0o666, 0o777),
        ("027", "fmask=0133", 0o644, 0o750),
        ("027", "dmask=0022", 0o640, 0o755),
        ("077", "umask=022", 0o755, 0o755),
        ("077", "umask=0,fmask=0111", 0o666, 0o777),
        ("077", "attrs=micropython", 0o600, 0o700),
        ("022", "attrs=unix", 0o644, 0o755),
    ] {
        mount(&mut m, umask, options);
        let found = ["f", "program", "d", "."].map(|name| mode(&m, name));
        assert_eq!(found, [file, file, dir, dir], "umask {umask}, -o {options}");
        let ended = Command::new(m.path("program")).status();
        match ended {
            Ok(status) => assert!(file & 0o111 != 0 && status.code() == Some(3), "-o {options}"),
            Err(e) => {
                assert!(file & 0o111 == 0, "-o {options}: {e}");
                assert_eq!(e.raw_os_error(), Some(libc::EACCES), "-o {options}");
            }
        }
        m.unmount();
    }
    m.mount("rw");
    m.finish();
}

#[test]
fn chmod_and_modes_of_new_files_hold_until_the_end_of_the_mount() {
    let mut m = image();
    mount(&mut m, "022", "rw");
    chmod(&m, "program", 0o700);
    chmod(&m, "d", 0o511);
    chmod(&m, ".", 0o750);
    let make = "umask 022; touch d/plain; mkdir -m 710 d/dir; cp /bin/true d/true; d/true
        umask 077; echo secret > d/secret; install -m 555 f d/installed";
    sh(&m.dir(), make, &[]);
    let expected = [
        ("program", 0o700),
        ("d", 0o511),
        (".", 0o750),
        ("d/plain", 0o644),
        ("d/dir", 0o710),
        ("d/true", 0o755),
        ("d/secret", 0o600),
        ("d/installed", 0o555),
    ];
    for when in ["at once", "when the kernel has forgotten them"] {
        for (name, bits) in expected {
            assert_eq!(mode(&m, name), bits, "{name}, {when}");
        }
        drop_caches(&m.dir());
    }
    // Along with the file, and not with its name.
    fs::rename(m.path("program"), m.path("d/moved")).expect("rename");
    fs::write(m.path("program"), b"another").expect("write");
    assert_eq!((mode(&m, "d/moved"), mode(&m, "program")), (0o700, 0o644));
    m.unmount();
    mount(&mut m, "022", "rw");
    for name in ["d/moved", "d/true", "d/secret", "d/installed"] {
        assert_eq!(mode(&m, name), 0o644, "{name} is not stored");
    }
    assert_eq!(["d", "d/dir", "."].map(|name| mode(&m, name)), [0o755; 3]);
    m.finish();
}

#[test]
fn masks_hold_for_everything_as_on_vfat() {
    let mut m = image();
    mount(&mut m, "022", "fmask=0117,dmask=0007");
    sh(&m.dir(), "umask 077; echo new > new; mkdir e; cp /bin/true true", &[]);
    let found = ["f", "new", "true", "d", "e"].map(|name| mode(&m, name));
    assert_eq!(found, [0o660, 0o660, 0o660, 0o770, 0o770]);
    for (name, asked, bits) in
        [("f", 0o777, 0o660), ("f", 0o604, 0o600), ("d", 0o777, 0o770), ("d", 0o555, 0o550)]
    {
        chmod(&m, name, asked);
        assert_eq!(mode(&m, name), bits, "chmod {asked:o} {name}");
    }
    m.finish();
}

/// Set-id bits would only be in memory, and must not give anybody rights.
#[test]
fn set_id_and_sticky_bits_are_refused() {
    let m = Mounted::new("1M");
    fs::write(m.path("f"), b"x").expect("write");
    for bits in [0o4755, 0o2755, 0o1755] {
        let e = fs::set_permissions(m.path("f"), Permissions::from_mode(bits)).expect_err("chmod");
        assert_eq!(e.raw_os_error(), Some(libc::EPERM), "{bits:o}");
    }
    sh(&m.dir(), "umask 022; mkdir -m 755 d; test $(stat -c %a f) = 644", &[]);
    m.finish();
}

/// The kernel decides, as it does when other users have access.
#[test]
fn what_chmod_takes_away_is_denied() {
    let m = Mounted::with_options("1M", "allow_other,uid=1,gid=1,dmask=0");
    as_root(
        r#"cd "$1"
           as() { setpriv --reuid "$1" --regid "$1" --clear-groups sh -c "$2"; }
           as 1 'umask 022; echo own > f; mkdir d; chmod 700 d'
           as 2 'cat f' >/dev/null
           as 1 'chmod 600 f; mv f g; cat g' >/dev/null
           ! as 2 'cat g' 2>/dev/null
           ! as 2 'chmod 666 g' 2>/dev/null
           ! as 2 'ls d' 2>/dev/null
           as 1 'chmod 444 g; rm -f ./-; ! echo more 2>/dev/null >> g'
           test "$(cat g)" = own"#,
        &[&m.dir()],
    );
    m.finish();
}

#[test]
fn programs_in_an_image_can_be_run_by_littlefs_run() {
    let m = image();
    let run_in = |options: &[&str], script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 027; exec \"$@\"", "sh"]).arg(littlefs().get_program());
        command.arg("run").args(options).arg(m.image()).args(["--", "sh", "-c", script]);
        command
    };
    let all = "./program; test $? = 3; echo $(stat -c %a program f d .)";
    assert_eq!(run(&mut run_in(&[], all)), "750 750 750 750\n");
    let asked = "echo $(stat -c %a program f d .)";
    assert_eq!(run(&mut run_in(&["-o", "fmask=0133"], asked)), "644 644 750 750\n");
    let denied = output(&mut run_in(&["-o", "fmask=0133"], "./program"));
    assert_eq!(denied.status.code(), Some(126));
}
