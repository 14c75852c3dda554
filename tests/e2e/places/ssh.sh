# A machine that is reached over SSH and has no credential of its own: it asks the agent of whoever came, over a socket that
# `ssh -R` takes along. The tunnel breaks, and comes back.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

sshd=$(command -v sshd || ls "$PLACES_RELEASE/sshd/usr/sbin/sshd" 2>/dev/null) || { echo 'there is no sshd here, and none can be had'; exit 77; }
for program in ssh ssh-keygen; do
    command -v "$program" >/dev/null || { echo "there is no $program here"; exit 77; }
done
awk '{ ids += $3 } END { exit ids < 2 }' /proc/self/uid_map || { echo 'sshd needs a user of its own beside root'; exit 77; }

# --- the machine that is reached
cp "$PLACES_RELEASE/tagalong" "$root/usr/local/bin/tagalong"
cp "$sshd" "$root/usr/local/bin/sshd"
mkdir -p "$root/keys" "$root/run/sshd" "$root/state" "$root/usr/local/lib"
cp "$PLACES_RELEASE"/sshd/usr/lib/*/libwrap.so.0 "$PLACES_RELEASE"/sshd/lib/*/libwrap.so.0 "$root/usr/local/lib" 2>/dev/null
echo 'sshd:x:74:74::/run/sshd:/bin/false' >>"$root/etc/passwd"
ssh-keygen -q -t ed25519 -N '' -f "$root/keys/host"
ssh-keygen -q -t ed25519 -N '' -f "$stage/key"
cp "$stage/key.pub" "$root/keys/allowed"
cat >"$root/etc/sshd_config" <<'EOF'
Port 2222
ListenAddress 127.0.0.1
HostKey /keys/host
AuthorizedKeysFile /keys/allowed
PermitRootLogin yes
StrictModes no
EOF
contain env LD_LIBRARY_PATH=/usr/local/lib /usr/local/bin/sshd -D -e -f /etc/sshd_config

# tunnel OPTION...: with the socket, until it is killed.
tunnel() {
    ssh -F /dev/null -i "$stage/key" -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile=/dev/null \
        -o StrictHostKeyChecking=no -o LogLevel=ERROR -o ExitOnForwardFailure=yes -p 2222 "$@" root@127.0.0.1 &
    ssh=$!
}
there() {
    inside env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root TAGALONG_HOME=/state TAGALONG_EXPORT_ENDPOINT="$upstream" \
        TAGALONG_EXPORT_COMPRESSION=none TAGALONG_IDENTITY_AGENT=/run/tagalong.sock "$@"
}
here() {
    env -i PATH="$PATH" HOME="$stage" TAGALONG_HOME="$stage/here" TAGALONG_EXPORT_ENDPOINT="$upstream" \
        TAGALONG_IDENTITY_FILE="$stage/token" TAGALONG_IDENTITY_SHARE="$stage/share.sock" \
        TAGALONG_LISTEN_HTTP=127.0.0.1:0 TAGALONG_LISTEN_GRPC=127.0.0.1:0 "$PLACES_RELEASE/tagalong" "$@"
}
credential() { # WHERE FIELD...
    local where=$1
    shift
    if [ "$where" = there ]; then of "$(there tagalong status --json)" "$@"; else of "$(here status --json)" "$@"; fi
}
is() { # STATE, of the credential there
    [ "$(credential there credential state)" = "$1" ]
}

# --- the machine where somebody sits, with tokens of 12 seconds
fresh_tokens() {
    while :; do
        token https://id.example ada 12 >"$stage/token.new"
        mv "$stage/token.new" "$stage/token"
        sleep 2
    done
}
fresh_tokens &
until [ -s "$stage/token" ]; do sleep 0.05; done
upstream_comes
expect 'an agent runs where somebody sits' here up --strict
eventually 'it shares its credential' [ -S "$stage/share.sock" ]

# --- before the tunnel
expect 'an agent runs at the other end' there tagalong up --strict
eventually 'it accepts' send
expect 'it says what is missing' grep -q 'is the socket forwarded' <<<"$(there tagalong status)"
expect 'nothing left without a name' not grep -aq 'accepted-' "$stage/received"

# --- with the tunnel
tunnel -N -R "/run/tagalong.sock:$stage/share.sock"
eventually 'ssh takes the socket along' [ -S "$root/run/tagalong.sock" ]
eventually 'the credential is there' is fresh
expect 'of the same person' [ "$(credential there principal subject)" = "$(credential here principal subject)" ]
eventually 'all that was accepted arrives' arrived
expect 'under the token' grep -aq 'authorization: Bearer eyJ' "$stage/received"
renewed() { [ "$(credential there credential rotations)" -ge 2 ]; }
eventually 'it is renewed over the tunnel' renewed
said=$(there env TAGALONG_HOME=/another TAGALONG_IDENTITY_AUDIENCE=https://evil.example tagalong token 2>&1)
expect 'for another audience it is refused' grep -q 'another audience' <<<"$said"

# --- the tunnel breaks: a socket stays behind to which nobody listens
kill -KILL "$ssh"
wait "$ssh" 2>/dev/null
eventually 'without the tunnel the credential ends' is starved
expect 'and what comes is accepted' send
expect 'it says where to look' grep -q '/run/tagalong.sock' <<<"$(there tagalong doctor)"
expect 'the socket is still there' [ -S "$root/run/tagalong.sock" ]

# --- and comes back, once sshd may take the old socket away
tunnel -N -R "/run/tagalong.sock:$stage/share.sock"
wait "$ssh" 2>/dev/null
expect 'sshd does not make a second one in its place by itself' [ $? = 255 ]
echo 'StreamLocalBindUnlink yes' >>"$root/etc/sshd_config"
began() { grep -c '^Server listening on 127' "$stage/terminal"; }
before=$(began)
kill -HUP "$init"
# Until then the one before it may still take a connection, and drop it.
listens() { [ "$(began)" -gt "$before" ]; }
eventually 'sshd listens again' listens
tunnel -N -R "/run/tagalong.sock:$stage/share.sock"
eventually 'the credential comes back by itself' is fresh
eventually 'what waited arrives' arrived

# --- ssh is there, and the agent behind it is not
here down >/dev/null
eventually 'without the agent here the credential ends there' is starved
expect 'and what comes is accepted' send
expect 'the agent is back' here up --strict
eventually 'and so is the credential' is fresh
eventually 'what waited arrives too' arrived
