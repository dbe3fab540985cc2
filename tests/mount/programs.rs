//! Common programs, on the mount.

use std::fs;
use std::path::Path;

use testkit::mounted::{Mounted, noise, sh};

/// A tree of small and large files on the host.
fn source(m: &Mounted) -> std::path::PathBuf {
    let dir = m.beside("source");
    for d in 0..5 {
        let sub = dir.join(format!("dir{d}/sub"));
        fs::create_dir_all(&sub).expect("mkdir");
        for f in 0..20 {
            let len = (f * f * 97) as usize;
            fs::write(sub.join(format!("file {f}")), noise(len, d * 100 + f)).expect("write");
        }
    }
    fs::create_dir(dir.join("empty")).expect("mkdir");
    dir
}

/// Run a script in the mount, with a tree on the host as `$1`, and check the result before and
/// after a remount.
fn on_both(script: &str) {
    for options in ["rw", "writeback"] {
        let mut m = Mounted::with_options("16M", options);
        let source = source(&m);
        sh(&m.dir(), script, &[&source]);
        m.remount();
        m.finish();
    }
}

#[test]
fn cp_preserving() {
    on_both(r#"cp -a "$1" copy && diff -r "$1" copy && cp -a copy again && diff -r copy again"#);
}

#[test]
fn rsync_preserving() {
    on_both(
        r#"rsync -a "$1/" copy && diff -r "$1" copy
           echo changed > "copy/dir1/sub/file 3"
           rsync -a --checksum --delete "$1/" copy && diff -r "$1" copy
           test -z "$(rsync -ain "$1/" copy | grep -v '^\.[fd]...p' || true)"
           rsync -a copy/ "$1.back" && diff -r "$1" "$1.back""#,
    );
}

#[test]
fn tar_there_and_back() {
    on_both(
        r#"tar -C "$1" -cf archive.tar . && mkdir out && tar -C out -xf archive.tar
           diff -r "$1" out && tar -C out -df archive.tar 2>/dev/null || diff -r "$1" out"#,
    );
}

#[test]
fn git_commits_and_checks() {
    on_both(
        r#"export GIT_CONFIG_NOSYSTEM=1 HOME=/nonexistent
           git init -q repo && cd repo
           git config user.email a@b && git config user.name c
           cp -r "$1" files && git add . && git commit -qm one
           echo more >> 'files/dir0/sub/file 1' && git mv 'files/dir2' renamed
           git add -A && git commit -qm two
           git checkout -q HEAD~1 && diff -r "$1" files && git checkout -q -
           git gc -q && git fsck --strict && test -z "$(git status --porcelain)"
           git clone -q . ../clone && diff -r renamed ../clone/renamed"#,
    );
}

#[test]
fn sqlite_keeps_its_data() {
    for journal in ["delete", "truncate", "persist", "wal"] {
        on_both(&format!(
            r#"sqlite3 t.db "pragma journal_mode={journal}; create table t(a integer primary key, b text);" >/dev/null
               for i in 1 2 3 4 5; do
                   sqlite3 t.db "with recursive n(i) as (select 1 union all select i + 1 from n where i < 500)
                                 insert into t(b) select hex(randomblob(50)) from n;"
               done
               sqlite3 t.db "begin; delete from t where a % 2 = 0; rollback; update t set b = 'x' where a % 3 = 0; vacuum;"
               test "$(sqlite3 t.db 'pragma integrity_check; select count(*) from t;')" = "ok
2500""#
        ));
    }
}

#[test]
fn editors_save() {
    on_both(
        r#"printf 'one\ntwo\nthree\n' > f
           sed -i s/two/2/ f && test "$(cat f)" = "one
2
three"
           vim.tiny -u NONE -es -c '%s/three/3/' -c wq f
           test "$(tail -1 f)" = 3 && test "$(ls)" = f"#,
    );
}

#[test]
fn a_c_program_is_built_and_run() {
    on_both(
        r#"printf '#include <stdio.h>\n#include "say.h"\nint main(void) { puts(SAY); return 0; }\n' > main.c
           printf '#define SAY "hello"\n' > say.h
           printf 'hello: main.o\n\tcc -o hello main.o\nmain.o: main.c say.h\n\tcc -c main.c\n' > Makefile
           make -s && test "$(./hello)" = hello
           printf '#define SAY "bye"\n' > say.h && touch -d '+2 seconds' say.h
           make -s 2>/dev/null && test "$(./hello)" = bye"#,
    );
}

#[test]
fn find_counts_everything() {
    on_both(
        r#"cp -r "$1" t && test "$(find t | wc -l)" = "$(find "$1" | wc -l)"
           find t -type f -size +10k -delete && find t -depth -type d -empty -delete
           du -s t >/dev/null && ls -lR t >/dev/null && grep -rc . t >/dev/null"#,
    );
}

#[test]
fn dd_with_direct_and_synchronous_writes() {
    let m = Mounted::new("4M");
    let data = m.beside("data");
    fs::write(&data, noise(300_000, 1)).expect("write");
    let args: [&Path; 1] = [&data];
    sh(
        &m.dir(),
        r#"dd if="$1" of=a bs=4096 oflag=sync 2>/dev/null && cmp "$1" a
           dd if="$1" of=b bs=4096 oflag=dsync conv=fsync 2>/dev/null && cmp "$1" b
           dd if=a of=c bs=1000 conv=notrunc 2>/dev/null && cmp a c
           dd if=a iflag=direct bs=4096 2>/dev/null | cmp - "$1""#,
        &args,
    );
    m.finish();
}
