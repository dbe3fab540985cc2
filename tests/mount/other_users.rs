//! What other users put where the image, the journal or the mount point is expected, or change
//! there.
//!
//! The scripts run as root in their own mount namespace, like those of `users.rs`.

use std::fs;
use std::path::Path;

use crate::users::among_users;
use testkit::mounted::{as_root, c_tree};

/// `refused WORDS COMMAND...` checks that the command soon fails and prints these words.
const REFUSED: &str = r#"
    refused() {
        words=$1
        shift
        code=0
        timeout 20 "$@" >"$scratch/said" 2>&1 || code=$?
        if [ "$code" -eq 0 ] || [ "$code" -eq 124 ] || ! grep -q "$words" "$scratch/said"; then
            echo "exit $code: $*" >&2
            cat "$scratch/said" >&2
            exit 1
        fi
    }
"#;

fn script(rest: &str) -> String {
    format!("{REFUSED}{rest}")
}

#[test]
fn a_journal_that_somebody_else_can_have_written_is_refused() {
    let m = among_users(&script(
        r#"
        work=$scratch/own
        mkdir -m 777 "$work"
        # One that would change the image.
        $user "$littlefs" mount -q --journal "$work/good" "$image" "$mnt"
        $user sh -c 'echo evil >"$1/evil"' sh "$mnt"
        $user "$littlefs" umount "$mnt"
        $user "$littlefs" journal verify "$work/good"
        before=$(sha256sum <"$image")

        # plant HOW FILE
        plant() {
            rm -rf "$2"
            case $1 in
            link) ln -s "$work/good" "$2" ;;
            hardlink) cp -p "$work/good" "$work/twin"; ln "$work/twin" "$2" ;;
            writable) cp -p "$work/good" "$2"; chmod 666 "$2" ;;
            group) cp -p "$work/good" "$2"; chmod 664 "$2" ;;
            foreign) cp -p "$work/good" "$2"; chown 1:1 "$2" ;;
            fifo) mkfifo "$2"; chown 65534 "$2" ;;
            directory) mkdir -m 777 "$2" ;;
            device) mknod "$2" c 1 5; chown 65534 "$2" ;;
            empty) : >"$2"; chmod 666 "$2" ;;
            esac
        }
        for pair in 'link:symbolic link' 'hardlink:hard links' 'writable:other than its owner' \
            'group:other than its owner' 'foreign:belongs to user 1,' 'fifo:not a journal' \
            'directory:not a journal' 'device:not a journal' 'empty:other than its owner'; do
            how=${pair%%:*} j=$work/j
            plant "$how" "$j"
            plant "$how" "$image.run"
            for who in env "$user"; do
                words=${pair#*:}
                refused "$words" $who "$littlefs" mount --journal "$j" "$image" "$mnt"
                refused "$words" $who "$littlefs" mount -o "ro,journal=$j" "$image" "$mnt"
                refused "$words" $who "$littlefs" info --journal "$j" "$image"
                refused "$words" $who "$littlefs" check --repair --journal "$j" "$image"
                refused "$words" $who "$littlefs" kv --journal "$j" "$image" set a b
                refused "$words" $who "$littlefs" run --journal "$j" "$image" -- true
                refused "$words" $who "$littlefs" run "$image" -- true
                [ "$how" = empty ] && words='not a journal'
                refused "$words" $who "$littlefs" journal export --image "$image" --at 1 "$j" "$work/out"
                [ "$how" = empty ] && words='other than its owner'
                refused "$words" $who "$littlefs" journal commit "$j" "$image"
                [ "$how" = foreign ] && words="$words\\|[Pp]ermission denied"
                refused "$words" $who "$littlefs" journal squash --image "$image" "$j"
                refused "$words" $who "$littlefs" journal revert "$j"
            done
            [ "$(sha256sum <"$image")" = "$before" ] || { echo "$how: image changed" >&2; exit 1; }
            [ ! -e "$work/out" ]
        done
        rm -rf "$image.run"

        # Root's image, and a journal of the user's: it would do to the one what the other wants.
        chown 0:0 "$image"
        refused 'belongs to user 65534' "$littlefs" journal commit "$work/good" "$image"
        cp -p "$work/good" "$image.run"
        refused 'belongs to user 65534' "$littlefs" run "$image" -- true
        [ -e "$image.run" ]
        rm "$image.run"
        # And the right ones: root's own for the user's image, the user's for the user's.
        chown 65534:65534 "$image"
        cp "$work/good" "$work/own"
        "$littlefs" info --journal "$work/own" "$image" >"$scratch/said"
        "$littlefs" journal commit "$work/good" "$image"
        "#,
    ));
    assert!(c_tree(&m.image()).contains_key(&b"evil"[..]));
}

