//! mount(8), umount(8), fsck(8) and systemd run the program under the names that they look for.
//!
//! Each script runs as root in its own mount namespace, in which /usr/sbin also has links to the
//! program. Nothing in the system is changed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::status::Other;
use testkit::mounted::{
    ALONE, Mounted, as_root, c_tree, is_mounted, littlefs, noise, output, run, wait_until,
};
use testkit::tree::Kind;

/// `refused COMMAND WORDS` checks that the command fails and prints these words.
const PRELUDE: &str = r#"
    image=$1 mnt=$2 littlefs=$3 scratch=$4
    mkdir "$scratch/sbin"
    for name in mount.littlefs mount.fuse.littlefs umount.littlefs umount.fuse.littlefs \
        umount.fuse mkfs.littlefs fsck.littlefs littlefs; do
        ln -s "$littlefs" "$scratch/sbin/$name"
    done
    mount -t overlay -o "lowerdir=$scratch/sbin:$(realpath /sbin)" none "$(realpath /sbin)"
    PATH=/usr/sbin:/usr/bin:/sbin:/bin
    refused() {
        words=$1
        shift
        if "$@" >"$scratch/said" 2>&1; then
            echo "not refused: $*" >&2
            exit 1
        fi
        grep -q "$words" "$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
    }
    trap 'umount -i -l "$mnt" 2>/dev/null || true' EXIT
"#;

