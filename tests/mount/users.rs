//! Mounts of ordinary users, and other users in a mount.
//!
//! Each script runs as root in its own mount namespace, in which everybody may open /dev/fuse and
//! the test decides what is in /etc/fuse.conf. Nothing in the system is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testkit::mounted::{ALONE, Mounted, as_root, c_tree, run};

/// `$littlefs`, `$image` and `$mnt` can be used by all and belong to `$user`; `$other` is another
/// user. `denied COMMAND` checks that the command is refused.
const PRELUDE: &str = r#"
    image=$1 mnt=$2 littlefs=$3 scratch=$4
    id() { echo "setpriv --reuid $1 --regid $1 --clear-groups"; }
    user=$(id 65534) other=$(id 1)
    denied() {
        if "$@" >"$scratch/said" 2>&1; then
            echo "not refused: $*" >&2
            exit 1
        fi
        grep -q 'Permission denied' "$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
    }
    chown 65534:65534 "$image" "$mnt" "$scratch"
    chmod 755 "$scratch"
    mkdir "$scratch/dev"
    mount -t tmpfs none "$scratch/dev"
    mknod "$scratch/dev/fuse" c 10 229
    chmod 666 "$scratch/dev/fuse"
    mount --bind "$scratch/dev/fuse" /dev/fuse
    : >"$scratch/dev/fuse.conf"
    mount --bind "$scratch/dev/fuse.conf" /etc/fuse.conf
    trap 'umount -l "$mnt" 2>/dev/null || true' EXIT
"#;