#[test]
fn new_files_belong_to_the_owner_of_the_image_and_are_as_private() {
    among_users(&script(
        r#"
        umask 022
        is() { # WANTED FILE...
            wanted=$1
            shift
            for file in "$@"; do
                [ "$(stat -c '%a %u:%g' "$file")" = "$wanted" ] || { stat "$file" >&2; exit 1; }
            done
        }
        work=$scratch/own
        mkdir -m 777 "$work"
        for pair in 600:600 640:640 644:644 666:644 444:644; do
            rm -f "$work"/*
            chmod "${pair%:*}" "$image"
            "$littlefs" mount -q --journal "$work/j" "$image" "$mnt"
            echo 'top secret' >"$mnt/s"
            "$littlefs" umount "$mnt"
            "$littlefs" journal export --at 1 "$work/j" "$work/out" >"$scratch/said"
            "$littlefs" journal squash "$work/j" >"$scratch/said"
            is "${pair#*:} 65534:65534" "$work/j"
            # nothing has to be written to an export
            [ "$pair" = 444:644 ] && pair=444:444
            is "${pair#*:} 65534:65534" "$work/out"
        done
        chmod 600 "$image"
        "$littlefs" run "$image" -- stat -c '%a %u:%g' "$image.run" >"$scratch/said"
        [ "$(cat "$scratch/said")" = '600 65534:65534' ]

        # A private journal does not become public by being squashed.
        chmod 644 "$image"
        chmod 600 "$work/j"
        "$littlefs" journal squash --image "$image" "$work/j" >"$scratch/said"
        is '600 65534:65534' "$work/j"
        # Who may not give files away keeps them, and lets nobody else in.
        rm -f "$work"/*
        chown 0:0 "$image"
        chmod 644 "$image"
        $user "$littlefs" mount -q --journal "$work/j" "$image" "$mnt"
        $user touch "$mnt/x"
        $user "$littlefs" umount "$mnt"
        $user "$littlefs" journal export --at 1 "$work/j" "$work/out" >"$scratch/said"
        is '644 65534:65534' "$work/j" "$work/out"
        chown 65534:65534 "$image"
        "#,
    ));
}

/// Files that wait for somebody at their other end, or that are not files, in place of a file.
#[test]
fn nothing_is_waited_for_that_is_no_file() {
    among_users(&script(
        r#"
        mkfifo -m 666 "$scratch/fifo"
        mknod -m 666 "$scratch/device" c 1 5
        python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' \
            "$scratch/socket"
        chmod 777 "$scratch/socket"
        chown 65534 "$scratch/fifo" "$scratch/device" "$scratch/socket"
        for what in fifo device socket; do
            bad=$scratch/$what
            ln -sfn "$bad" "$scratch/link"
            for who in env "$user"; do
                for image_ in "$bad" "$scratch/link"; do
                    refused 'neither a plain file' $who "$littlefs" info "$image_"
                    refused 'neither a plain file' $who "$littlefs" check -y "$image_"
                    refused 'neither a plain file' $who "$littlefs" mount "$image_" "$mnt"
                    refused 'neither a plain file' $who "$littlefs" run "$image_" -- true
                    refused 'neither a plain file' $who "$littlefs" kv "$image_" list
                    refused 'neither a plain file' $who "$littlefs" kv "$image_" set a b
                    refused 'neither a plain file' $who "$littlefs" mkfs --size 64K --force "$image_"
                    refused 'neither a plain file' $who "$littlefs" convert --from chamelon "$image_"
                done
                for action in log verify revert; do
                    refused 'not a journal' $who "$littlefs" journal $action "$bad"
                done
            done
            # A file that says what is logged: it is skipped, loudly.
            mkdir -p "$scratch/config/littlefs"
            rm -f "$scratch/config/littlefs/log"
            cp -a "$bad" "$scratch/config/littlefs/log"
            timeout 20 env "XDG_CONFIG_HOME=$scratch/config" \
                "$littlefs" mount -q "$image" "$mnt" 2>"$scratch/said"
            "$littlefs" umount "$mnt"
            grep -q 'log: is not a plain file' "$scratch/said"
        done
        "#,
    ));
}

/// Each file that is named is opened by its name once, and without waiting. What happens to the
/// name later does not matter.
#[test]
fn a_name_is_resolved_once() {
    among_users(&script(
        r#"
        trace() { strace -f -qq -e trace=open,openat,openat2 -o "$scratch/trace" "$@"; }
        once() { # FILE...
            for file in "$@"; do
                grep -E "\"([^\"]*/)?$file\", .*= [0-9]+" "$scratch/trace" >"$scratch/opens" || true
                if [ "$(wc -l <"$scratch/opens")" -ne 1 ] || ! grep -q O_NONBLOCK "$scratch/opens"; then
                    echo "$file in:" >&2
                    cat "$scratch/opens" >&2
                    exit 1
                fi
            done
        }
        cd "$scratch"
        for who in env "$user"; do
            rm -f j
            for journal in '' j; do
                $who "$littlefs" mount -q --journal "$scratch/j" "$image" "$mnt"
                $who touch "$mnt/by-${who%% *}$journal"
                $who "$littlefs" umount "$mnt"
            done
            for command in 'info --journal j image' 'check --repair --journal j image' \
                'journal export --force --at 1 j out' 'journal squash j' 'journal commit j image'; do
                trace $who "$littlefs" $command >"$scratch/said"
                once image j
            done
            for command in 'info image' 'check --repair image' 'kv image set a b' 'kv image list'; do
                trace $who "$littlefs" $command >"$scratch/said"
                once image
            done
            trace $who "$littlefs" mount -f image mnt >"$scratch/said" 2>&1 &
            # not mountpoint(1): root may not look into the mount of the user
            until findmnt "$mnt" >"$scratch/said"; do sleep 0.01; done
            # while it starts, the program itself still uses the mount
            until $who "$littlefs" umount "$mnt" 2>"$scratch/said"; do
                grep -q busy "$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
                sleep 0.01
            done
            wait
            once image
        done
        # With a journal that is made, and one that is there.
        rm -f k
        trace "$littlefs" run image -- touch made
        once image
        for round in 1 2; do
            trace "$littlefs" run --journal k image -- touch again
        done
        once image k
        "#,
    ));
}

