# Ona: the service and the task of gitpod/automations.yaml, with the pipes, signals and environment of its automations.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

# entry BLOCK KEY: a command of automations.yaml.
entry() {
    sed -n "/^$1:/,\$p" "$PLACES_SOURCE/gitpod/automations.yaml" | sed -n "s/^ *$2: //p" | head -n 1
}

# automation SCRIPT: with an automation's environment, and its parent outside of the environment's processes.
automation() {
    inside env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/vscode GITPOD_ENVIRONMENT_ID=0193e7f0-aaaa \
        TAGALONG_RELEASES=file:///release TAGALONG_EXPORT_ENDPOINT="$upstream" TAGALONG_EXPORT_COMPRESSION=none \
        sh -c "cd /workspaces/shop && $1"
}
session() { of "$(automation 'tagalong status --json')" agent session_id; }

mkdir -p "$root/release/v$version" "$root/home/vscode" "$root/workspaces/shop"
cp "$PLACES_RELEASE"/{*.tar.gz,SHA256SUMS} "$root/release/v$version"
cp -r "$PLACES_SOURCE/gitpod" "$root/workspaces/shop/gitpod"
printf '#!/bin/sh\necho "$*" >>/tmp/asked\nprintf "%%s\\n" "%s"\n' "$(token https://app.gitpod.io org:1/prj:2/env:3)" \
    >"$root/usr/local/bin/gitpod"
chmod 755 "$root/usr/local/bin/gitpod"
# The environment's own init, which outlives all automations.
mkfifo "$root/run/environment"
contain /bin/sh -c 'while :; do read -r _ </run/environment; done'

# --- a prebuild: tasks that it triggers, as whoever enabled it
expect 'the install task runs in a prebuild' grep -q prebuild <(sed -n '/tagalong-install/,/command/p' "$PLACES_SOURCE/gitpod/automations.yaml")
said=$(automation "$(entry tasks command)" 2>&1)
expect 'a prebuild installs' [ -x "$root/usr/local/bin/tagalong" ]
expect 'a prebuild starts nothing and asks nobody' not agent
expect 'no token was asked for' [ ! -e "$root/tmp/asked" ]
expect 'a prebuild leaves no state' [ ! -e "$root/home/vscode/.local/state" ]
expect 'and says what it did in one line' grep -q "installed tagalong $version" <<<"$said"

# --- the service: it installs what a prebuild has not; in the foreground, SIGTERM at the stop
rm "$root/usr/local/bin/tagalong"
automation "$(entry services start)" >"$stage/service" 2>&1 &
service=$!
eventually 'the service accepts' send
expect 'it stays in the foreground, as a service must' kill -0 "$service"
for _ in 1 2 3; do expect 'a span is accepted' send; done
first=$(session)
expect 'the environment is named' [ "$(of "$(automation 'tagalong status --json')" workspace id)" = 0193e7f0-aaaa ]
expect 'an agent that runs is enough for a second trigger' grep -q 'already running' <<<"$(automation 'tagalong up' 2>&1)"
kill -TERM "$(agent)"
wait "$service"
expect 'SIGTERM ends the service, and that is a success' [ $? = 0 ]

# --- a stop command would have it killed at once: nothing is lost by that either
automation "$(entry services start)" >"$stage/service" 2>&1 &
service=$!
eventually 'the service comes back' send
second=$(session)
expect 'as a session of its own' [ "$first" != "$second" ]
kill -KILL "$(agent)"
wait "$service"

# --- a task instead of the service: it ends, and holds neither its pipe nor its caller
begun=$SECONDS
said=$(automation 'tagalong up')
expect 'a task with up ends, and the end of its pipe comes' [ $((SECONDS - begun)) -lt 20 ]
expect 'the agent outlives the task' agent
expect 'it accepts' send
upstream_comes
eventually 'all that was accepted arrives' arrived
expect 'under the token' grep -aq 'authorization: Bearer eyJ' "$stage/received"