/// Run a script there. Afterwards, the image must be sound.
pub fn among_users(script: &str) -> Mounted {
    let m = Mounted::unmounted("1M");
    let program = m.beside("littlefs");
    // Not by this process: what it starts elsewhere meanwhile would hold the copy open for writing.
    run(Command::new("cp").arg(env!("CARGO_BIN_EXE_littlefs")).arg(&program));
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("chmod");
    let inside = format!("{ALONE}{PRELUDE}{script}");
    fs::write(m.beside("script"), format!("set -eu\n{inside}")).expect("write");
    let args: [&Path; 5] = [&m.beside("script"), &m.image(), &m.dir(), &program, &m.beside("")];
    as_root(r#"unshare --mount --propagation private sh "$@""#, &args);
    assert!(m.is_free());
    m
}

#[test]
fn an_ordinary_user_mounts_through_fusermount() {
    let m = among_users(
        r#"
        $user sh -eu -c '
            "$3" mount "$1" "$2"
            echo hello >"$2/f"; mkdir "$2/d"; mv "$2/f" "$2/d/g"; [ "$(cat "$2/d/g")" = hello ]
            chmod 600 "$2/d/g"; cp -a "$2/d" "$2/e"
        ' sh "$@"
        # Not even root may look into it.
        denied ls "$mnt"
        denied $other ls "$mnt"
        $user "$littlefs" status "$mnt" | grep -q '^access  *read and write'
        for who in env "$other"; do
            if $who "$littlefs" status "$mnt" 2>"$scratch/said"; then exit 1; fi
            grep -q 'you have no access to .*as the user who mounted it' "$scratch/said"
        done
        $user "$littlefs" umount "$mnt"
        "#,
    );
    assert!(c_tree(&m.image()).contains_key(&b"e/g"[..]));
}

#[test]
fn what_an_ordinary_user_may_not_is_said_with_the_remedy() {
    among_users(
        r#"
        refused() {
            words=$1
            shift
            if "$@" 2>"$scratch/said"; then exit 1; fi
            grep -q "$words" "$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
        }
        mkdir -p "$scratch/theirs/dir"
        refused 'mount on a directory of your own' $user "$littlefs" mount "$image" "$scratch/theirs"
        chmod 700 "$scratch/theirs"
        refused 'directory of your own' $user "$littlefs" mount "$image" "$scratch/theirs/dir"
        refused "need 'user_allow_other' in /etc/fuse.conf" \
            $user "$littlefs" mount -o allow_other "$image" "$mnt"
        chmod 600 "$scratch/dev/fuse"
        refused 'be able to run fusermount3 and to open /dev/fuse' $user "$littlefs" mount "$image" "$mnt"
        chmod 666 "$scratch/dev/fuse"
        chown 0:0 "$image"; chmod 600 "$image"
        refused 'permission denied: reading needs' $user "$littlefs" mount "$image" "$mnt"
        chown 65534:65534 "$image"
        refused 'fusermount3 is in the package fuse3' \
            $user env FUSERMOUNT_PATH=/none "$littlefs" mount "$image" "$mnt"
        refused 'be able to run fusermount3' \
            $user env FUSERMOUNT_PATH=/etc/passwd "$littlefs" mount "$image" "$mnt"
        "#,
    );
}

#[test]
fn others_are_let_in_as_the_permission_bits_say() {
    let m = among_users(
        r#"
        "$littlefs" mount "$image" "$mnt"
        echo x >"$mnt/f"
        denied $other cat "$mnt/f"
        "$littlefs" umount "$mnt"

        "$littlefs" mount -o allow_other,umask=022 "$image" "$mnt"
        [ "$($other cat "$mnt/f")" = x ]
        denied $other sh -c 'echo y >"$1/f"' sh "$mnt"
        denied $other mkdir "$mnt/d"
        denied $other rm "$mnt/f"
        "$littlefs" umount "$mnt"

        "$littlefs" mount -o allow_other,umask=0 "$image" "$mnt"
        $other sh -eu -c 'echo y >"$1/f"; mkdir "$1/d"; mv "$1/f" "$1/d/g"' sh "$mnt"
        [ "$($user cat "$mnt/d/g")" = y ]
        "$littlefs" umount "$mnt"

        "$littlefs" mount -o allow_other,uid=65534,gid=65534,umask=077 "$image" "$mnt"
        [ "$($user cat "$mnt/d/g")" = y ]
        denied $other ls "$mnt"
        "$littlefs" umount "$mnt"
        "#,
    );
    assert!(c_tree(&m.image()).contains_key(&b"d/g"[..]));
}

#[test]
fn root_is_let_in_and_nobody_else() {
    let m = among_users(
        r#"
        if $user "$littlefs" mount -o allow_root "$image" "$mnt" 2>"$scratch/said"; then exit 1; fi
        grep -q "need 'user_allow_other' in /etc/fuse.conf" "$scratch/said"

        echo user_allow_other >"$scratch/dev/fuse.conf"
        $user "$littlefs" mount -o allow_root,umask=0 "$image" "$mnt"
        $user sh -eu -c 'echo x >"$1/f"; mkdir "$1/d"; cat "$1/f"; ls "$1"' sh "$mnt"
        # What the kernel remembers from others does not help, either.
        denied $other cat "$mnt/f"
        denied $other ls "$mnt"
        denied $other sh -c 'echo z >"$1/f"' sh "$mnt"
        [ "$(cat "$mnt/f")" = x ]
        echo y >"$mnt/d/g"
        [ "$($user cat "$mnt/d/g")" = y ]
        denied $other cat "$mnt/d/g"
        $user "$littlefs" umount "$mnt"
        "#,
    );
    assert!(c_tree(&m.image()).contains_key(&b"d/g"[..]));
}

/// Both need the device, and both say what to do if it does not exist.
#[test]
fn without_the_device_run_advises_what_mount_does() {
    among_users(
        r#"
        for who in env "$user"; do
            for command in "mount $image $mnt" "run $image -- true"; do
                if unshare --mount sh -c '
                    mount -t tmpfs none /dev
                    mknod -m 666 /dev/null c 1 3
                    exec "$@"' sh $who "$littlefs" $command 2>"$scratch/said"; then exit 1; fi
                grep -q "are /dev/fuse and fusermount3 there? 'modprobe fuse'" "$scratch/said" ||
                    { cat "$scratch/said" >&2; exit 1; }
            done
        done
        "#,
    );
}