/// The owner of the parent directory puts another directory in its place while fusermount3 starts.
#[test]
fn a_mount_point_is_the_directory_that_was_there() {
    let m = among_users(&script(
        r#"
        mkdir "$scratch/victim"
        chown 65534 "$scratch/victim"
        cat >"$scratch/slow" <<END
#!/bin/sh
mv "$mnt" "$mnt.moved"
ln -s "$scratch/victim" "$mnt"
exec fusermount3 "\$@"
END
        chmod 755 "$scratch/slow"
        $user env "FUSERMOUNT_PATH=$scratch/slow" "$littlefs" mount "$image" "$mnt"
        findmnt -no FSTYPE "$mnt.moved" | grep -q '^fuse.littlefs$'
        ! findmnt "$scratch/victim"
        $user touch "$mnt.moved/here"
        [ -z "$(ls "$scratch/victim")" ]
        $user "$littlefs" umount "$mnt.moved"
        rm "$mnt"
        mv "$mnt.moved" "$mnt"
        "#,
    ));
    assert!(c_tree(&m.image()).contains_key(&b"here"[..]));
}

/// Names that are not text, and names that would control a terminal or forge a line of the log.
#[test]
fn any_name_works_and_harms_nobody() {
    let m = among_users(&script(
        r#"
        odd=$(printf 'a\377\033[31m\nlittlefs: warning: b')
        dir=$scratch/own/d$odd file=$scratch/own/i$odd journal=$scratch/own/j$odd
        mkdir -p "$dir"
        cp "$image" "$file"
        chown -R 65534:65534 "$scratch/own"
        shown='a\\xff\\u{1b}\[31m\\nlittlefs: warning: b'
        clean() { # FILE: no control characters but line ends, and no line that was forged
            ! grep -q -P '[\x00-\x09\x0b-\x1f\x7f]' "$1" && ! grep -q '^littlefs: warning: b' "$1" ||
                { cat -v "$1" >&2; exit 1; }
        }
        for who in env "$user"; do
            $who "$littlefs" mount --journal "$journal" "$file" "$dir" >"$scratch/out" 2>&1
            clean "$scratch/out"
            grep -q "i$shown on .*d$shown.*journal=.*j$shown" "$scratch/out"
            for target in "$dir" "$file" ''; do
                # Among all mounts may be others, which do not answer.
                $who "$littlefs" status ${target:+"$target"} >"$scratch/out" 2>&1 || [ -z "$target" ]
                clean "$scratch/out"
                grep -q "i$shown" "$scratch/out"
                $who "$littlefs" status --json ${target:+"$target"} >"$scratch/json" ||
                    [ -z "$target" ]
                python3 - "$scratch/json" "$file" "$dir" "$journal" <<'END'
import base64, json, os, sys
found = json.load(open(sys.argv[1]))
if isinstance(found, list):
    found = next(mount for mount in found if "image_base64" in mount)
for name, path in zip(("image", "mountpoint", "journal"), sys.argv[2:]):
    path = os.path.normpath(os.fsencode(path))
    assert base64.b64decode(found[name + "_base64"]) == path, (name, found)
    assert found[name] == path.decode(errors="replace"), (name, found)
END
            done
            $who "$littlefs" umount "$dir"
            $who "$littlefs" journal log "$journal" >"$scratch/out" 2>&1
            clean "$scratch/out"
            $who "$littlefs" check --journal "$journal" "$file" >"$scratch/out" 2>&1
            clean "$scratch/out"
            rm "$journal"
            # messages on standard error
            ! $who "$littlefs" info "$file.none" >"$scratch/out" 2>&1
            clean "$scratch/out"
            grep -q "i$shown.none: no such file" "$scratch/out"
            ! $who "$littlefs" "$odd" >"$scratch/out" 2>&1
            ! grep -q -P '[\x00-\x09\x0b-\x1f\x7f]' "$scratch/out"
        done
        # who uses the image: a process of any name
        cp "$(command -v flock)" "$scratch/s$odd"
        "$scratch/s$odd" -o "$file" sleep 3 & holder=$!
        while flock -n "$file" true; do sleep 0.01; done
        ! "$littlefs" kv "$file" set a b >"$scratch/out" 2>&1
        clean "$scratch/out"
        grep -q 'in use by process [0-9]* (sa' "$scratch/out"
        kill $holder
        "#,
    ));
    assert!(fs::exists(m.beside("own")).expect("readable"));
}

