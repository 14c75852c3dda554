# A stage for one platform: a root that is made anew, containers in it, an upstream, and the books of what was accepted.
# Taken into the platforms' scripts with `.`, inside the namespaces that places.sh makes. Everything ends with them.
# shellcheck shell=bash disable=SC2034
set -u

stage=/mnt/stage
root=$stage/root
upstream=http://127.0.0.1:4999
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$PLACES_SOURCE/Cargo.toml" | head -n 1)
accepted=0

die() {
    printf 'FAIL %s\n' "$*"
    if [ -f "$stage/terminal" ]; then tail -n 20 "$stage/terminal"; fi
    exit 1
}

ok() {
    printf 'ok %s\n' "$*"
}

# expect WHAT COMMAND...
expect() {
    local what=$1
    shift
    "$@" || die "$what"
    ok "$what"
}

# eventually WHAT COMMAND...: for what another process does; the machine may be busy.
eventually() {
    local what=$1 until=$((SECONDS + 30))
    shift
    until "$@" 2>/dev/null; do
        [ "$SECONDS" -lt "$until" ] || die "$what"
        sleep 0.05
    done
    ok "$what"
}

not() {
    ! "$@"
}

# Programs of this machine, read-only; all else is new and empty.
new_root() {
    mkdir -p "$root"
    umount -R "$root" 2>/dev/null
    mount -t tmpfs tmpfs "$root"
    local name
    for name in bin sbin lib lib32 lib64 libx32 usr; do
        if [ -L "/$name" ]; then
            cp -P "/$name" "$root/$name"
        elif [ -d "/$name" ]; then
            mkdir "$root/$name"
            mount --rbind "/$name" "$root/$name"
            mount -o remount,bind,ro "$root/$name" 2>/dev/null
        fi
    done
    mount -t tmpfs tmpfs "$root/usr/local"
    mkdir -p "$root"/{dev,proc,etc,tmp,run,root,home,var/lib,workspace,workspaces} "$root"/usr/local/{bin,share}
    mount --rbind /dev "$root/dev"
    chmod 1777 "$root/tmp"
    printf 'root:x:0:0::/root:/bin/sh\ngitpod:x:33333:33333::/home/gitpod:/bin/bash\n' >"$root/etc/passwd"
    printf 'root:x:0:\ngitpod:x:33333:\n' >"$root/etc/group"
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
    cp /etc/ld.so.cache "$root/etc" 2>/dev/null
    cp -r /etc/ssl "$root/etc" 2>/dev/null
    cp -rL /etc/alternatives "$root/etc" 2>/dev/null
    return 0
}

# keep NAME: a directory that outlives roots, at /NAME.
keep() {
    mkdir -p "$stage/kept/$1" "$root/$1"
    mount --bind "$stage/kept/$1" "$root/$1"
}

# contain COMMAND...: as PID 1 of a container in the root. Sets init to its number out here.
contain() {
    unshare --pid --mount --fork --kill-child --mount-proc --root="$root" --wd=/ -- "$@" >>"$stage/terminal" 2>&1 </dev/null &
    keeper=$!
    local until=$((SECONDS + 10))
    init=
    until [ -n "$init" ] && [ -e "/proc/$init/root/proc/1" ]; do
        [ "$SECONDS" -lt "$until" ] || die "the container did not start"
        read -r init _ <"/proc/$keeper/task/$keeper/children" || :
        sleep 0.02
    done
}

# run COMMAND...: in a container of its own, to its end. Sets code.
run() {
    code=0
    unshare --pid --mount --fork --kill-child --mount-proc --root="$root" --wd=/ -- "$@" >>"$stage/terminal" 2>&1 </dev/null ||
        code=$?
}

# inside COMMAND...: a process of the container's whose parent is not in it, as container engines start them.
inside() {
    nsenter --target "$init" --pid --mount --root --wd="/proc/$init/root" -- "$@"
}

# The agent's process, as it is seen out here.
agent() {
    pgrep -x tagalong
}

# ended: waits for the container, and sets code to what its PID 1 ended with.
ended() {
    code=0
    wait "$keeper" || code=$?
}

# One span over plain HTTP, into the books if it was accepted.
send() {
    local number=$((accepted + 1)) status
    status=$(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
        --header 'content-type: application/json' --data '{"resourceSpans":[{"scopeSpans":[{"spans":[{
            "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"accepted-'"$number"'-span",
            "kind":1,"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}' http://127.0.0.1:4318/v1/traces)
    [ "$status" = 200 ] && accepted=$number
}

upstream_comes() {
    python3 "$PLACES_SOURCE/tests/e2e/places/upstream.py" 4999 "$stage/received" &
    eventually 'upstream is there' curl --silent --output /dev/null "$upstream"
}

arrived() {
    local number
    for ((number = 1; number <= accepted; number++)); do
        grep -aq "accepted-$number-span" "$stage/received" || return 1
    done
}

# of STATUS FIELD...: one value of `status --json`.
of() {
    python3 -c 'import json, sys
value = json.loads(sys.argv[1])
for name in sys.argv[2:]: value = value[name]
print(value)' "$@"
}

# token ISSUER SUBJECT [SECONDS]: as an issuer makes them, but for the signature: upstream here checks none, and the agent
# never does.
token() {
    local now payload
    now=$(date +%s)
    payload=$(printf '{"iss":"%s","sub":"%s","aud":["%s"],"iat":%s,"exp":%s,"user_id":"u-1","name":"jo","email":"jo@acme.example","email_verified":true,"creator_principal":"user","creator_id":"u-1"}' \
        "$1" "$2" "$upstream" "$now" $((now + ${3:-3600})) | base64 -w0 | tr '+/' '-_' | tr -d =)
    printf 'eyJhbGciOiJSUzI1NiJ9.%s.c2ln' "$payload"
}

mkdir -p "$stage"
mount -t tmpfs tmpfs "$stage"
: >"$stage/received"
ip link set lo up 2>/dev/null || ifconfig lo up 2>/dev/null || {
    echo 'no program here starts the loopback interface'
    exit 77
}
new_root
