#!/usr/bin/env bash
# Test the Debian package with a running systemd: services, mounts at boot and on demand, and the
# content of the images after stops, kills and poweroffs.
#
# usage: scripts/test-systemd.sh [--built DIR]
#
# --built DIR  build nothing, and test the programs littlefs and littlefs-docs in DIR, which is an
#              absolute path
#
# Makes a small Debian in target/systemd-root once (with debootstrap), and boots it in a container
# of systemd-nspawn. The container writes neither there nor elsewhere on this system. Needs root (or
# sudo) and /dev/fuse. The last line is "systemd: N passed, N failed".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${1-}" != --as-root ]; then
    # shellcheck source=scripts/deps.sh
    . scripts/deps.sh
    install_systemd_deps
    scripts/deb.sh "$@"
    if [ "$(id -u)" -eq 0 ]; then
        exec "$0" --as-root "$@"
    fi
    exec sudo -n "$0" --as-root "$@"
fi
shift

root=$PWD/target/systemd-root
case ${1-} in
--built) littlefs=$2/littlefs ;;
*) littlefs=$PWD/target/release/littlefs ;;
esac
# The second line is for what recognises images: file(1) and desktops.
packages=systemd,systemd-sysv,dbus,fuse3,mount,util-linux,procps
packages+=,file,xdg-utils,shared-mime-info,desktop-file-utils,libglib2.0-bin
if [ "$(cat "$root/complete" 2>/dev/null)" != "$packages" ]; then
    echo "making $root"
    rm -rf "$root"
    debootstrap --variant=minbase --include="$packages" bookworm "$root" >"$root.log" 2>&1 || {
        tail "$root.log"
        exit 1
    }
    umount "$root/proc" 2>/dev/null || true
    rm -rf "$root"/var/cache/apt/archives/*.deb
    # No terminals and no timers: nobody is at a terminal, and timers may wait for a network.
    rm -f "$root"/etc/systemd/system/{getty.target.wants/*,timers.target.wants/*}
    echo "$packages" >"$root/complete"
fi

work=$(mktemp -d /tmp/littlefs-systemd.XXXXXX)
chmod 755 "$work"
mkdir "$work/srv" "$work/mnt"
container=
cleanup() {
    ! mountpoint -q "$work/mnt" || umount -l "$work/mnt" || true
    if [ -n "$container" ] && kill -0 "$container" 2>/dev/null; then
        kill "$container" || true
        wait "$container" || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

# guest SCRIPT [ARGUMENT...]: run the script in the container, as root. In it, `refused COMMAND`
# demands that the command fails.
guest() {
    local script="refused() { if \"\$@\"; then echo \"not refused: \$*\"; exit 1; fi; }; $1"
    timeout 120 nsenter -a -t "$init" -- env -i PATH=/usr/sbin:/usr/bin HOME=/root sh -euc "$script" "${@:2}" \
        </dev/null
}

boot() {
    # 'littlefs attach' needs pidfd_getfd, which systemd-nspawn does not allow by default.
    systemd-nspawn --quiet --directory "$root" --volatile=overlay --register=no --keep-unit \
        --system-call-filter=pidfd_getfd \
        --bind=/dev/fuse --bind=/dev/autofs --bind="$work/srv:/srv" --boot >"$work/console" 2>&1 </dev/null &
    container=$!
    local try
    for try in $(seq 600); do
        init=$(ps -o pid= --ppid "$container" | tr -d ' ' || true)
        if [ -n "$init" ] && guest 'systemctl is-system-running --wait' 2>/dev/null |
            grep -qE 'running|degraded'; then
            return 0
        fi
        sleep 0.2
    done
    echo "the container has not booted after $try tries" >&2
    tail "$work/console" >&2
    return 1
}

image() { # NAME: make a new image, which is /srv/NAME in the container
    "$littlefs" mkfs --size 8M "$work/srv/$1" >/dev/null
}
unit() { echo "littlefs@srv-$1.service"; }
mnt() { echo "/run/littlefs/srv-$1"; }

# holds NAME FILE TEXT: check that the image is sound, and that FILE in it begins with the line TEXT
holds() {
    "$littlefs" check "$work/srv/$1" >&2 &&
        "$littlefs" mount -o ro "$work/srv/$1" "$work/mnt" >&2 || return 1
    local found
    found=$(head -n 1 "$work/mnt/$2")
    "$littlefs" umount "$work/mnt"
    [ "$found" = "$3" ] || {
        echo "$1: $2 holds '$found', not '$3'" >&2
        return 1
    }
}

passed=0 failed=0
check() { # NAME FUNCTION
    local log=$work/log status
    date +%T >"$work/srv/since"
    # Not in a condition, because there `set -e` has no effect.
    set +e
    SECONDS=0
    (set -e; "$2") >"$log" 2>&1
    status=$?
    printf '%3d s  %s\n' "$SECONDS" "$1"
    set -e
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1"
        sed 's/^/    /' "$log"
        guest 'journalctl --no-pager --since "$(cat /srv/since)"' 2>/dev/null | sed 's/^/    /' || true
    fi
}

package_installs() {
    cp target/littlefs-progs.deb "$work/srv/"
    guest '
        dpkg -i /srv/littlefs-progs.deb
        littlefs --version
        for link in mount umount mkfs fsck; do [ -x "$(command -v $link.littlefs)" ]; done
        for page in 1/littlefs 1/littlefs-mount 1/littlefs-check 8/mount.littlefs 8/fsck.littlefs; do
            [ -s "/usr/share/man/man${page%/*}/${page#*/}.${page%/*}.gz" ]
        done
        grep -q umount /usr/share/bash-completion/completions/littlefs
        mkfs -t littlefs --size 1M /srv/made
        fsck -t littlefs -a /srv/made'
}

others_recognise_images() {
    guest '
        littlefs mkfs --size 1M /srv/known.img
        said=$(file --brief /srv/known.img)
        echo "$said"
        [ "$said" = "littlefs filesystem, version 2.1, 256 blocks of 4096 bytes" ]
        # The way of GNOME is to ask GIO, which reads the database of types; others ask file(1).
        export XDG_CURRENT_DESKTOP=GNOME
        [ "$(xdg-mime query filetype /srv/known.img)" = application/x-littlefs ]
        [ "$(xdg-mime query default application/x-littlefs)" = littlefs.desktop ]
        rm /srv/known.img'
}

units_verify() {
    local said
    said=$(guest '
        mkdir -p /etc/systemd/system /var/lib
        cp /usr/share/doc/littlefs-progs/examples/srv-flash.* /etc/systemd/system/
        sed -i "s|/srv/flash|/flash|; s|/var/lib|/srv|" /etc/systemd/system/srv-flash.*
        cd /etc/systemd/system
        mv srv-flash.mount flash.mount && mv srv-flash.automount flash.automount
        systemctl daemon-reload
        systemd-analyze verify --man=no flash.mount flash.automount \
            littlefs@srv-first.service littlefs@dev-sdb1.service' 2>&1)
    [ -z "$said" ] || { echo "$said" && return 1; }
}

service_is_hardened() {
    local level
    level=$(guest 'systemd-analyze security --no-pager littlefs@srv-first.service' |
        sed -n 's/.*Overall exposure level.*: \([0-9.]*\).*/\1/p')
    echo "exposure level: $level"
    awk -v level="$level" 'BEGIN { exit !(level != "" && level <= 3.0) }'
}