/// Run a script there. Afterwards, the image must be sound.
pub fn at_home(script: &str) -> Mounted {
    let m = Mounted::unmounted("1M");
    fs::write(m.beside("script"), format!("set -eu\n{ALONE}{PRELUDE}{script}")).expect("write");
    let program = Path::new(env!("CARGO_BIN_EXE_littlefs"));
    let args: [&Path; 5] = [&m.beside("script"), &m.image(), &m.dir(), program, &m.beside("")];
    as_root(r#"unshare --mount --propagation private sh "$@""#, &args);
    assert!(m.is_free());
    run(littlefs().arg("check").arg(m.image()));
    m
}

#[test]
fn mount_by_type_and_by_fstab() {
    let m = at_home(
        r#"
        # Silent on success, as any mount; -v tells.
        [ -z "$(mount -t littlefs "$image" "$mnt" 2>&1)" ]
        echo one >"$mnt/one"
        [ "$(findmnt -no SOURCE,FSTYPE "$mnt" | tr -s ' ')" = "$image fuse.littlefs" ]
        df --output=source,size "$mnt" | grep -q "^$image  *1024$"
        [ "$(stat -f -c '%S %b %l' "$mnt")" = "4096 256 255" ]
        umount "$mnt"

        echo "$image $mnt littlefs noatime,umask=027,nofail,x-systemd.automount 0 2" >"$scratch/fstab"
        mount -a -T "$scratch/fstab"
        [ "$(cat "$mnt/one")" = one ]
        [ "$(stat -c %a "$mnt/one")" = 750 ]
        findmnt -no OPTIONS "$mnt" | grep -q noatime
        umount "$mnt"

        mount -t fuse.littlefs -o ro "$image" "$mnt"
        refused 'Read-only' touch "$mnt/two"
        umount "$mnt"
        [ -z "$(mount.fuse3 "$image" "$mnt" -t fuse.littlefs -o rw 2>&1)" ]
        echo two >"$mnt/two"
        umount "$mnt"
        mount.fuse3 "littlefs#$image" "$mnt" -o ro
        [ "$(cat "$mnt/two")" = two ]
        umount "$mnt"

        mount -v -t littlefs "$image" "$mnt" | grep -q "^$image on $mnt: littlefs 2.1, 256 blocks"
        umount "$mnt"

        refused "unknown mount option 'frobnicate'" mount -t littlefs -o frobnicate "$image" "$mnt"
        mount -s -t littlefs -o frobnicate "$image" "$mnt"
        umount "$mnt"
        mount -f -t littlefs "$image" "$mnt"
        refused 'not a mountpoint' mountpoint "$mnt"
        "#,
    );
    assert!(c_tree(&m.image()).contains_key(&b"two"[..]));
}

#[test]
fn remount_changes_flags_and_says_what_it_cannot() {
    at_home(
        r#"
        mount -t littlefs -o nosuid,nodev,commit=3600 "$image" "$mnt"
        echo one >"$mnt/one"
        exec 3>"$mnt/open"
        refused 'open for writing' mount -o remount,ro "$mnt"
        exec 3>&-
        mount -o remount,ro "$mnt"
        # Everything is in the image already.
        cp "$image" "$scratch/copy"
        "$littlefs" mount -o ro "$scratch/copy" "$scratch/sbin" && [ -f "$scratch/sbin/one" ]
        "$littlefs" umount "$scratch/sbin"
        refused 'Read-only' touch "$mnt/two"
        findmnt -no OPTIONS "$mnt" | grep -q 'ro,nosuid,nodev'
        mount -o remount,rw,noexec "$mnt"
        findmnt -no OPTIONS "$mnt" | grep -q 'rw,nosuid,nodev,noexec'
        touch "$mnt/two"
        umount "$mnt"
        refused 'no littlefs is mounted' mount -t littlefs -o remount,ro "$image" "$mnt"
        "#,
    );
}

/// libmount does not pass on 'suid', 'dev', 'exec' and 'atime'. If they are missing, they are
/// meant.
#[test]
fn flags_of_mount_8_are_what_they_say_both_ways() {
    at_home(
        r#"
        flags() {
            have=$(findmnt -no OPTIONS "$mnt" | tr , '\n' | grep -xE 'ro|nosuid|nodev|noexec|noatime' |
                paste -sd ,)
            [ "$have" = "$1" ] || { echo "after $2: '$have', not '$1'" >&2; exit 1; }
        }
        mounted() { mount -t "$3" -o "$1" "$image" "$mnt"; flags "$2" "mount -t $3 -o $1"; umount "$mnt"; }
        remounted() { mount -o "remount,$1" "$mnt"; flags "$2" "remount,$1"; }
        for type in littlefs fuse.littlefs; do
            mounted rw '' "$type"
            mounted suid,dev '' "$type"
            mounted nosuid nosuid "$type"
            mounted nodev,noexec nodev,noexec "$type"
            mounted user nosuid,nodev,noexec "$type"
            mounted user,suid nodev,noexec "$type"
        done
        # The bit works where it is honoured.
        mount -t littlefs -o attrs=unix,allow_other "$image" "$mnt"
        cp "$(command -v id)" "$mnt/suidid"
        chown 1:1 "$mnt/suidid"
        chmod 4755 "$mnt/suidid"
        [ "$("$mnt/suidid" -u)" = 1 ]
        remounted nosuid nosuid
        [ "$("$mnt/suidid" -u)" = 0 ]
        remounted suid ''
        [ "$("$mnt/suidid" -u)" = 1 ]
        remounted nosuid,nodev,noexec,noatime nosuid,nodev,noexec,noatime
        remounted exec nosuid,nodev,noatime
        remounted suid,dev noatime
        remounted atime ''
        remounted ro ro
        remounted nodev ro,nodev
        remounted rw nodev
        umount "$mnt"

        # By a line of fstab.
        echo "$image $mnt littlefs noatime,noexec,nosuid,nodev 0 0" >"$scratch/fstab"
        mount --bind "$scratch/fstab" /etc/fstab
        mount "$mnt"
        flags nosuid,nodev,noexec,noatime fstab
        remounted exec nosuid,nodev,noatime
        remounted suid,dev noexec,noatime
        remounted ro ro,nosuid,nodev,noexec,noatime
        umount "$mnt"
        echo "$image $mnt littlefs defaults 0 0" >/etc/fstab
        mount "$mnt"
        flags '' 'fstab without flags'
        remounted nosuid nosuid
        umount "$mnt"
        umount /etc/fstab

        # Our own command asks for no more than it is told, and leaves the rest.
        "$littlefs" mount -q "$image" "$mnt"
        flags nosuid,nodev 'littlefs mount'
        "$littlefs" mount -o remount,noexec "$image" "$mnt"
        flags nosuid,nodev,noexec remount
        "$littlefs" mount -o remount,exec,suid "$image" "$mnt"
        flags nodev remount
        umount "$mnt"
        "#,
    );
}

#[test]
fn what_only_the_option_made_read_only_can_be_remounted() {
    let m = at_home(
        r#"
        "$littlefs" mount -q "$image" "$mnt"
        echo before >"$mnt/before"
        umount "$mnt"
        mkdir "$scratch/other"
        mount -t littlefs -o ro,attrs=unix "$image" "$mnt"
        "$littlefs" status "$mnt" | grep -q 'read-only: as asked'
        # Not while somebody else reads it; then all goes on as it was.
        mount -t littlefs -o ro "$image" "$scratch/other"
        refused 'other processes are reading the image' mount -o remount,rw "$mnt"
        refused 'Read-only' touch "$mnt/f"
        [ "$(cat "$mnt/before" "$scratch/other/before" | paste -sd ,)" = before,before ]
        refused 'in use' "$littlefs" mkfs --force "$image"
        umount "$scratch/other"
        mount -o remount,rw "$mnt"
        refused 'in use' "$littlefs" mount -o ro "$image" "$scratch/other"
        "$littlefs" status "$mnt" | grep -q '^access  *read and write'
        echo after >"$mnt/after"
        rm "$mnt/before"
        head -c 300000 /dev/urandom >"$mnt/large"
        chmod 600 "$mnt/large"
        cp "$mnt/large" "$scratch/large"
        sync "$mnt/large"
        mount -o remount,ro "$mnt"
        mount -o remount,rw "$mnt"
        mkdir "$mnt/d"
        umount "$mnt"
        "$littlefs" check "$image"
        "$littlefs" mount -q -o ro "$image" "$mnt"
        cmp "$mnt/large" "$scratch/large"
        [ "$(cat "$mnt/after")" = after ]
        umount "$mnt"

        # Elsewhere with the reason.
        chmod 444 "$image"
        "$littlefs" mount -q -o ro "$image" "$mnt"
        refused 'it is write-protected' mount -o remount,rw "$mnt"
        umount "$mnt"
        chmod 644 "$image"
        cp "$image" "$scratch/short"
        truncate -s 100K "$scratch/short"
        "$littlefs" mount -q -o ro "$scratch/short" "$mnt" 2>"$scratch/said"
        refused 'the image is truncated' mount -o remount,rw "$mnt"
        umount "$mnt"
        "$littlefs" mount -q --journal "$scratch/j" "$image" "$mnt"
        echo x >"$mnt/x"
        umount "$mnt"
        "$littlefs" mount -q -o ro --journal "$scratch/j" "$image" "$mnt"
        refused 'cannot become writable now' mount -o remount,rw "$mnt"
        umount "$mnt"
        "$littlefs" mount -q -o ro,at=0 --journal "$scratch/j" "$image" "$mnt"
        refused 'a past state of a journal' mount -o remount,rw "$mnt"
        umount "$mnt"
        "#,
    );
    assert!(c_tree(&m.image()).contains_key(&b"after"[..]));
}

#[test]
fn umount_knows_busy_lazy_and_read_only() {
    at_home(
        r#"
        mount -t littlefs "$image" "$mnt"
        exec 3<"$mnt"
        refused 'busy' umount "$mnt"
        umount -r "$mnt" 2>"$scratch/said"
        findmnt -no OPTIONS "$mnt" | grep -q '^ro'
        umount -l "$mnt"
        refused 'not a mountpoint' mountpoint "$mnt"
        exec 3<&-
        flock --wait 30 "$image" true
        "#,
    );
}

/// umount.fuse is called for every FUSE mount, also for those of other programs.
#[test]
fn mounts_of_other_daemons_are_unmounted_as_without_us() {
    let foreign = Mounted::unmounted("64K");
    let mut config = fuser::Config::default();
    config.mount_options = vec![
        fuser::MountOption::FSName("other.img".to_owned()),
        fuser::MountOption::CUSTOM("subtype=other".to_owned()),
    ];
    let session = fuser::spawn_mount(Other, foreign.dir(), &config).expect("mount");
    // Copies of that mount are in the namespace of the script.
    let script = r#"
        foreign=FOREIGN
        mkdir "$scratch/one" "$scratch/two" "$scratch/three"
        for dir in one two three; do mount --bind "$foreign" "$scratch/$dir"; done
        findmnt -no FSTYPE,SOURCE "$scratch/one" | tr -s ' ' | grep -q '^fuse.other other.img$'
        umount "$scratch/one"
        umount -i "$scratch/two"
        umount -l "$scratch/three"
        umount -v "$foreign" 2>&1 | grep -q "$foreign.*unmounted"
        for dir in "$scratch/one" "$scratch/two" "$scratch/three" "$foreign"; do
            refused 'not a mountpoint' mountpoint "$dir"
            refused 'not mounted' umount "$dir"
        done
        "#;
    at_home(&script.replace("FOREIGN", &foreign.dir().display().to_string()));
    assert!(is_mounted(&foreign.dir()));
    drop(session);
}

#[test]
fn mounting_in_another_namespace_happens_there() {
    let m = at_home(
        r#"
        unshare --mount sleep 600 &
        there=$!
        trap 'kill $there' EXIT
        until [ "$(readlink /proc/$there/ns/mnt)" != "$(readlink /proc/$$/ns/mnt)" ]; do sleep 0.01; done
        in_it() { nsenter -t $there --mount "$@"; }
        mount -N $there -t littlefs "$image" "$mnt"
        refused 'not a mountpoint' mountpoint "$mnt"
        in_it findmnt -no FSTYPE "$mnt" | grep -q '^fuse.littlefs$'
        in_it sh -c 'echo x >"$1/there"' sh "$mnt"
        umount -N $there "$mnt"
        refused 'not a mountpoint' in_it mountpoint "$mnt"
        flock --nonblock "$image" true
        refused '/proc/1/nothing: no such file' mount.littlefs "$image" "$mnt" -N /proc/1/nothing
        "#,
    );
    assert!(c_tree(&m.image()).contains_key(&b"there"[..]));
}

#[test]
fn a_commit_that_was_interrupted_is_finished_before_a_mount_writes() {
    at_home(
        r#"
        echo x >"$scratch/file"
        cut=$scratch/cut.img
        "$littlefs" create -q --no-pad --size 256K "$cut" "$scratch/file"
        (ulimit -f 100; ! "$littlefs" put -q --atomic "$cut" "$scratch/file" /first)
        test -e "$cut.run"
        "$littlefs" mount -q -o ro "$cut" "$mnt" 2>"$scratch/said"
        umount "$mnt"
        grep -q 'cut.img.run: holds a change of the image that was interrupted' "$scratch/said"
        test -e "$cut.run"
        "$littlefs" mount -q "$cut" "$mnt" 2>"$scratch/said"
        grep -q 'finished a commit that was interrupted' "$scratch/said"
        cmp "$mnt/first" "$scratch/file"
        umount "$mnt"
        test ! -e "$cut.run"
        "#,
    );
}

#[test]
fn mkfs_and_fsck_by_type() {
    at_home(
        r#"
        mkfs -t littlefs --size 512K "$scratch/new"
        fsck -t littlefs -n "$scratch/new"
        fsck.littlefs -a -C0 -T -M "$scratch/new"
        status=0
        fsck.littlefs -p "$scratch/none" 2>/dev/null || status=$?
        [ "$status" = 8 ]
        # A line of fstab with a pass number.
        echo "$scratch/new $mnt littlefs defaults 0 2" >"$scratch/fstab"
        FSTAB_FILE="$scratch/fstab" fsck -A -P -R >"$scratch/said"
        grep -q "/new: clean" "$scratch/said"
        "#,
    );
}

/// When a plain umount returns, the image is complete, whatever was written just before.
#[test]
fn umount_returns_when_the_image_is_complete() {
    let m = at_home(
        r#"
        python3 - "$image" "$mnt" "$littlefs" <<'END'
import fcntl, hashlib, os, subprocess, sys
image, mnt, littlefs = sys.argv[1:]
digest = lambda: hashlib.sha1(open(image, "rb").read()).digest()
seen = set()
for i in range(1000):
    subprocess.run([littlefs, "mount", "-o", "commit=3600", image, mnt], check=True)
    for j in range(8):
        with open(f"{mnt}/file{j}", "wb") as f:
            f.write(os.urandom(100 << j))
    with open(f"{mnt}/last", "w") as f:
        f.write(str(i))
    subprocess.run(["umount", mnt], check=True)
    with open(image, "rb") as f:
        # Nobody is left who could change it.
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    seen.add(digest())
assert len(seen) == 1000
END
        "#,
    );
    let last = c_tree(&m.image()).remove(&b"last"[..]).expect("written");
    assert!(last.kind == Kind::File(b"999".to_vec()), "the last write is there");
}

#[test]
fn auto_unmount_leaves_nothing_behind() {
    let mut m = Mounted::unmounted("1M");
    m.mount("rw,auto_unmount");
    fs::write(m.path("f"), b"x").expect("write");
    File::open(m.path("f")).and_then(|f| f.sync_all()).expect("fsync");
    let holder = in_use_by(&m);
    run(Command::new("kill").args(["-KILL", &holder]));
    m.unmounted_elsewhere();
    m.mount("rw,auto_unmount");
    m.finish();
}

/// The process that is named when a second mount is refused.
fn in_use_by(m: &Mounted) -> String {
    let out = output(littlefs().arg("check").arg(m.image()));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let pid = said.split("in use by process ").nth(1).and_then(|rest| rest.split(' ').next());
    pid.unwrap_or_else(|| panic!("no process in {said}")).to_owned()
}

#[test]
fn who_holds_the_image_is_named() {
    let m = Mounted::new("1M");
    assert_eq!(in_use_by(&m), m.daemon());
    m.finish();
}

/// A foreground daemon as a service of systemd: its notifications and its log.
#[test]
fn services_tell_systemd_how_they_are() {
    let m = Mounted::unmounted("1M");
    let socket = UnixDatagram::bind(m.beside("notify")).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
    let log = File::create(m.beside("log")).expect("log");
    let meta = log.metadata().expect("stat");
    let stream = format!("{}:{}", meta.dev(), meta.ino());
    let mut daemon = littlefs()
        .args(["mount", "-v", "-f"])
        .args([m.image(), m.dir()])
        .env("NOTIFY_SOCKET", m.beside("notify"))
        .env("WATCHDOG_USEC", "300000")
        .env("JOURNAL_STREAM", &stream)
        .stderr(Stdio::from(log.try_clone().expect("clone")))
        .spawn()
        .expect("the program should start");
    // Read all the time: a full socket would stop the daemon.
    let (sender, messages) = mpsc::channel();
    thread::spawn(move || {
        let mut buf = [0; 512];
        while let Ok(len) = socket.recv(&mut buf) {
            if sender.send(String::from_utf8_lossy(&buf[..len]).into_owned()).is_err() {
                break;
            }
        }
    });
    let heard = || messages.recv().expect("a message");
    let ready = heard();
    assert!(ready.starts_with("READY=1\nSTATUS=") && ready.contains("image on "), "{ready}");
    assert!(is_mounted(&m.dir()));
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    fs::write(m.path("f"), noise(1000, 1)).expect("write");
    // SIGUSR1: everything into the image.
    let pid = daemon.id().to_string();
    run(Command::new("kill").args(["-USR1", &pid]));
    wait_until("the flush", || {
        fs::read_to_string(m.beside("log")).expect("log").contains("<6>signal: everything is in ")
    });
    assert!(c_tree(&m.image()).contains_key(&b"f"[..]));
    run(Command::new("kill").arg(&pid));
    assert!(daemon.wait().expect("wait").success());
    let mut last = heard();
    while last == "WATCHDOG=1" {
        last = heard();
    }
    assert_eq!(last, "STOPPING=1");
    let text = fs::read_to_string(m.beside("log")).expect("log");
    assert!(text.lines().all(|line| line.starts_with('<')), "{text}");
    // An error has its priority, too.
    fs::remove_file(m.image()).expect("unlink");
    let failed = littlefs()
        .args(["mount", "-f"])
        .args([m.image(), m.dir()])
        .env("JOURNAL_STREAM", &stream)
        .stderr(Stdio::from(log))
        .status()
        .expect("run");
    assert_eq!(failed.code(), Some(32));
    let text = fs::read_to_string(m.beside("log")).expect("log");
    assert!(
        text.lines().last().is_some_and(|l| l.starts_with("<3>") && l.contains("no such file")),
        "{text}"
    );
}

#[test]
fn nothing_is_attached_to_a_process_that_offers_nothing() {
    let m = Mounted::unmounted("1M");
    let own = std::process::id().to_string();
    let out = output(littlefs().args(["attach", &own]).arg(m.dir()));
    assert_eq!(out.status.code(), Some(32));
    assert!(String::from_utf8_lossy(&out.stderr).contains("offers no mount"));
}