/// The functions of scripts/install.sh that create and remove the links for mount(8) and similar
/// programs.
#[test]
fn installing_keeps_the_helpers_of_other_packages() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let script = r#"
        scratch=$1
        mount -t tmpfs none "$scratch"
        mkdir "$scratch/sbin" "$scratch/sbin-work" "$scratch/dpkg" "$scratch/dpkg-work"
        for pair in /usr/sbin:sbin /var/lib/dpkg:dpkg; do
            over=$scratch/${pair#*:}
            mount -t overlay -o "lowerdir=${pair%:*},upperdir=$over,workdir=$over-work" none "${pair%:*}"
        done
        sed -n '/^# A helper of the same name/,/^put() {/p' "$2" | sed '$d' >"$scratch/functions"
        . "$scratch/functions"
        dest= sbin=/usr/sbin prefix=/usr/local
        rm -f /usr/sbin/umount.fuse
        echo theirs >/usr/sbin/umount.fuse
        for round in 1 2; do
            put_link umount.fuse >"$scratch/said"
            put_link mount.littlefs
            [ "$(readlink /usr/sbin/umount.fuse)" = /usr/local/bin/littlefs ]
            [ "$(readlink /usr/sbin/mount.littlefs)" = /usr/local/bin/littlefs ]
            [ "$(cat /usr/sbin/umount.fuse.distrib)" = theirs ]
            [ "$round" = 2 ] || grep -q 'umount.fuse.distrib until' "$scratch/said"
        done
        remove_link umount.fuse
        remove_link mount.littlefs
        [ "$(cat /usr/sbin/umount.fuse)" = theirs ]
        [ ! -e /usr/sbin/umount.fuse.distrib ] && [ ! -e /usr/sbin/mount.littlefs ]
        [ -z "$(dpkg-divert --list '*/umount.fuse')" ]

        # In a directory that becomes a package, or without dpkg, theirs stays.
        dest=$scratch/root
        mkdir -p "$dest/usr/sbin"
        echo theirs >"$dest/usr/sbin/umount.fuse"
        put_link umount.fuse 2>"$scratch/said"
        grep -q 'left as it is' "$scratch/said"
        remove_link umount.fuse
        [ "$(cat "$dest/usr/sbin/umount.fuse")" = theirs ]
        "#;
    fs::write(scratch.path().join("script"), format!("set -eu\n{script}")).expect("write");
    let install = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh"));
    let args: [&Path; 3] = [&scratch.path().join("script"), scratch.path(), install];
    as_root(r#"unshare --mount --propagation private bash "$@""#, &args);
}
