# The installer by itself: over a real HTTP server, with curl and with wget; then from a file in a root with a static shell
# and nothing else: no C library, no users, no home. There the static binary finds names, speaks TLS and runs the agent;
# what it asks no C library for, it gets with musl as with glibc.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

busybox=$(command -v busybox) || {
    echo 'there is no busybox here'
    exit 77
}
# needs_nothing PROGRAM: no loader, no library.
needs_nothing() {
    ! ldd "$1" 2>/dev/null | grep -q '=>'
}
if ! needs_nothing "$busybox"; then
    echo 'busybox here is not static'
    exit 77
fi
is_static=no
needs_nothing "$PLACES_RELEASE/tagalong" && is_static=yes

# bare_root: a shell and its tools in one static file, and nothing else.
bare_root() {
    umount -R "$root"
    mount -t tmpfs tmpfs "$root"
    mkdir -p "$root"/{bin,etc,proc,dev,tmp,srv,data}
    chmod 1777 "$root/tmp"
    mount --rbind /dev "$root/dev"
    cp "$busybox" "$root/bin/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
    done
    cp "$PLACES_SOURCE/gitpod/install.sh" "$root/srv"
}

# As a release's address serves it.
mkdir -p "$stage/releases/v$version"
cp "$PLACES_RELEASE"/{*.tar.gz,SHA256SUMS} "$stage/releases/v$version"
python3 -m http.server --bind 127.0.0.1 --directory "$stage/releases" 4998 2>/dev/null &
eventually 'releases are served' curl --silent --output /dev/null http://127.0.0.1:4998/

# install VARIABLE...
install() {
    : >"$stage/terminal"
    run env -i PATH="$path" "$@" /bin/sh /srv/install.sh
}
says() { grep -q "$1" "$stage/terminal"; }
inode() { stat -c %i "$root/bin-of-ours/tagalong" 2>/dev/null; }
to=TAGALONG_BIN=/bin-of-ours

# --- from an address
mkdir -p "$root/srv" "$root/tools"
cp "$PLACES_SOURCE/gitpod/install.sh" "$root/srv"
for tool in env id mkdir mktemp uname cat cp chmod mv rm tar gzip sha256sum dirname cmp; do
    ln -s "/usr/bin/$tool" "$root/tools/$tool"
done
path=/tools
install $to TAGALONG_RELEASES=http://127.0.0.1:4998 TAGALONG_VERSION="$version"
expect 'without curl and wget it says what to do' says 'Install one of them'
path=/usr/bin:/bin
install $to TAGALONG_RELEASES=http://127.0.0.1:4998 TAGALONG_VERSION=9.9.9
expect 'a release that is not there fails no task' [ "$code" = 0 ]
expect 'and is named' says 'The release 9.9.9 could not be had'
install $to TAGALONG_RELEASES=http://127.0.0.1:4998 TAGALONG_VERSION="$version"
expect "a release's own names are those that the installer asks for" [ -x "$root/bin-of-ours/tagalong" ]
expect 'that nothing was signed is said' says 'without a signature'
first=$(inode)
install $to TAGALONG_RELEASES=http://127.0.0.1:1 TAGALONG_VERSION="$version"
expect 'it is not downloaded again' [ "$(inode)" = "$first" ]

# Another version's archive, with its true checksum, and then with a wrong one.
printf '#!/bin/sh\necho "tagalong 9.9.9"\n' >"$stage/tagalong"
chmod 755 "$stage/tagalong"
mkdir -p "$stage/releases/v9.9.9"
other=tagalong-9.9.9-$(uname -m)-linux.tar.gz
tar -C "$stage" -czf "$stage/releases/v9.9.9/$other" tagalong
printf '%064d  %s\n' 0 "$other" >"$stage/releases/v9.9.9/SHA256SUMS"
install $to TAGALONG_RELEASES=http://127.0.0.1:4998 TAGALONG_VERSION=9.9.9
expect 'a checksum that is wrong is refused' says 'is wrong'
expect 'and the old binary stays' [ "$(inode)" = "$first" ]
expect 'nothing else stays' [ "$(ls -A "$root/bin-of-ours")" = tagalong ]
install $to TAGALONG_RELEASES=http://127.0.0.1:4998 TAGALONG_VERSION=9.9.9 TAGALONG_STRICT=1
expect 'a strict install fails' [ "$code" = 1 ]
(cd "$stage/releases/v9.9.9" && sha256sum "$other" >SHA256SUMS)
install $to TAGALONG_RELEASES=http://127.0.0.1:4998 TAGALONG_VERSION=9.9.9
expect 'the right one replaces it' grep -q 9.9.9 "$root/bin-of-ours/tagalong"

