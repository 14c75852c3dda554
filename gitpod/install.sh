#!/bin/sh
# Installs the tagalong binary, and completions for the shells that are here. It installs and does not start: what it
# leaves may become part of a prebuild or of an image, and there it needs no network but for a download, and no token.
# Whatever goes wrong is said in one line, and the task goes on: this script ends with 0, unless TAGALONG_STRICT is set.
#
# What is installed, the first of these that is set:
#   TAGALONG_BINARY   a file that is there already: the binary that a build has just made, or a release's archive
#   TAGALONG_VERSION  a release, such as 0.1.0; nothing is downloaded if this version is installed
# Nothing at all is done where TAGALONG_DISABLED is 1, true, yes or on.
#
# How far it is believed:
#   TAGALONG_SHA256   the archive's checksum. Without it the one in the release's SHA256SUMS is used: from a file, the
#                     SHA256SUMS beside it
#   TAGALONG_SIGNERS  public SSH keys, one a line; SHA256SUMS must then be signed by one of them (SHA256SUMS.sig).
#                     Without ssh-keygen that cannot be checked, and is said
#
# Where from, where to:
#   TAGALONG_RELEASES where releases are: https or file, http on loopback alone
#   TAGALONG_BIN      where the binary goes. Else bin below TAGALONG_HOME; else below /workspace/.tagalong in Gitpod, where
#                     nothing else outlives a stop; else /usr/local/bin for root; else ~/.local/bin
#   TAGALONG_STRICT   1: fail where the install fails, as an image's build may want it
set -u

releases=${TAGALONG_RELEASES:-https://github.com/tagalong-dev/tagalong/releases/download}
signers=${TAGALONG_SIGNERS:-}
scratch=
bin=

say() {
    printf 'tagalong: %s\n' "$*" >&2
}

leave() {
    [ -z "$scratch" ] || rm -rf "$scratch"
    exit "${1:-0}"
}

# Says what happened and what to do, and lets the task go on.
give_up() {
    say "$1"
    say "${2:-The workspace works as before, without telemetry.}"
    case ${TAGALONG_STRICT:-} in 1 | true) leave 1 ;; esac
    leave 0
}

# One static binary for each, whatever the C library is.
architecture() {
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64 | Linux-amd64) echo x86_64-linux ;;
        Linux-aarch64 | Linux-arm64) echo aarch64-linux ;;
        *) return 1 ;;
    esac
}

# Small images have no certificates of authorities; curl and wget of GNU tell that from other failures.
untrusted() {
    give_up "The certificate of ${1%"${1#*://*/}"} is not trusted here, so nothing was downloaded." \
        "Install ca-certificates, or set TAGALONG_BINARY to a file."
}

# download URL FILE
download() {
    case $1 in
        file:///*)
            cp "${1#file://}" "$2" 2>/dev/null
            return
            ;;
        # What stands before an @ is no host.
        *@*) return 1 ;;
        https://* | http://127.0.0.1[:/]* | http://localhost[:/]*) ;;
        *) return 1 ;;
    esac
    if command -v curl >/dev/null 2>&1; then
        curl --fail --silent --location --proto '=https,http' --proto-redir '=https' --retry 2 \
            --connect-timeout 10 --max-time 120 --output "$2" "$1" 2>/dev/null && return
        case $? in 60 | 77) untrusted "$1" ;; *) return 1 ;; esac
    elif command -v wget >/dev/null 2>&1; then
        # The letters that busybox knows too. It tries once; GNU's would try twenty times.
        tries=
        ! wget --version >/dev/null 2>&1 || tries=--tries=2
        wget -q -T 30 ${tries:+"$tries"} -O "$2" "$1" 2>/dev/null && return
        case $? in 5) untrusted "$1" ;; *) return 1 ;; esac
    else
        give_up "Neither curl nor wget is here, so nothing could be downloaded." \
            "Install one of them, or set TAGALONG_BINARY to a file."
    fi
}

checksum() {
    { sha256sum "$1" || shasum -a 256 "$1" || openssl dgst -r -sha256 "$1"; } 2>/dev/null | {
        read -r sum _ && printf '%s' "$sum"
    }
}

