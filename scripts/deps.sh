# Functions that install missing packages on Debian. The other scripts source this file.
# shellcheck shell=bash

# install_missing COMMAND:PACKAGE[:PACKAGE...] ...
# Installs the packages of every command that is missing. If none is missing, apt-get is not called.
# Instead of a command, COMMAND may be a pattern of file names, which contains a slash.
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

# Install what building and mounting need.
install_run_deps() {
    command -v cargo >/dev/null || {
        echo "cargo was not found: install Rust 1.95 or newer, as https://rustup.rs describes" >&2
        return 1
    }
    install_missing cc:gcc:libc6-dev fusermount3:fuse3
}

# install_rust_target TARGET...: install Rust's standard library for these targets.
install_rust_target() {
    local target missing=()
    for target in "$@"; do
        [ -d "$(rustc --print target-libdir --target "$target")" ] || missing+=("$target")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if command -v rustup >/dev/null && rustup target add "${missing[@]}"; then return 0; fi
    cat >&2 <<END
Rust's standard library is missing for ${missing[*]}, and could not be installed.
If rustup can reach the network, run
    rustup target add ${missing[*]}
If Rust comes from a distribution, install its libstd-rust-dev packages for these targets.
END
    return 1
}

# install_static_deps: install everything that is needed to build the program without shared
# libraries. Sets static_target.
install_static_deps() {
    local machine
    machine=$(uname -m)
    case $machine in
    armv7l) static_target=armv7-unknown-linux-musleabihf ;;
    *) static_target=$machine-unknown-linux-musl ;;
    esac
    install_run_deps && install_missing musl-gcc:musl-tools && install_rust_target "$static_target"
}

# Install what scripts/deb.sh needs.
install_deb_deps() {
    install_run_deps
    install_missing dpkg-shlibdeps:dpkg-dev
}

# Install what scripts/posix.sh needs.
install_posix_deps() {
    install_run_deps
    install_missing stress-ng:stress-ng
}

# Install what scripts/test-systemd.sh needs.
install_systemd_deps() {
    install_deb_deps
    install_missing debootstrap:debootstrap systemd-nspawn:systemd-container nsenter:util-linux
}

# Install what the tests need in addition: for the C driver (bindgen needs libclang), and the
# programs that the tests run on mounts.
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
