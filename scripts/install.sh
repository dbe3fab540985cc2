#!/usr/bin/env bash
# Build littlefs-progs and install it: the program, its links for mount(8), umount(8), mkfs(8) and
# fsck(8), man pages, shell completions, systemd units, and the files by which file(1) and desktops
# recognise images.
#
# usage: scripts/install.sh [--prefix DIR] [--compat NAME,...] [--target TARGET | --built DIR]
#        scripts/install.sh --uninstall [--prefix DIR]
#
# --prefix DIR   where to install (default /usr/local). The links are always in /sbin, because
#                mount(8) and similar programs look only there
# --compat NAME,...
#                also install the program under these names of other tools, in DIR/bin: mklittlefs,
#                littlefs-python, lfs (see docs/dropin.md). If one of these files already exists,
#                that is an error, and the file is left as it is
# --target TARGET
#                build for this target of rustc, such as x86_64-unknown-linux-musl. Programs for the
#                target must be able to run on this machine
# --built DIR    build nothing, and install the programs littlefs and littlefs-docs in DIR, which is an
#                absolute path
# --uninstall    remove what was installed with the same prefix
#
# DESTDIR=DIR    in the environment: install below DIR, to make a package
#
# If /sbin already has a helper of another package, dpkg diverts that file. Without dpkg, the file
# is left as it is, and a message says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prefix=/usr/local
uninstall=false
compat=()
triple=
built=
while [ $# -gt 0 ]; do
    case $1 in
    --prefix) prefix=${2:?--prefix needs a directory} && shift ;;
    --prefix=*) prefix=${1#*=} ;;
    --compat) IFS=, read -ra compat <<<"${2:?--compat needs names}" && shift ;;
    --compat=*) IFS=, read -ra compat <<<"${1#*=}" ;;
    --target) triple=${2:?--target needs the name of a target} && shift ;;
    --target=*) triple=${1#*=} ;;
    --built) built=${2:?--built needs a directory} && shift ;;
    --built=*) built=${1#*=} ;;
    --uninstall) uninstall=true ;;
    -h | --help)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
        exit 0
        ;;
    *)
        echo "unknown argument: $1 (see --help)" >&2
        exit 1
        ;;
    esac
    shift
