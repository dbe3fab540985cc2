//! The end of a mount: it comes at once if there is nothing to wait for, and never waits without
//! bound, whatever the daemon, the path of the image or the mount table are.

use crate::system_programs::at_home;
use crate::users::among_users;
use testkit::mounted::c_tree;

/// `soon COMMAND` checks that the command ends before long. `daemon` is the process that serves
/// `$mnt`.
const HELPERS: &str = r#"
    soon() { timeout 20 "$@"; }
    daemon() { "$littlefs" status --json "$mnt" | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p'; }
    gone() { if mountpoint -q "$1"; then echo "$1 is still mounted" >&2; exit 1; fi; }
    # The daemon is over when nobody holds the image.
    over() { flock --wait 30 "$image" true; }
"#;

fn ending(script: &str) {
    at_home(&format!("{HELPERS}{script}"));
}

#[test]
fn what_is_mounted_elsewhere_is_not_waited_for() {
    ending(
        r#"
        mkdir "$scratch/bound"
        mount -t littlefs "$image" "$mnt"
        mkdir "$mnt/dir"
        touch "$mnt/file" "$scratch/file"
        mount --bind "$mnt/dir" "$scratch/bound"
        mount --bind "$mnt/file" "$scratch/file"
        soon umount "$scratch/bound"
        soon umount "$scratch/file"
        gone "$scratch/bound"
        [ -d "$mnt/dir" ]
        # In a mount namespace of its own, as in a container or with PrivateMounts=.
        unshare --mount --propagation private timeout 20 umount "$mnt"
        [ -d "$mnt/dir" ]

        # The bind mount stays, and is what is waited for in the end.
        mount --bind "$mnt/dir" "$scratch/bound"
        soon umount "$mnt"
        gone "$mnt"
        echo x >"$scratch/bound/late"
        soon umount "$scratch/bound"
        flock --nonblock "$image" true

        # It lives on in a namespace that is neither ours nor the daemon's.
        mount -t littlefs "$image" "$mnt"
        [ -f "$mnt/dir/late" ]
        unshare --mount --propagation private sleep 600 &
        there=$!
        until [ "$(readlink /proc/$there/ns/mnt)" != "$(readlink /proc/$$/ns/mnt)" ]; do sleep 0.01; done
        soon umount "$mnt" 2>"$scratch/said"
        gone "$mnt"
        grep -q 'still mounted in another mount namespace' "$scratch/said"
        kill $there
        over

        # Where the daemon cannot be seen, that is said.
        mount -t littlefs "$image" "$mnt"
        unshare --mount --pid --fork --mount-proc --propagation private \
            timeout 20 umount "$mnt" 2>"$scratch/said"
        grep -q 'cannot be seen from here' "$scratch/said"
        [ -z "$(soon umount "$mnt" 2>&1)" ]
        flock --nonblock "$image" true
        "#,
    );
}

#[test]
fn a_daemon_that_hangs_is_named_and_can_be_left_behind() {
    ending(
        r#"
        "$littlefs" mount -q "$image" "$mnt"
        pid=$(daemon)
        kill -STOP "$pid"
        status=0
        soon "$littlefs" umount --timeout 1 "$mnt" 2>"$scratch/said" || status=$?
        [ "$status" = 32 ]
        grep -q "not unmounted: process $pid (littlefs), which is stopped, has made no progress for a second" \
            "$scratch/said"
        mountpoint -q "$mnt"
        # Nothing of the question is left: the mount goes on, and is not in use.
        kill -CONT "$pid"
        [ "$(daemon)" = "$pid" ]
        soon umount "$mnt"
        flock --nonblock "$image" true

        for flags in -l -f '-f -l'; do
            "$littlefs" mount -q "$image" "$mnt"
            echo "$flags" >"$mnt/flags"
            pid=$(daemon)
            kill -STOP "$pid"
            soon umount $flags "$mnt" 2>"$scratch/said"
            gone "$mnt"
            kill -CONT "$pid"
            over
        done
        "$littlefs" mount -q "$image" "$mnt"
        # A daemon in its last flush is over with that: nothing was given up but the wait.
        [ "$(cat "$mnt/flags")" = '-f -l' ]
        # In use, it goes by -l only.
        exec 3<"$mnt/flags"
        refused 'busy' soon umount -f "$mnt"
        exec 3<&-
        soon umount "$mnt"
        "#,
    );
}

/// The source in the mount table is an ordinary path, which may refer to something else at the time
/// of the unmount.
#[test]
fn nothing_is_expected_of_the_path_of_the_image() {
    ending(
        r#"
        for kind in fifo gone link queue; do
            mount -t littlefs "$image" "$mnt"
            echo "$kind" >"$mnt/$kind"
            mv "$image" "$scratch/moved"
            queue=
            case $kind in
            fifo) mkfifo "$image" ;;
            gone) ;;
            link) ln -s /dev/zero "$image" ;;
            queue)
                ln "$scratch/moved" "$image"
                flock "$image" sleep 600 &
                queue=$!
                until grep -q -- "-> FLOCK .*:$(stat -c %i "$image") " /proc/locks; do sleep 0.01; done
                ;;
            esac
            soon umount "$mnt"
            gone "$mnt"
            if [ "$queue" ]; then
                # It has the lock now.
                until ps -o comm= --ppid "$queue" | grep -q sleep; do sleep 0.01; done
                pkill -P "$queue"
                wait "$queue" || true
            fi
            rm -f "$image"
            mv "$scratch/moved" "$image"
            flock --nonblock "$image" true
            "$littlefs" mount -q -o ro "$image" "$mnt"
            [ "$(cat "$mnt/$kind")" = "$kind" ]
            "$littlefs" umount "$mnt"
        done
        "#,
    );
}