service_starts_writes_stops() {
    image first
    guest '
        systemctl start "$1"
        systemctl is-active "$1"
        echo kept >"$2/file"
        systemctl stop "$1"
        refused mountpoint -q "$2"
        [ "$(systemctl show -p Result --value "$1")" = success ]
    ' sh "$(unit first)" "$(mnt first)"
    holds first file kept
}

service_runs_as_told() {
    guest '
        mkdir -p "/run/systemd/system/$1.d"
        printf "[Service]\nEnvironment=MOUNT_OPTIONS=allow_other,noatime\n" >"/run/systemd/system/$1.d/o.conf"
        systemctl daemon-reload
        systemctl start "$1"
        [ "$(findmnt -no SOURCE,FSTYPE "$2" | tr -s " ")" = "/srv/first fuse.littlefs" ]
        findmnt -no OPTIONS "$2" | grep noatime | grep nodev | grep allow_other
        df "$2" | grep ^/srv/first
        status=/proc/$(systemctl show -p MainPID --value "$1")/status
        grep "^CapBnd:.*0000000000000002$" "$status"
        grep "^CapEff:.*0000000000000002$" "$status"
        grep "^NoNewPrivs:.*1$" "$status"
        grep "^Seccomp:.*2$" "$status"
        systemctl restart "$1"
        [ "$(cat "$2/file")" = kept ]
        echo again >"$2/file"
        systemctl stop "$1"
        rm -r "/run/systemd/system/$1.d"
        systemctl daemon-reload
    ' sh "$(unit first)" "$(mnt first)"
    holds first file again
}