# listed ARCHIVE: what SHA256SUMS says of it.
listed() {
    # The last line too, if it does not end.
    while read -r sum name _ || [ -n "$sum" ]; do
        [ "${name#\*}" != "$1" ] || printf '%s' "$sum"
    done <"$scratch/SHA256SUMS"
}

# Nothing to hold it against, or nothing to do that with, is said; a signature that is wrong or left out is refused.
check_signature() {
    if [ -z "$signers" ]; then
        say "TAGALONG_SIGNERS is not set, so the checksum is believed without a signature."
        return
    fi
    if ! command -v ssh-keygen >/dev/null 2>&1; then
        say "ssh-keygen is not here, so the checksum is believed without its signature."
        return
    fi
    [ -s "$scratch/SHA256SUMS.sig" ] || give_up "The checksums of $1 are not signed, so it was not installed."
    printf '%s\n' "$signers" | while read -r key; do
        [ -z "$key" ] || printf 'release namespaces="tagalong-release" %s\n' "$key"
    done >"$scratch/signers"
    said=$(ssh-keygen -Y verify -f "$scratch/signers" -I release -n tagalong-release \
        -s "$scratch/SHA256SUMS.sig" <"$scratch/SHA256SUMS" 2>&1) && return
    case $said in
        *'unknown option'* | *'illegal option'* | *'invalid option'*)
            say "This ssh-keygen cannot check signatures, so the checksum is believed without its own."
            ;;
        *) give_up "The signature of the checksums of $1 is wrong, so it was not installed." ;;
    esac
}

# check ARCHIVE NAME: an archive whose checksum nobody gives is not installed.
check() {
    expected=$(printf '%s' "${TAGALONG_SHA256:-}" | tr 'A-F' 'a-f')
    if [ -z "$expected" ]; then
        [ -s "$scratch/SHA256SUMS" ] || give_up "$2 has no checksum, so it was not installed." \
            "Set TAGALONG_SHA256, or put SHA256SUMS beside it."
        check_signature "$2"
        expected=$(listed "$2")
        [ -n "$expected" ] || give_up "SHA256SUMS does not name $2, so it was not installed."
    fi
    [ "$(checksum "$1")" = "$expected" ] || give_up "The checksum of $2 is wrong, so it was not installed."
}

# unpack ARCHIVE NAME: the one member by name, so an archive gets to write nowhere else; and no link, so nothing else that
# is here gets another mode.
unpack() {
    if ! tar -xzf "$1" -C "$scratch" tagalong 2>/dev/null || [ ! -f "$scratch/tagalong" ] || [ -L "$scratch/tagalong" ]; then
        give_up "$2 holds no file named tagalong, so nothing was installed."
    fi
}

# By rename, so that a running agent keeps its old file and nobody meets half a binary.
place() {
    [ ! -d "$bin/tagalong" ] || give_up "$bin/tagalong is a directory." "Set TAGALONG_BIN to another one."
    chmod 755 "$scratch/tagalong" || return 1
    "$scratch/tagalong" --version >/dev/null 2>&1 </dev/null || return 1
    mv -f "$scratch/tagalong" "$bin/tagalong"
}

install_file() {
    [ -f "$1" ] || give_up "There is no file $1." "Build it first, or set TAGALONG_VERSION."
    case $1 in
        *.tar.gz | *.tgz)
            beside=$(dirname "$1")
            for name in SHA256SUMS SHA256SUMS.sig; do
                [ ! -f "$beside/$name" ] || cp "$beside/$name" "$scratch/$name"
            done
            check "$1" "${1##*/}"
            unpack "$1" "${1##*/}"
            ;;
        *)
            ! cmp -s "$1" "$bin/tagalong" || return 0
            cp "$1" "$scratch/tagalong" || give_up "$1 could not be copied to $bin."
            ;;
    esac
    place || give_up "$1 does not run here." "Take the one for $(uname -s) on $(uname -m)."
}

