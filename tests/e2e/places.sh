#!/usr/bin/env bash
# What workspaces do to the agent: `gitpod/` and the real binary under each platform's process tree, environment, PID 1 and
# signals. Each platform runs in namespaces of its own (processes, mounts, network), with nothing of this machine but
# its programs. Without the right to make such namespaces, the exit code is 77.
#
#   tests/e2e/places.sh [BINARY]   a static one, if it is to run in a root without a C library too
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
here=$PWD/tests/e2e/places
export PLACES_SOURCE=$PWD PLACES_RELEASE=$PWD/target/e2e/places

binary=${1:-}
if [ -z "$binary" ]; then
    cargo build --quiet || exit 1
    binary=target/debug/tagalong
fi
# Packed as a release is, so that what install.sh asks for is what there is.
mkdir -p "$PLACES_RELEASE"
rm -f "$PLACES_RELEASE"/*.tar.gz
export DIST_DIR=$PLACES_RELEASE
# A debug binary is ten times the size with what debuggers want.
strip -o "$PLACES_RELEASE/tagalong" "$binary" 2>/dev/null || cp "$binary" "$PLACES_RELEASE/tagalong"
{ .ci/dist pack "$PLACES_RELEASE/tagalong" && .ci/dist sums && .ci/dist feature; } >/dev/null || exit 1

spaces=(--mount --pid --net --fork --mount-proc --kill-child)
[ "$(id -u)" = 0 ] || spaces+=(--user --map-root-user)
for program in unshare nsenter chroot setpriv python3 curl; do
    if ! command -v "$program" >/dev/null; then
        echo "places: skipped: there is no $program here" >&2
        exit 77
    fi
done
# With a root of its own, as each of them will have.
if ! unshare "${spaces[@]}" sh -c 'mount -t tmpfs tmpfs /mnt && unshare --pid --mount --fork --mount-proc true' 2>/dev/null; then
    echo 'places: skipped: no namespaces can be made here' >&2
    exit 77
fi

# No place has a network to fetch it from.
if ! command -v sshd >/dev/null && command -v apt-get dpkg-deb >/dev/null && [ ! -e "$PLACES_RELEASE/sshd" ]; then
    (
        mkdir -p "$PLACES_RELEASE/sshd" && cd "$PLACES_RELEASE/sshd" &&
            apt-get download openssh-server libwrap0 &&
            for package in *.deb; do dpkg-deb -x "$package" .; done
    ) >/dev/null 2>&1 || rm -rf "$PLACES_RELEASE/sshd"
fi

# play PLACE: in namespaces of its own; says how it went, and notes a failure.
play() {
    local log=$PLACES_RELEASE/$1.log begun=$SECONDS code=0
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        PLACES_SOURCE="$PLACES_SOURCE" PLACES_RELEASE="$PLACES_RELEASE" \
        timeout --kill-after=5 120 unshare "${spaces[@]}" bash "$here/$1.sh" </dev/null >"$log" 2>&1 || code=$?
    case $code in
    0) echo "places: $1: $(grep -c '^ok ' "$log") promises kept, $((SECONDS - begun)) s" ;;
    77) echo "places: $1: skipped: $(tail -n 1 "$log")" ;;
    *)
        touch "$PLACES_RELEASE/failed"
        printf 'places: %s failed (%s); the end of %s:\n%s\n' "$1" "$code" "$log" "$(tail -n 40 "$log")" >&2
        ;;
    esac
}

# Two at a time, the one that waits longest first.
rm -f "$PLACES_RELEASE/failed"
for place in ssh gitpod systemd ona devcontainer coder shells siblings clone bare; do
    [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
    play "$place" &
done
wait
[ ! -e "$PLACES_RELEASE/failed" ]
