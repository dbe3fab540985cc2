# Installing what is missing on Debian; sourced by the other scripts.
# shellcheck shell=bash

# install_missing COMMAND:PACKAGE[:PACKAGE...] ...
# Installs the packages of every command that is not there; asks apt nothing when all are.
# COMMAND may be a file pattern (one that holds a slash) instead.
install_missing() {
    local entry command packages=()
    for entry in "$@"; do
        command=${entry%%:*}
        case $command in
        */*) compgen -G "$command" >/dev/null && continue ;;
        *) command -v "$command" >/dev/null && continue ;;
        esac
        IFS=: read -ra entry <<<"${entry#*:}"
        packages+=("${entry[@]}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0

    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "missing packages: ${packages[*]} (install them as root)" >&2
            return 1
        }
        as_root=(sudo)
    fi
    echo "installing: ${packages[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
}

# What building and mounting need.
install_run_deps() {
    command -v cargo >/dev/null || {
        echo "no cargo here: install Rust 1.89 or newer, as https://rustup.rs tells" >&2
        return 1
    }
    install_missing cc:gcc:libc6-dev fusermount3:fuse3
}

# install_rust_target TARGET...: Rust's standard library for other targets than this machine's own.
install_rust_target() {
    local target missing=()
    for target in "$@"; do
        [ -d "$(rustc --print target-libdir --target "$target")" ] || missing+=("$target")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if command -v rustup >/dev/null && rustup target add "${missing[@]}"; then return 0; fi
    cat >&2 <<END
Rust's standard library is missing for: ${missing[*]}
It could not be installed. Where rustup reaches the network:
    rustup target add ${missing[*]}
With the Rust of a distribution, install its packages of libstd-rust-dev for these targets.
END
    return 1
}

# install_static_deps: what building the program without shared libraries needs. Sets static_target.
install_static_deps() {
    local machine
    machine=$(uname -m)
    case $machine in
    armv7l) static_target=armv7-unknown-linux-musleabihf ;;
    *) static_target=$machine-unknown-linux-musl ;;
    esac
    install_run_deps && install_missing musl-gcc:musl-tools && install_rust_target "$static_target"
}

# What scripts/deb.sh needs.
install_deb_deps() {
    install_run_deps
    install_missing dpkg-shlibdeps:dpkg-dev
}

# What scripts/posix.sh needs.
install_posix_deps() {
    install_run_deps
    install_missing stress-ng:stress-ng
}

# What scripts/test-systemd.sh needs.
install_systemd_deps() {
    install_deb_deps
    install_missing debootstrap:debootstrap systemd-nspawn:systemd-container nsenter:util-linux
}

# What the tests need besides: the C driver (bindgen wants libclang), and programs run on mounts.
install_test_deps() {
    install_run_deps
    install_missing '/usr/lib/llvm-*/lib/libclang.so*:libclang-dev' \
        git:git make:make rsync:rsync sqlite3:sqlite3 vim.tiny:vim-tiny python3:python3 \
        '/usr/lib/python3*/ensurepip*:python3-venv' \
        chromium:chromium gzip:gzip xz:xz-utils zstd:zstd dfu-suffix:dfu-util srec_cat:srecord \
        file:file xdg-mime:xdg-utils gio:libglib2.0-bin update-mime-database:shared-mime-info \
        desktop-file-validate:desktop-file-utils \
        pgrep:procps strace:strace setpriv:util-linux unshare:util-linux findmnt:util-linux lsblk:util-linux losetup:mount
}