install_release() {
    case $1 in
        *[!0-9A-Za-z.+-]*) give_up "$1 is no version." "Set TAGALONG_VERSION to one such as 0.1.0." ;;
    esac
    case "$("$bin/tagalong" --version 2>/dev/null </dev/null)" in
        "tagalong $1" | "tagalong $1 "*) return ;;
    esac
    machine=$(architecture) || give_up "There is no release for $(uname -s) on $(uname -m)." \
        "Build it, and set TAGALONG_BINARY."
    archive=tagalong-$1-$machine.tar.gz
    from=$releases/v$1
    download "$from/$archive" "$scratch/$archive" ||
        give_up "The release $1 could not be had from $from/$archive." "Check the version, or set TAGALONG_BINARY."
    if [ -z "${TAGALONG_SHA256:-}" ]; then
        download "$from/SHA256SUMS" "$scratch/SHA256SUMS" || rm -f "$scratch/SHA256SUMS"
        [ -z "$signers" ] || download "$from/SHA256SUMS.sig" "$scratch/SHA256SUMS.sig" || rm -f "$scratch/SHA256SUMS.sig"
    fi
    check "$scratch/$archive" "$archive"
    unpack "$scratch/$archive" "$archive"
    place || give_up "The release $1 does not run here." "Build it, and set TAGALONG_BINARY."
}

# completion SHELL FILE
completion() {
    command -v "$1" >/dev/null 2>&1 && mkdir -p "${2%/*}" 2>/dev/null || return 0
    "$bin/tagalong" completions "$1" >"$scratch/completion" 2>/dev/null </dev/null && [ -s "$scratch/completion" ] || return 0
    cmp -s "$scratch/completion" "$2" || cp "$scratch/completion" "$2" 2>/dev/null || :
}

# Where each shell looks by itself: zsh only below /usr/local, and fish not there unless XDG_DATA_DIRS says so. A Gitpod prebuild keeps none of it: start.sh does it there.
completions() {
    [ "${GITPOD_HEADLESS:-}" != true ] || return 0
    share=/usr/local/share fish=/etc/fish/completions
    if [ "$bin" != /usr/local/bin ]; then
        share=${XDG_DATA_HOME:-${HOME:-}/.local/share}
        fish=$share/fish/vendor_completions.d
        case $share in /.local/share) return 0 ;; esac
    fi
    completion bash "$share/bash-completion/completions/tagalong"
    completion zsh "$share/zsh/site-functions/_tagalong"
    completion fish "$fish/tagalong.fish"
}

# choose_bin: sets bin, and who may read what is made.
choose_bin() {
    umask 077
    if [ -n "${TAGALONG_BIN:-}" ]; then
        bin=$TAGALONG_BIN
    elif [ -n "${TAGALONG_HOME:-}" ]; then
        bin=$TAGALONG_HOME/bin
    elif [ -n "${GITPOD_WORKSPACE_ID:-}" ]; then
        bin=/workspace/.tagalong/bin
    elif [ "$(id -u)" = 0 ]; then
        bin=/usr/local/bin
    else
        bin=${HOME:-}/.local/bin
    fi
    case $bin in /usr/* | /opt/*) umask 022 ;; esac
}

case ${TAGALONG_DISABLED:-} in 1 | [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn]) leave ;; esac
trap 'give_up "The install was interrupted."' HUP INT TERM
choose_bin
# Beside its final place: a rename does not cross file systems. What an install left that was killed goes a day later.
find "$bin" -maxdepth 1 -name '.tagalong-new.??????' -mtime +0 -exec rm -rf {} + 2>/dev/null
if ! mkdir -p "$bin" 2>/dev/null || ! scratch=$(mktemp -d "$bin/.tagalong-new.XXXXXX" 2>/dev/null); then
    give_up "$bin cannot be written." "Set TAGALONG_BIN to a directory that lasts."
fi

if [ -n "${TAGALONG_BINARY:-}" ]; then
    install_file "$TAGALONG_BINARY"
elif [ -n "${TAGALONG_VERSION:-}" ]; then
    # As tags have it.
    install_release "${TAGALONG_VERSION#v}"
else
    give_up "There is nothing to install: neither TAGALONG_BINARY nor TAGALONG_VERSION is set."
fi
completions
say "installed $("$bin/tagalong" --version 2>/dev/null </dev/null) in $bin"
case $bin:$PATH: in
    "${HOME:-}/.local/bin:"*":$bin:"*) ;;
    "${HOME:-}/.local/bin:$bin:"*) ;;
    "${HOME:-}/.local/bin:"*) say "$bin is not on the PATH, so call it by that name or add it there." ;;
esac
leave