#[test]
fn a_mount_whose_daemon_was_killed_is_unmounted_by_all_means() {
    ending(
        r#"
        for list in true false; do
            for way in 'littlefs umount' 'littlefs umount --lazy' 'littlefs umount --quiet --lazy' \
                'littlefs umount -f' umount 'umount -l' 'umount -f' "mount"; do
                "$littlefs" mount -q "$image" "$mnt"
                touch "$mnt/f"
                sync "$mnt/f"
                # The kernel opens directories without asking, once it was told that it may.
                if $list; then ls "$mnt" >"$scratch/said"; fi
                pid=$(daemon)
                kill -KILL "$pid"
                until refused_quietly stat -f "$mnt"; do sleep 0.01; done
                over
                if [ "$way" = mount ]; then
                    soon "$littlefs" mount -q "$image" "$mnt" 2>"$scratch/said"
                    [ -f "$mnt/f" ]
                    way="littlefs umount"
                fi
                soon $way "$mnt" 2>"$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
                gone "$mnt"
            done
        done
        "#
        .replace("refused_quietly stat -f \"$mnt\"", "! stat -f \"$mnt\" >\"$scratch/said\" 2>&1")
        .as_str(),
    );
}

/// Any user can make a mount that names somebody else's image as its source.
const SPOOF: &str = r#"
import os, socket, subprocess, sys, time
source, mnt, opened = sys.argv[1:]
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
ours, theirs = socket.socketpair()
env = dict(os.environ, _FUSE_COMMFD=str(theirs.fileno()))
options = f"fsname={source},subtype=littlefs"
subprocess.run(["fusermount3", "-o", options, "--", mnt], env=env,
               pass_fds=[theirs.fileno()], check=True)
device = ours.recvmsg(1, socket.CMSG_SPACE(4))
files = [open(path) for path in [opened] if path]
print("mounted", flush=True)
time.sleep(600)
"#;

#[test]
fn a_mount_that_claims_an_image_is_not_taken_for_its_mount() {
    let script = r#"
        chmod 644 "$image"
        printf '%s' "$SPOOF" >"$scratch/spoof.py"
        spoof() {
            $user mkdir -p "$scratch/fake"
            : >"$scratch/spoof.out"
            python3 "$scratch/spoof.py" "$image" "$scratch/fake" "$1" >"$scratch/spoof.out" 2>&1 &
            spoof=$!
            until grep -q mounted "$scratch/spoof.out"; do
                kill -0 $spoof
                sleep 0.01
            done
        }
        spoof=
        trap 'kill $spoof; umount -l "$mnt" "$scratch/fake" 2>/dev/null || true' EXIT
        "$littlefs" mount -q "$image" "$mnt"
        echo x >"$mnt/f"
        spoof ""
        timeout 20 "$littlefs" umount "$image"
        if mountpoint -q "$mnt"; then exit 1; fi
        # Which root may not look into.
        grep -q " $(realpath "$scratch")/fake " /proc/self/mountinfo
        if timeout 20 "$littlefs" umount "$image" 2>"$scratch/said"; then exit 1; fi
        grep -q 'has it open; to unmount that mount, give its directory' "$scratch/said"
        # Named by its directory it is a hung daemon of somebody else's.
        status=0
        timeout 20 "$littlefs" umount --timeout 1 "$scratch/fake" 2>"$scratch/said" || status=$?
        [ "$status" = 32 ]
        grep -q "process $spoof (python3) has made no progress" "$scratch/said"
        kill $spoof
        umount -i -l "$scratch/fake" 2>/dev/null || true

        # With the image open it is as good as the other one, so nothing is guessed.
        "$littlefs" mount -q "$image" "$mnt"
        spoof "$image"
        if timeout 20 "$littlefs" umount "$image" 2>"$scratch/said"; then exit 1; fi
        grep -q "mounted on .*$mnt.*; give the directory" "$scratch/said"
        mountpoint -q "$mnt"
        timeout 20 "$littlefs" umount "$mnt"
        "#;
    let m = among_users(&format!("SPOOF='{SPOOF}'\n{script}"));
    assert!(c_tree(&m.image()).contains_key(&b"f"[..]));
}

