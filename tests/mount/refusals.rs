//! A table of mounts that are refused, with the reason and the advice that is printed.

use std::path::Path;

use testkit::mounted::{ALONE, Mounted, as_root, is_mounted};

/// One refusal.
struct Case {
    what: &'static str,
    /// A script that runs first, in a directory with `image` and the directory `mnt`.
    before: &'static str,
    /// The arguments of `littlefs mount`.
    args: &'static str,
    code: i32,
    /// The reason and the advice that it prints.
    words: [&'static str; 2],
}

const fn case(
    what: &'static str,
    before: &'static str,
    args: &'static str,
    words: [&'static str; 2],
) -> Case {
    Case { what, before, args, code: 32, words }
}

/// A superblock of version 1: revision, size, tail; entry, root pair, geometry, version; magic,
/// CRC.
const V1: &str = r"{
    printf '\001\000\000\000\064\000\000\000\002\000\000\000\003\000\000\000'
    printf '\056\024\000\010\002\000\000\000\003\000\000\000\000\002\000\000\040\000\000\000\001\000\001\000'
    printf '\154\151\164\164\154\145\146\163\046\217\277\224'
    head -c 9000 /dev/zero; } >image";

/// Refusals for root. (Versions and geometries that mkfs does not make are in tests/cli.)
const CASES: &[Case] = &[
    case("no image", "rm image", "image mnt", ["no such file", "'littlefs mkfs --size 1M FILE'"]),
    case("a directory for an image", "", "mnt mnt", ["is a directory", "give the image first"]),
    case("a pipe", "mkfifo p", "p mnt", ["neither a plain file nor a block device", "copy"]),
    case("an empty file", ": >image", "image mnt", ["the file is empty", "littlefs mkfs"]),
    case(
        "no littlefs",
        "head -c 65536 /dev/zero >image",
        "image mnt",
        ["give its place with --offset BYTES, or -o offset=BYTES", "littlefs recover --block-size"],
    ),
    case(
        "a superblock of version 1 with nothing behind it",
        V1,
        "image mnt",
        ["its superblock leads to nothing that exists", "so it cannot be written"],
    ),
    case(
        "damaged superblocks",
        "for at in 16 4112; do dd if=/dev/zero of=image bs=1 seek=$at count=4000 conv=notrunc; done",
        "image mnt",
        ["both superblocks are damaged", "read the image from the device again"],
    ),
    case(
        "another start than the one that is given",
        "{ head -c 8192 /dev/zero; cat image; } >later",
        "-o offset=0 later mnt",
        ["the file holds one: offset=8192", "say which one with --offset BYTES"],
    ),
    case(
        "several of them",
        "{ head -c 8192 /dev/zero; cat image image; } >later",
        "later mnt",
        [
            "the file holds 2: offset=8192",
            "or with -o offset=BYTES or -o partition=NAME for a mount",
        ],
    ),
    case(
        "an offset outside",
        "",
        "-o offset=1G image mnt",
        ["offset=1073741824 is not inside the file", "correct it, or leave it out"],
    ),
    case(
        "a wrong block size",
        "",
        "-o block_size=512 image mnt",
        ["the image says 4096", "leave out the block size"],
    ),
    case(
        "a wrong block count",
        "",
        "-o block_count=5 image mnt",
        ["the image says 64", "leave out the block count"],
    ),
    case(
        "a truncated image",
        "head -c 200000 /dev/zero >big; \"$littlefs\" put -q image big /; truncate -s 100K image",
        "image mnt",
        ["lacks 159744 bytes at the end", "mount -o ro' still give the files"],
    ),
    case(
        "an image in use",
        "mkdir other; \"$littlefs\" mount -q image other",
        "image mnt",
        ["in use by process", "unmount it first ('littlefs umount IMAGE')"],
    ),
    case("no directory", "", "image none", ["none: no such directory", "'mkdir -p none' makes it"]),
    case(
        "a file for a directory",
        "",
        "image image",
        ["image: not a directory", "the image comes first, then the directory"],
    ),
    case(
        "too small attributes",
        "rm image; \"$littlefs\" mkfs --size 64K --attr-max 4 image",
        "-o attrs=unix image mnt",
        [
            "but the image allows only 4",
            "use attrs=none, or an image made with 'littlefs mkfs --attr-max",
        ],
    ),
    case(
        "no /dev/fuse",
        "mount -t tmpfs none /dev; mknod /dev/null c 1 3",
        "image mnt",
        ["No such file", "'modprobe fuse' loads the driver"],
    ),
    case(
        "no /proc",
        "umount -l /proc",
        "image mnt",
        ["mounts in /proc/self/mountinfo cannot be read", "mount -t proc proc /proc"],
    ),
    case(
        "no driver behind /dev/fuse",
        "mknod fuse c 10 254; mount --bind fuse /dev/fuse",
        "image mnt",
        ["No such device", "'modprobe fuse' loads the driver"],
    ),
    Case {
        what: "an unknown option",
        before: "",
        args: "-o ro,frobnicate image mnt",
        code: 1,
        words: ["unknown mount option 'frobnicate'", "'littlefs mount --help' lists them all"],
    },
    Case {
        what: "an option without its value",
        before: "",
        args: "-o uid image mnt",
        code: 1,
        words: ["mount option 'uid'", "needs a value: uid=..."],
    },
    Case {
        what: "a value that is none",
        before: "",
        args: "-o umask=rwx image mnt",
        code: 1,
        words: ["mount option 'umask=rwx'", "octal mask (like 022)"],
    },
    Case {
        what: "no such convention",
        before: "",
        args: "-o attrs=linux image mnt",
        code: 1,
        words: ["mount option 'attrs=linux'", "is not one of auto, none, unix"],
    },
    Case {
        what: "no such profile",
        before: "",
        args: "-o profile=pico image mnt",
        code: 1,
        words: ["mount option 'profile=pico'", "the profiles are micropython-rp2"],
    },
    Case { what: "nothing", before: "", args: "", code: 1, words: ["<IMAGE>", "--help"] },
];

/// Run each in its own mount namespace. This prints the exit code, and then the messages.
const SCRIPT: &str = r#"
    littlefs=$1 scratch=$2
    cd "$scratch"
    (eval "$3") >/dev/null 2>&1
    status=0
    # A mount(8) that must not succeed would hold standard output.
    said=$("$littlefs" mount $4 2>&1 >/dev/null) || status=$?
    ! mountpoint -q other || "$littlefs" umount other
    echo "$status"
    echo "$said"
"#;

#[test]
fn each_names_the_remedy() {
    let script = format!("{ALONE}{SCRIPT}");
    for Case { what, before, args, code, words } in CASES {
        let m = Mounted::unmounted("256K");
        let program = Path::new(env!("CARGO_BIN_EXE_littlefs"));
        let all: [&Path; 5] =
            [script.as_ref(), program, &m.beside(""), before.as_ref(), args.as_ref()];
        let out = as_root(
            r#"script=$1; shift
            unshare --mount --propagation private sh -euc "$script" sh "$@""#,
            &all,
        );
        let (status, said) = out.split_once('\n').expect("two lines");
        assert_eq!(status, code.to_string(), "{what}: {said}");
        assert!(said.starts_with("littlefs: "), "{what}: {said}");
        for word in words {
            assert!(said.contains(word), "{what}: no {word:?} in {said}");
        }
        // One sentence, but for usage.
        assert!(args.is_empty() || said.trim_end().lines().count() == 1, "{what}: {said}");
        assert!(!is_mounted(&m.dir()), "{what}");
    }
}