service_tells_and_logs_as_asked() {
    image asked
    guest '
        systemctl start "$1"
        littlefs status "$2" | grep "^daemon  *process $(systemctl show -p MainPID --value "$1"),"
        mkdir -p /etc/littlefs
        echo debug >/etc/littlefs/log
        systemctl reload "$1"
        mkdir "$2/dir" "$2/dir/below"
        for i in $(seq 100); do
            refused rmdir "$2/dir"
            journalctl -u "$1" -o cat --no-pager | grep "rmdir: .*not empty" && break
            sleep 0.1
        done
        [ "$i" -lt 100 ]
        rm -r /etc/littlefs
        systemctl reload "$1"
        systemctl stop "$1"
        # The journal names each mount, whoever made it.
        journalctl -u "$1" -p 6 -o cat --no-pager | grep "^/srv/asked on $2: littlefs 2.1, "
        littlefs mount -q /srv/asked /mnt
        littlefs umount /mnt
        journalctl -t littlefs -p 6 -o cat --no-pager | grep "^/srv/asked on /mnt: littlefs 2.1, "
    ' sh "$(unit asked)" "$(mnt asked)"
}

errors_reach_the_journal() {
    guest '
        refused systemctl start "$1"
        systemctl stop "$1"
        journalctl -u "$1" -p err -o cat --no-pager | grep "^/srv/absent: no such file"
    ' sh "$(unit absent)"
}

killed_daemon_is_restarted() {
    image killed
    guest '
        systemctl start "$1"
        echo durable >"$2/file"
        sync "$2/file"
        # From this, the kernel learns that it need not ask the daemon to open a directory. So it
        # also opens directories of a dead mount.
        ls "$2"
        pid=$(systemctl show -p MainPID --value "$1")
        kill -KILL "$pid"
        for i in $(seq 100); do
            [ "$(cat "$2/file" 2>/dev/null)" = durable ] && break
            sleep 0.1
        done
        echo more >"$2/more"
        [ "$(systemctl show -p MainPID --value "$1")" != "$pid" ]
        # A daemon that is killed and not restarted leaves no mount behind.
        mkdir -p "/run/systemd/system/$1.d"
        printf "[Service]\nRestart=no\n" >"/run/systemd/system/$1.d/r.conf"
        systemctl daemon-reload
        ls "$2"
        sync "$2"
        systemctl kill --signal=KILL "$1"
        for i in $(seq 100); do
            systemctl is-failed --quiet "$1" && break
            sleep 0.1
        done
        systemctl is-failed "$1"
        refused mountpoint -q "$2"
        rm -r "/run/systemd/system/$1.d"
        systemctl daemon-reload
        systemctl start "$1"
        [ "$(cat "$2/more")" = more ]
        systemctl stop "$1"
    ' sh "$(unit killed)" "$(mnt killed)"
    holds killed file durable
    holds killed more more
}

hung_daemon_is_restarted() {
    image hung
    guest '
        mkdir -p "/run/systemd/system/$1.d"
        printf "[Service]\nWatchdogSec=2\n" >"/run/systemd/system/$1.d/w.conf"
        systemctl daemon-reload
        systemctl start "$1"
        sleep 5
        [ "$(systemctl show -p NRestarts --value "$1")" = 0 ]
        kill -STOP "$(systemctl show -p MainPID --value "$1")"
        for i in $(seq 150); do
            [ "$(systemctl show -p NRestarts --value "$1")" = 1 ] && break
            sleep 0.1
        done
        systemctl is-active "$1" || sleep 3
        echo alive >"$2/file"
        systemctl stop "$1"
    ' sh "$(unit hung)" "$(mnt hung)"
    holds hung file alive
}

automount_on_first_access() {
    image flash.img
    guest '
        systemctl start flash.automount
        refused systemctl is-active --quiet flash.mount
        ls /flash
        systemctl is-active flash.mount
        echo automounted >/flash/file
        head -c 3000000 /dev/urandom >/flash/more
        systemctl stop flash.mount
        before=$(sha256sum </srv/flash.img)
        flock --nonblock /srv/flash.img true
        sleep 1
        [ "$before" = "$(sha256sum </srv/flash.img)" ]
        [ "$(cat /flash/file)" = automounted ]
        systemctl stop flash.automount flash.mount'
    holds flash.img file automounted
}

image_path_disappears() {
    image gone
    guest '
        systemctl start "$1"
        echo before >"$2/file"
        mv /srv/gone /srv/elsewhere
        echo during >"$2/file"
        systemctl stop "$1"
        refused systemctl start "$1"
        systemctl stop "$1"
        mv /srv/elsewhere /srv/gone
        systemctl start "$1"
        [ "$(cat "$2/file")" = during ]
        systemctl stop "$1"
    ' sh "$(unit gone)" "$(mnt gone)"
    holds gone file during
}