#[test]
fn ordinary_users_unmount_what_hangs_or_died() {
    among_users(
        r#"
        export mnt image littlefs scratch
        $user sh -eu -c '
            daemon() { "$littlefs" status --json "$mnt" | sed -n "s/^ *\"pid\": \([0-9]*\),$/\1/p"; }
            mount() { "$littlefs" mount -q "$image" "$mnt"; ls "$mnt"; pid=$(daemon); }
            gone() { ! mountpoint -q "$mnt"; }
            mount
            mv "$image" "$scratch/moved"
            mkfifo "$image"
            timeout 20 "$littlefs" umount "$mnt"
            gone
            mv "$scratch/moved" "$image"

            mount
            kill -STOP "$pid"
            status=0
            timeout 20 "$littlefs" umount --timeout 1 "$mnt" 2>"$scratch/theirs" || status=$?
            [ "$status" = 32 ]
            grep -q "process $pid (littlefs), which is stopped, has made no progress" "$scratch/theirs"
            timeout 20 "$littlefs" umount -l "$mnt"
            gone
            kill -CONT "$pid"
            flock --wait 30 "$image" true

            for flag in "" -l -f; do
                mount
                kill -KILL "$pid"
                while stat -f "$mnt" >/dev/null 2>&1; do sleep 0.01; done
                timeout 20 "$littlefs" umount $flag "$mnt"
                gone
                # Its files are closed one after the other.
                flock --wait 30 "$image" true
            done
        '
        # Nobody ends the mount of somebody else by its image.
        "$littlefs" mount -q "$image" "$mnt"
        if $user "$littlefs" umount "$image" 2>"$scratch/said"; then exit 1; fi
        grep -q 'give its directory' "$scratch/said"
        if $user "$littlefs" umount -l -f "$mnt" 2>"$scratch/said"; then exit 1; fi
        mountpoint -q "$mnt"
        "$littlefs" umount "$mnt"
        "#,
    );
}

/// The kernel gives the number of a connection to another mount as soon as its filesystem is gone.
#[test]
fn a_stopped_daemon_of_an_earlier_mount_is_not_waited_for() {
    ending(
        r#"
        number() { sed -n 's/^fuse_connection:[[:space:]]*//p' /proc/"$1"/fdinfo/* 2>/dev/null | head -n 1; }
        cp "$image" "$scratch/other.img"
        mkdir "$scratch/other"
        mount -t littlefs "$scratch/other.img" "$scratch/other"
        stopped=$("$littlefs" status --json "$scratch/other" | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p')
        trap 'kill -KILL $stopped; umount -i -l "$mnt" 2>/dev/null || true' EXIT
        kill -STOP "$stopped"
        umount -i -l "$scratch/other"
        # Another test may get the number first.
        again=
        for try in $(seq 200); do
            mount -t littlefs "$image" "$mnt"
            if [ "$(number "$(daemon)")" = "$(number "$stopped")" ]; then again=$try; fi
            soon umount "$mnt"
            gone "$mnt"
            [ -z "$again" ] || break
            sleep 0.1
        done
        [ -n "$again" ]
        "#,
    );
}

#[test]
fn status_leaves_out_a_daemon_that_does_not_answer() {
    ending(
        r#"
        mkdir "$scratch/other"
        cp "$image" "$scratch/other.img"
        mount -t littlefs "$image" "$mnt"
        mount -t littlefs "$scratch/other.img" "$scratch/other"
        pid=$(daemon)
        kill -STOP $pid
        if soon "$littlefs" status >"$scratch/list" 2>"$scratch/said"; then exit 1; fi
        grep -q other.img "$scratch/list"
        grep -q 'does not answer' "$scratch/said"
        if soon "$littlefs" status "$mnt" 2>"$scratch/said"; then exit 1; fi
        grep -q 'does not answer' "$scratch/said"
        kill -CONT $pid
        "$littlefs" status "$mnt" >"$scratch/list"
        soon umount "$scratch/other"
        soon umount "$mnt"
        "#,
    );
}
