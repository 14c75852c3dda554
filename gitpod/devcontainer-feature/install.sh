#!/bin/sh
# The Feature's part of an image's build, as root: the binary, a place for the volume, and the endpoint, if one is given.
# It starts nothing and asks nobody for a token: there is no developer yet. What starts the agent is postStartCommand, the
# first hook that no prebuild reaches. Options come as variables; without `strict`, none of this can fail the build.
set -u

here=$(dirname "$0")
# Released, the installer is a file of the Feature; in the repository it is its neighbour.
installer=$here/tagalong-install.sh
[ -f "$installer" ] || installer=$here/../install.sh

strict=0
case ${STRICT:-false} in true) strict=1 ;; esac

fail() {
    printf 'tagalong: %s\n' "$1" >&2
    exit "$strict"
}

# An option that nobody set is an empty variable, and no variable for the installer.
[ -z "${SHA256:-}" ] || export TAGALONG_SHA256="$SHA256"
[ -z "${SIGNERS:-}" ] || export TAGALONG_SIGNERS="$SIGNERS"
[ -z "${RELEASES:-}" ] || export TAGALONG_RELEASES="$RELEASES"
TAGALONG_BIN=/usr/local/bin TAGALONG_VERSION="${VERSION:-}" TAGALONG_STRICT=$strict sh "$installer" || exit "$strict"

# A new volume takes the mode of what it covers. Who the container's user will be, and under which number, is settled
# later; the agent makes a directory of its own in there, which is that user's alone.
if ! mkdir -p /var/lib/tagalong || ! chmod 1777 /var/lib/tagalong; then
    fail "/var/lib/tagalong could not be made; the spool will not last."
fi

# One that is there already is somebody's.
if [ -n "${ENDPOINT:-}" ] && [ ! -e /etc/tagalong/config.toml ]; then
    case $ENDPOINT in
        *[!A-Za-z0-9:/._~%-]*) fail "the endpoint is no address, so it was not set." ;;
    esac
    umask 022
    if ! mkdir -p /etc/tagalong || ! printf '[export]\nendpoint = "%s"\n' "$ENDPOINT" >/etc/tagalong/config.toml; then
        fail "/etc/tagalong/config.toml could not be written."
    fi
fi
exit 0
