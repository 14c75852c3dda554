# Gitpod Classic: the four orders of tasks, a stop with and without a grace period, and what /workspace brings back.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

# As another user where this one may become one, with the home that Gitpod forces.
uid=33333
setpriv --reuid=33333 --clear-groups true 2>/dev/null || uid=0

install="TAGALONG_RELEASES=file:///release TAGALONG_VERSION=$version sh gitpod/install.sh || true"
start='. gitpod/start.sh || true'
starts=0

# A machine: all of it but /workspace is new.
machine() {
    new_root
    keep workspace
    mkdir -p "$root/release/v$version" "$root/home/gitpod" "$root/opt/bin"
    cp "$PLACES_RELEASE"/{*.tar.gz,SHA256SUMS} "$root/release/v$version"
    # The platform's command: writes down that it was asked, and answers.
    printf '#!/bin/sh\necho "$*" >>/workspace/asked\nprintf "%%s\\n" "%s"\n' \
        "$(token https://api.gitpod.io/idp https://github.com/acme/shop/tree/main)" >"$root/opt/bin/gp"
    chmod 755 "$root/opt/bin/gp"
    chown -R "$uid:$uid" "$root/home/gitpod" "$root/workspace" 2>/dev/null
    starts=$((starts + 1))
}

# workspace HEADLESS GRACE TASK...
workspace() {
    local headless=$1 grace=$2 how=contain
    shift 2
    [ "$headless" = false ] || how=run
    $how env -i PATH=/opt/bin:/usr/local/bin:/usr/bin:/bin HOME=/home/gitpod USER=gitpod TERM=xterm \
        GITPOD_WORKSPACE_ID=acme-shop-x1y2z3 GITPOD_INSTANCE_ID="instance-$starts" GITPOD_OWNER_ID=u-1 \
        GITPOD_HOST=https://gitpod.io GITPOD_WORKSPACE_URL=https://acme-shop-x1y2z3.ws-eu1.gitpod.io \
        GITPOD_WORKSPACE_CONTEXT_URL=https://github.com/acme/shop GITPOD_REPO_ROOT=/workspace/shop \
        GITPOD_REPO_ROOTS=/workspace/shop GITPOD_HEADLESS="$headless" GITPOD_MEMORY=4000 GITPOD_CPU_COUNT=2 \
        THEIA_WORKSPACE_ROOT=/workspace/shop SUPERVISOR_ADDR=localhost:22999 \
        TAGALONG_EXPORT_ENDPOINT="$upstream" TAGALONG_EXPORT_COMPRESSION=none \
        /usr/bin/python3 /workspace/supervisor.py /workspace/tasks.log "$grace" "$uid" "$@"
}

# as_user COMMAND: in another terminal.
as_user() {
    local become=()
    [ "$uid" = 0 ] || become=(setpriv --reuid="$uid" --regid="$uid" --clear-groups)
    inside env HOME=/home/gitpod GITPOD_WORKSPACE_ID=acme-shop-x1y2z3 PATH=/opt/bin:/usr/local/bin:/usr/bin:/bin \
        TAGALONG_EXPORT_ENDPOINT="$upstream" TAGALONG_EXPORT_COMPRESSION=none \
        "${become[@]}" /workspace/.tagalong/bin/tagalong "$@"
}
said() { grep -aq "$1" "$stage/kept/workspace/tasks.log"; }
killed_agent() { grep -aq 'supervisor: killed tagalong' "$stage/kept/workspace/tasks.log"; }

keep workspace
mkdir -p "$stage/kept/workspace/shop"
cp -r "$PLACES_SOURCE/gitpod" "$stage/kept/workspace/shop/gitpod"
cp "$PLACES_SOURCE/tests/e2e/places/supervisor.py" "$stage/kept/workspace"
cp -r "$stage/kept/workspace" "$stage/as-cloned"

# --- a prebuild: before, init, prebuild
machine
workspace true 5 "{ true; } && { $install; } && { $start; } && { echo and-then-\$((6 * 7)); }"
expect 'a prebuild ends by itself' [ "$code" = 0 ]
expect 'a prebuild runs what comes after us' said and-then-42
expect 'a prebuild leaves the binary and nothing else' \
    [ "$(cd "$stage/kept/workspace/.tagalong" && find . -type f)" = ./bin/tagalong ]
expect 'a prebuild asks nobody for a token' [ ! -e "$stage/kept/workspace/asked" ]
expect 'a prebuild leaves no process' not agent

# --- a start from it: before, command
machine
workspace false 8 "{ true; } && { $start; } && { echo reports-to \$OTEL_EXPORTER_OTLP_ENDPOINT; }"
eventually 'the agent runs after a start from a prebuild' agent
eventually "the task's shell goes on and knows where to report" said 'reports-to http://127.0.0.1:4318'
for _ in 1 2 3; do expect 'a span is accepted' send; done
status=$(as_user status --json)
first=$(of "$status" agent session_id)
expect 'the workspace is named by Gitpod' [ "$(of "$status" workspace id)" = acme-shop-x1y2z3 ]
expect 'the developer is named by the token' [ "$(of "$status" credential source)" = gitpod ]
expect 'gp was asked, for our endpoint alone' grep -q -- "--audience $upstream" "$stage/kept/workspace/asked"
expect 'the agent leads a session of its own' \
    [ "$(ps -o sid= -p "$(agent)")" -eq "$(agent)" ]
kill -TERM "$init"
ended
expect 'the agent ends by itself before the grace period does, though upstream is away' not killed_agent

# --- a restart: before, command; then the plug is pulled
machine
workspace false 3 "{ true; } && { $start; }"
eventually 'the agent comes back after a stop' agent
eventually 'it accepts again' send
second=$(of "$(as_user status --json)" agent session_id)
expect 'a start is a session of its own' [ "$first" != "$second" ]
expect 'a second start in another terminal finds the agent' \
    grep -q 'already running' <<<"$(as_user up 2>&1)"
kill -KILL "$init"
ended
machine
workspace false 1 "{ true; } && { $start; }"
eventually 'the agent comes back after a kill' agent
eventually 'it accepts once more' send
upstream_comes
eventually 'whatever was accepted arrives, whichever way it was stopped' arrived
expect 'it arrives under the token' grep -aq 'authorization: Bearer eyJ' "$stage/received"
expect 'no token rests in the workspace' not grep -rqa 'eyJhbGciOiJSUzI1NiJ9' "$stage/kept/workspace/.tagalong"
kill -KILL "$init"
ended

# --- a fresh start without a prebuild: before, init, command
find "$stage/kept/workspace" -mindepth 1 -delete
cp -r "$stage/as-cloned/." "$stage/kept/workspace"
machine
workspace false 4 "{ true; } && { $install; } && { $start; } && { echo and-then-\$((6 * 7)); }"
eventually 'a fresh start installs and starts' agent
eventually 'and the command goes on' said and-then-42
kill -TERM "$init"
ended
expect 'with upstream there it is done sooner' not killed_agent
