#!/bin/sh
# Leaves the tagalong binary below /workspace, the only place of a Gitpod workspace that outlives a stop.
# For an `init` task. It installs and does not start: what an init task leaves becomes part of a prebuild.
# Whatever goes wrong is said in one line, and the task goes on: this script always ends with 0.
#
#   TAGALONG_BINARY   a binary that is there already, such as the one that a build has just made
#   TAGALONG_VERSION  a release to download instead, such as 0.1.0
#   TAGALONG_SHA256   the checksum of that release's archive; without it the one that is published beside it is used
#   TAGALONG_RELEASES where releases are; only https and file are followed
#   TAGALONG_HOME     where to install, in place of /workspace/.tagalong
set -u

home=${TAGALONG_HOME:-/workspace/.tagalong}
releases=${TAGALONG_RELEASES:-https://github.com/tagalong-dev/tagalong/releases/download}
scratch=

say() {
    printf 'tagalong: %s\n' "$*" >&2
}

leave() {
    [ -z "$scratch" ] || rm -rf "$scratch"
    exit 0
}

# Says what happened and what to do, and lets the task go on.
give_up() {
    say "$1"
    say "${2:-The workspace works as before, without telemetry.}"
    leave
}

target() {
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64) echo x86_64-unknown-linux-gnu ;;
        Linux-aarch64 | Linux-arm64) echo aarch64-unknown-linux-gnu ;;
        *) return 1 ;;
    esac
}

# download URL FILE
download() {
    if command -v curl >/dev/null 2>&1; then
        curl --fail --silent --show-error --location --proto '=https,file' --proto-redir '=https' \
            --connect-timeout 10 --max-time 120 --output "$2" "$1"
    elif command -v wget >/dev/null 2>&1 && [ "${1#https:}" != "$1" ]; then
        wget --quiet --https-only --timeout=30 --output-document="$2" "$1"
    else
        return 1
    fi
}

# place FILE: by rename, so that a running agent keeps its old file and nobody meets half a binary.
place() {
    chmod 755 "$1" || return 1
    "$1" --version >/dev/null 2>&1 </dev/null || return 1
    mv -f "$1" "$home/bin/tagalong"
}

install_binary() {
    [ -f "$TAGALONG_BINARY" ] || give_up "There is no file $TAGALONG_BINARY." "Build it first, or set TAGALONG_VERSION."
    cp "$TAGALONG_BINARY" "$scratch/tagalong" || give_up "$TAGALONG_BINARY could not be copied to $home."
    place "$scratch/tagalong" || give_up "$TAGALONG_BINARY does not run here." "Build it for this machine."
}

install_release() {
    target=$(target) || give_up "There is no release for $(uname -s) on $(uname -m)." "Build it, and set TAGALONG_BINARY."
    archive=tagalong-$TAGALONG_VERSION-$target.tar.gz
    url=$releases/v$TAGALONG_VERSION/$archive
    download "$url" "$scratch/$archive" 2>/dev/null ||
        give_up "The release $TAGALONG_VERSION could not be had from $url." "Check the version, or set TAGALONG_BINARY."
    expected=${TAGALONG_SHA256:-}
    if [ -z "$expected" ]; then
        download "$url.sha256" "$scratch/sha256" 2>/dev/null || give_up "$archive has no checksum, so it was not installed."
        read -r expected _ <"$scratch/sha256" || [ -n "$expected" ] || give_up "The checksum of $archive is empty."
    fi
    actual=$(sha256sum "$scratch/$archive" 2>/dev/null || shasum -a 256 "$scratch/$archive" 2>/dev/null)
    [ "${actual%% *}" = "$expected" ] || give_up "The checksum of $archive is wrong, so it was not installed."
    # The one member by name: an archive gets to write nowhere else.
    tar -xzf "$scratch/$archive" -C "$scratch" tagalong 2>/dev/null ||
        give_up "$archive holds no file named tagalong, so nothing was installed."
    place "$scratch/tagalong" || give_up "The release $TAGALONG_VERSION does not run here." "Build it, and set TAGALONG_BINARY."
}

trap leave HUP INT TERM
umask 077
# Beside its final place: a rename does not cross file systems.
if ! mkdir -p "$home/bin" 2>/dev/null || ! scratch=$(mktemp -d "$home/bin/.new.XXXXXX" 2>/dev/null); then
    give_up "$home/bin cannot be written." "Set TAGALONG_HOME to a directory that lasts."
fi

if [ -n "${TAGALONG_BINARY:-}" ]; then
    install_binary
elif [ -n "${TAGALONG_VERSION:-}" ]; then
    install_release
else
    give_up "There is nothing to install: neither TAGALONG_BINARY nor TAGALONG_VERSION is set."
fi
say "installed $("$home/bin/tagalong" --version 2>/dev/null </dev/null) in $home/bin"
leave