if command -v wget >/dev/null; then
    ln -s /usr/bin/wget "$root/tools/wget"
    rm "$root/bin-of-ours/tagalong"
    path=/tools
    install $to TAGALONG_RELEASES=http://127.0.0.1:4998 TAGALONG_VERSION="$version"
    expect 'wget will do where curl is not' cmp -s "$PLACES_RELEASE/tagalong" "$root/bin-of-ours/tagalong"
fi

# --- from a file, where there is no C library
bare_root
path=/bin
cp "$PLACES_RELEASE"/{*.tar.gz,SHA256SUMS} "$root/srv"
if [ "$is_static" = no ]; then
    install $to TAGALONG_BINARY="/srv/tagalong-$version-$(uname -m)-linux.tar.gz"
    expect 'a binary that needs a C library is not installed where there is none' says 'does not run here'
    expect 'and does not fail the task' [ "$code" = 0 ]
    exit 0
fi

install $to TAGALONG_BINARY="/srv/tagalong-$version-$(uname -m)-linux.tar.gz"
expect 'an archive that is a file here needs no network' \
    cmp -s "$PLACES_RELEASE/tagalong" "$root/bin-of-ours/tagalong"
echo >>"$root/srv/tagalong-$version-$(uname -m)-linux.tar.gz"
install $to TAGALONG_BINARY="/srv/tagalong-$version-$(uname -m)-linux.tar.gz"
expect 'and its checksum all the same' says 'is wrong'
install TAGALONG_BINARY=/srv/nothing HOME=/data
expect 'a file that is not there is named' says 'There is no file /srv/nothing'

# --- the binary in there: a name server of our own, and a name service that would want a C library
python3 "$PLACES_SOURCE/tests/e2e/places/names.py" &
printf 'nameserver 127.0.0.1\n' >"$root/etc/resolv.conf"
printf 'passwd: sss systemd\nhosts: mymachines mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] myhostname\n' \
    >"$root/etc/nsswitch.conf"
ours() {
    run env -i TAGALONG_HOME=/data TAGALONG_IDENTITY_CREDENTIAL=none TAGALONG_EXPORT_CA_FILE=/srv/ca.pem \
        TAGALONG_EXPORT_ENDPOINT=https://otel.example.test:4997 /bin-of-ours/tagalong "$@"
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=otel.example.test \
    -addext subjectAltName=DNS:otel.example.test -addext basicConstraints=critical,CA:FALSE -keyout "$stage/key.pem" -out "$root/srv/ca.pem" 2>/dev/null
python3 "$PLACES_SOURCE/tests/e2e/places/upstream.py" 4997 "$stage/received" "$root/srv/ca.pem" "$stage/key.pem" &
eventually 'upstream is there' curl --silent --insecure --output /dev/null https://127.0.0.1:4997
: >"$stage/terminal"
ours doctor
expect 'a name is looked up by DNS, and TLS is spoken' says '^ok    upstream reachable'

contain env -i TAGALONG_HOME=/data TAGALONG_IDENTITY_CREDENTIAL=none TAGALONG_EXPORT_CA_FILE=/srv/ca.pem \
    TAGALONG_EXPORT_ENDPOINT=https://otel.example.test:4997 TAGALONG_EXPORT_COMPRESSION=none /bin/sh -c \
    '/bin-of-ours/tagalong up; while :; do sleep 1; done'
eventually 'the agent starts without users, home or C library' send
eventually 'and delivers' arrived
kill -KILL "$init"
ended