# Before the filesystem that holds an image is unmounted, the service is stopped. For an image that
# is a device, the drop-in makes systemd do so.
what_holds_the_image_disappears() {
    guest '
        printf "[Mount]\nWhat=none\nWhere=/media/stick\nType=tmpfs\n" >/run/systemd/system/media-stick.mount
        systemctl daemon-reload
        systemctl start media-stick.mount
        littlefs mkfs --size 1M /media/stick/image
        systemctl start "$1"
        echo written >/run/littlefs/media-stick-image/file
        systemctl stop media-stick.mount
        refused systemctl is-active "$1"
        refused mountpoint -q /media/stick
        refused mountpoint -q /run/littlefs/media-stick-image
        mkdir -p /run/systemd/system/littlefs@dev-sdb1.service.d
        cp /usr/share/doc/littlefs-progs/examples/device.conf /run/systemd/system/littlefs@dev-sdb1.service.d/
        systemctl daemon-reload
        systemctl show -p BindsTo --value littlefs@dev-sdb1.service | grep "^dev-sdb1.device$"
    ' sh littlefs@media-stick-image.service
}

# All data that the daemon has confirmed to a program is on disk.
stop_during_heavy_writing() {
    image busy
    guest '
        systemctl start "$1"
        (
            # This loop keeps the mount in use, so it cannot be unmounted. Instead, the daemon stops
            # answering, and the loop ends when a command fails.
            cd "$2"
            exec >/srv/ledger
            i=0
            while i=$((i + 1)); echo "$i" >"$i.tmp" && sync "$i.tmp" && mv "$i.tmp" "$i" && sync .; do
                echo "$i"
            done
        ) 2>/dev/null &
        head -c 4000000 /dev/urandom >"$2/large"
        sleep 2
        systemctl stop "$1"
        refused mountpoint -q "$2"
        wait
        [ "$(wc -l </srv/ledger)" -gt 5 ]
    ' sh "$(unit busy)" "$(mnt busy)"
    "$littlefs" check "$work/srv/busy"
    "$littlefs" mount -o ro "$work/srv/busy" "$work/mnt"
    local ok=true i
    while read -r i; do
        [ "$(cat "$work/mnt/$i")" = "$i" ] || { echo "$i was synced, but is lost" && ok=false; }
    done <"$work/srv/ledger"
    "$littlefs" umount "$work/mnt"
    $ok
}

# Power off while everything is dirty and files are open for writing, in images that are mounted by
# a service, by fstab, by an automount and by hand.
poweroff_writes_everything() {
    local name
    for name in service fstab byhand; do image "$name"; done
    guest '
        echo "/srv/fstab /mnt littlefs commit=3600,nofail 0 2" >>/etc/fstab
        systemctl daemon-reload
        mount -a
        mkdir -p "/run/systemd/system/$1.d" /media/byhand
        printf "[Service]\nEnvironment=MOUNT_OPTIONS=commit=3600\n" >"/run/systemd/system/$1.d/o.conf"
        systemctl daemon-reload
        systemctl start "$1" flash.automount
        systemd-run --quiet --scope littlefs mount -o commit=3600 /srv/byhand /media/byhand
        for dir in "$2" /mnt /flash /media/byhand; do
            systemd-run --quiet sh -c "
                echo dirty >$dir/dirty
                head -c 2000000 /dev/zero >$dir/large
                exec 3>$dir/open
                echo open >&3
                echo done >$dir/ready
                while echo line >&3; do :; done"
        done
        for dir in "$2" /mnt /flash /media/byhand; do
            for i in $(seq 100); do [ -e "$dir/ready" ] && break; sleep 0.1; done
            [ "$(cat "$dir/ready")" = "done" ]
        done
        systemctl poweroff
    ' sh "$(unit service)" "$(mnt service)"
    local try
    for try in $(seq 1200); do
        kill -0 "$container" 2>/dev/null || break
        sleep 0.1
    done
    echo "the poweroff took $try tenths of a second"
    ! kill -0 "$container" 2>/dev/null || {
        tail "$work/console"
        return 1
    }
    for name in service fstab flash.img byhand; do
        holds "$name" dirty dirty
        holds "$name" open open
        holds "$name" ready "done"
        "$littlefs" mount -o ro "$work/srv/$name" "$work/mnt"
        cmp -n 2000000 /dev/zero "$work/mnt/large"
        "$littlefs" umount "$work/mnt"
    done
}

boot
check "the package installs" package_installs
check "file(1) and desktops recognise images" others_recognise_images
check "systemd-analyze verify" units_verify
check "systemd-analyze security" service_is_hardened
check "start, write, stop" service_starts_writes_stops
check "options, rights, restart" service_runs_as_told
check "a service shows its state, and logs what it is told to" service_tells_and_logs_as_asked
check "errors reach the journal" errors_reach_the_journal
check "a killed daemon is restarted" killed_daemon_is_restarted
check "a hung daemon is restarted" hung_daemon_is_restarted
check "automount on first access" automount_on_first_access
check "the image's path disappears" image_path_disappears
check "what holds the image disappears" what_holds_the_image_disappears
check "stop during heavy writing" stop_during_heavy_writing
check "poweroff writes everything" poweroff_writes_everything
echo "systemd: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
