# A development container with the Feature: built as root without network, a PID 1 that ends at once on SIGTERM, hooks
# that are started from outside with pipes, and a volume that outlives the container.
# A terminal in it has no other variables than the image: whatever the hook alone knew would name another workspace.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

feature=$PLACES_RELEASE/features/tagalong

# value FIELD...: of devcontainer-feature.json.
value() {
    python3 -c 'import json, sys
value = json.load(open(sys.argv[1]))
for name in sys.argv[2:]: value = value[int(name) if name.isdigit() else name]
print(value)' "$feature/devcontainer-feature.json" "$@"
}

# The tool's own form of the Feature, if it is here: it refuses what it does not know.
if [ -n "${PLACES_DEVCONTAINERS:-}" ]; then
    expect 'the reference tool packs the Feature' \
        node "$PLACES_DEVCONTAINERS" features package --output-folder "$stage/packed" "$feature"
fi

# --- the image's build: as root, every option as a variable, no network but a file, no user yet
mkdir -p "$root/build" "$root/release/v$version" "$root/home/vscode"
cp "$feature"/* "$root/build"
cp "$PLACES_RELEASE"/{*.tar.gz,SHA256SUMS} "$root/release/v$version"
build() {
    run env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root _REMOTE_USER=vscode _CONTAINER_USER=root \
        VERSION="$version" SHA256= SIGNERS= ENDPOINT="$upstream" STRICT=false "$@" sh -c 'cd /build && ./install.sh'
}
build RELEASES=file:///nowhere
expect 'a release that is not to be had does not fail the build' [ "$code" = 0 ]
expect 'and is not half installed' [ ! -e "$root/usr/local/bin/tagalong" ]
build RELEASES=file:///nowhere STRICT=true
expect 'unless that was asked for' [ "$code" = 1 ]
build RELEASES=file:///release
expect 'the build installs' [ -x "$root/usr/local/bin/tagalong" ]
expect 'the build starts nothing' not agent
expect 'the build leaves no state in the image' [ -z "$(ls -A "$root/var/lib/tagalong")" ]
expect 'completions are where bash looks' [ -s "$root/usr/local/share/bash-completion/completions/tagalong" ]
expect 'the endpoint is in the settings of the machine' grep -q "endpoint = \"$upstream\"" "$root/etc/tagalong/config.toml"
stat -c 'a second build finds %i' "$root/usr/local/bin/tagalong" >"$stage/before"
build RELEASES=file:///nowhere
expect 'a second build downloads nothing' [ "$(stat -c 'a second build finds %i' "$root/usr/local/bin/tagalong")" = "$(cat "$stage/before")" ]

# --- the container
volume=$(value mounts 0 target)
keep "${volume#/}"
chmod 1777 "$root$volume"
# PID 1 as the tools write it: SIGTERM ends it at once, and with it everything.
start() {
    contain env -i PATH=/usr/local/bin:/usr/bin:/bin "TAGALONG_HOME=$(value containerEnv TAGALONG_HOME)" /bin/sh -c 'echo started
trap "exit 0" 15
exec "$@"
while sleep 1 & wait $!; do :; done' -
}
# hook COMMAND: from outside, with a pipe for what it prints.
hook() {
    inside env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/vscode TAGALONG_EXPORT_COMPRESSION=none \
        "TAGALONG_HOME=$(value containerEnv TAGALONG_HOME)" \
        "TAGALONG_DEVCONTAINER=$(value containerEnv TAGALONG_DEVCONTAINER)" /bin/sh -c "$1" </dev/null 2>&1 | cat
    return "${PIPESTATUS[0]}"
}
post_start=$(value postStartCommand)
session() { of "$(hook 'tagalong status --json')" agent session_id; }
workspace() { of "$(hook 'tagalong status --json')" workspace "$1"; }

start
begun=$SECONDS
said=$(hook "$post_start")
expect 'the hook succeeds' [ $? = 0 ]
expect 'its pipe ends with it' [ $((SECONDS - begun)) -lt 20 ]
expect 'it says where telemetry goes' grep -q "sent to: $upstream" <<<"$said"
expect 'the agent runs' agent
for _ in 1 2 3; do expect 'a span is accepted' send; done
first=$(session)
expect 'it knows that it is in a development container' [ "$(workspace platform)" = devcontainer ]
id=$(workspace id)
expect 'a second hook finds the agent' grep -q 'already running' <<<"$(hook "$post_start")"
kill -TERM "$init"
ended
expect 'PID 1 ends at once' [ "$code" = 0 ]
eventually 'and the kernel ends everything else' not agent

# --- the same container again: no SIGTERM has reached the agent
start
hook "$post_start" >/dev/null
expect 'it accepts again' send
second=$(session)
expect 'as a session of its own' [ "$first" != "$second" ]

# --- thirty hooks at once
hooks=()
for number in {1..30}; do
    hook "$post_start" >"$stage/hook-$number" &
    hooks+=($!)
done
worst=0
for hook in "${hooks[@]}"; do wait "$hook" || worst=$?; done
expect 'thirty hooks at once all succeed' [ "$worst" = 0 ]
expect 'and there is one agent' [ "$(agent | wc -l)" = 1 ]
kill -KILL "$init"
ended

# --- built anew: all but the volume is new
image=$stage/image
cp -r "$root/usr/local" "$image"
new_root
cp -r "$image/." "$root/usr/local"
mkdir -p "$root/etc/tagalong" "$root/home/vscode"
printf '[export]\nendpoint = "%s"\n' "$upstream" >"$root/etc/tagalong/config.toml"
keep "${volume#/}"
start
hook "$post_start" >/dev/null
expect 'a container that was built anew accepts' send
expect 'and is the same workspace' [ "$(workspace id)" = "$id" ]
upstream_comes
eventually 'all that was accepted in three containers arrives' arrived
kill -KILL "$init"
ended

# --- without the agent
rm "$root/usr/local/bin/tagalong"
start
hook "$post_start" >/dev/null
expect 'without the binary the hook succeeds all the same' [ $? = 0 ]