done
case $built in
"" | /*) ;;
*)
    echo "--built: '$built' is not an absolute path" >&2
    exit 1
    ;;
esac
dest=${DESTDIR:-}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
docs=$target/docs

# On systems with a merged /usr, /sbin is a link to /usr/sbin.
sbin=/usr/sbin
if [ -z "$dest" ] && [ ! /sbin -ef /usr/sbin ]; then
    sbin=/sbin
fi
# systemd looks for units below /usr and /usr/local; with another prefix, they must be below /etc.
case $prefix in
/usr) units=/usr/lib/systemd/system ;;
/usr/local) units=/usr/local/lib/systemd/system ;;
*) units=/etc/systemd/system ;;
esac
share=$prefix/share
# umount.fuse is needed because umount(8), when root runs it, looks only for that name. It hands the
# mounts of other daemons back to umount(8).
links=(mount.littlefs mount.fuse.littlefs umount.littlefs umount.fuse.littlefs umount.fuse
    mkfs.littlefs fsck.littlefs)

# Where file(1) looks in addition to its own database. The part between these two lines is ours.
local_magic=/etc/magic
magic_begin="# BEGIN littlefs-progs in $prefix"
magic_end="# END littlefs-progs in $prefix"

# put_magic, remove_magic: make file(1) recognise littlefs, and undo this. A missing file is not
# created, because it belongs to the package of file(1).
put_magic() {
    [ -f "$local_magic" ] || return 0
    remove_magic
    { echo "$magic_begin" && cat scripts/desktop/magic && echo "$magic_end"; } >>"$local_magic"
}

remove_magic() {
    [ -f "$local_magic" ] || return 0
    # If our last line were missing, sed would delete everything up to the end of the file.
    if ! grep -qxF "$magic_begin" "$local_magic" || ! grep -qxF "$magic_end" "$local_magic"; then
        return 0
    fi
    sed -i "\\|^$magic_begin\$|,\\|^$magic_end\$|d" "$local_magic"
}

# update_databases: update the databases in which desktops look up types and programs.
update_databases() {
    if command -v update-mime-database >/dev/null && [ -d "$share/mime/packages" ]; then
        update-mime-database "$share/mime"
    fi
    if command -v update-desktop-database >/dev/null && [ -d "$share/applications" ]; then
        update-desktop-database "$share/applications"
    fi
}

# A helper of the same name that is not ours: whether dpkg can move it aside, and back at the end.
can_divert() {
    [ -z "$dest" ] && command -v dpkg-divert >/dev/null
}

# put_link NAME: make a link to the program where mount(8) and similar programs look for it.
put_link() {
    local path=$sbin/$1 there=$dest$sbin/$1
    if [ -e "$there" ] || [ -L "$there" ]; then
        if [ "$(readlink "$there" || true)" != "$prefix/bin/littlefs" ]; then
            if ! can_divert; then
                echo "$there belongs to something else, and is left as it is" >&2
                return
            fi
            dpkg-divert --quiet --local --rename --divert "$path.distrib" --add "$path"
            echo "$there belonged to something else; that file is $there.distrib until --uninstall"
        fi
    fi
    ln -sfn "$prefix/bin/littlefs" "$there"
}

# remove_link NAME: undo put_link. A link to another place belongs to another installation.
remove_link() {
    local path=$sbin/$1 there=$dest$sbin/$1
    [ "$(readlink "$there" || true)" = "$prefix/bin/littlefs" ] || return 0
    rm -f "$there"
    if can_divert && [ "$(dpkg-divert --listpackage "$path")" = LOCAL ]; then
        dpkg-divert --quiet --local --rename --remove "$path"
    fi
}

# The names of other tools whose command lines the program understands.
dropins=(mklittlefs littlefs-python lfs)

# check_compat: check that every name of --compat is known and free, before anything is installed.
check_compat() {
    local name there
    for name in "${compat[@]}"; do
        if [[ " ${dropins[*]} " != *" $name "* ]]; then
            echo "--compat: '$name' is not one of ${dropins[*]}" >&2
            exit 1
        fi
        there=$dest$prefix/bin/$name
        if { [ -e "$there" ] || [ -L "$there" ]; } && [ "$(readlink "$there" || true)" != littlefs ]; then
            echo "$there belongs to something else, so nothing was installed: remove that file," \
                "or leave $name out of --compat" >&2
            exit 1
        fi
    done
}

put() { # MODE FILE DIRECTORY [NAME]
    install -D -m "$1" "$2" "$dest$3/${4:-$(basename "$2")}"
}

if $uninstall; then
    rm -f "$dest$prefix/bin/littlefs" "$dest$share"/man/man1/littlefs{,-*}.1 \
        "$dest$share"/man/man8/{mount,umount,mkfs,fsck}.littlefs.8 \
        "$dest$share/man/man8/mount.fuse.littlefs.8" "$dest$share/man/man8/umount.fuse.littlefs.8" \
        "$dest$share/bash-completion/completions/littlefs" \
        "$dest$share/zsh/site-functions/_littlefs" \
        "$dest$share/fish/vendor_completions.d/littlefs.fish" \
        "$dest$share/mime/packages/littlefs.xml" \
        "$dest$share/applications/littlefs.desktop" \
        "$dest$units/littlefs@.service"
    rm -rf "$dest$share/doc/littlefs-progs" "$dest$share/littlefs-progs"
    if [ -z "$dest" ]; then
        remove_magic
        update_databases
    fi
    for link in "${links[@]}"; do remove_link "$link"; done
    for name in "${dropins[@]}"; do
        if [ "$(readlink "$dest$prefix/bin/$name" || true)" = littlefs ]; then
            rm "$dest$prefix/bin/$name"
        fi
    done
    echo "removed littlefs-progs from $dest$prefix"
    exit 0
fi

check_compat
if [ -z "$built" ]; then
    # shellcheck source=scripts/deps.sh
    . scripts/deps.sh
    install_run_deps
    CARGO_TARGET_DIR=$target cargo build --release --quiet --locked --features docs \
        ${triple:+--target "$triple"}
    built=$target/${triple:+$triple/}release
fi
rm -rf "$docs"
"$built/littlefs-docs" "$docs"

put 755 "$built/littlefs" "$prefix/bin"
mkdir -p "$dest$sbin"
for link in "${links[@]}"; do put_link "$link"; done
for name in "${compat[@]}"; do ln -sfn littlefs "$dest$prefix/bin/$name"; done
for page in "$docs"/man1/*; do put 644 "$page" "$share/man/man1"; done
for page in "$docs"/man8/*; do put 644 "$page" "$share/man/man8"; done
for helper in mount umount; do
    echo ".so man8/$helper.littlefs.8" >"$docs/$helper.fuse.littlefs.8"
    put 644 "$docs/$helper.fuse.littlefs.8" "$share/man/man8"
done
put 644 "$docs/completions/littlefs.bash" "$share/bash-completion/completions" littlefs
put 644 "$docs/completions/_littlefs" "$share/zsh/site-functions"
put 644 "$docs/completions/littlefs.fish" "$share/fish/vendor_completions.d"
sed "s|/usr/bin/littlefs|$prefix/bin/littlefs|g" systemd/littlefs@.service >"$docs/littlefs@.service"
put 644 "$docs/littlefs@.service" "$units"
put 644 scripts/desktop/littlefs.xml "$share/mime/packages"
put 644 scripts/desktop/littlefs.desktop "$share/applications"
put 644 scripts/desktop/magic "$share/littlefs-progs"
for example in systemd/examples/*; do put 644 "$example" "$share/doc/littlefs-progs/examples"; done
put 644 README.md "$share/doc/littlefs-progs"
for page in docs/*.md; do put 644 "$page" "$share/doc/littlefs-progs/docs"; done
if [ -z "$dest" ]; then
    put_magic
    update_databases
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
    fi
fi
echo "installed littlefs-progs in $dest$prefix"
