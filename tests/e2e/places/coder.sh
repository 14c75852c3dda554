# Coder: a start script of the workspace's agent, prebuilt and claimed, and a stop of ten seconds that no script hears of.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

# What `tagalong init coder` writes into the template.
script='tagalong up || true; tagalong init vscode >/dev/null 2>&1 || true'
mkdir -p "$root/release/v$version"
keep home/coder
# The image's build.
cp "$PLACES_RELEASE"/{*.tar.gz,SHA256SUMS} "$root/release/v$version"
cp "$PLACES_SOURCE/gitpod/install.sh" "$root"
run env -i PATH=/usr/bin:/bin HOME=/root TAGALONG_RELEASES=file:///release TAGALONG_VERSION="$version" \
    sh /install.sh
expect 'an image installs for everybody' [ -x "$root/usr/local/bin/tagalong" ]

# workspace IS_PREBUILD: PID 1 is Coder's agent, which runs the script with a pipe and goes on when that ends.
workspace() {
    mkfifo "$root/run/scripts" 2>/dev/null
    # shellcheck disable=SC2016 # the shell inside is to expand it
    contain env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/coder USER=coder CODER=true CODER_WORKSPACE_NAME=shop \
        CODER_WORKSPACE_AGENT_NAME=main CODER_AGENT_TOKEN=canary-4711 CODER_AGENT_URL=https://coder.example \
        CODER_WORKSPACE_ID=6b5d9b0e-1111 CODER_WORKSPACE_OWNER_ID=owner-1 CODER_WORKSPACE_IS_PREBUILD="$1" \
        TAGALONG_EXPORT_ENDPOINT="$upstream" TAGALONG_EXPORT_COMPRESSION=none SCRIPT="$script" /bin/sh -c '
        # Its own end is not handed on, as provisioners do not promise it.
        trap "exit 0" 15
        sh -c "$SCRIPT" 2>&1 | cat >/run/log
        echo "script ended" >>/run/log
        while :; do read -r _ </run/scripts & wait $!; done'
}
ran() { grep -q 'script ended' "$root/run/log"; }
ask() {
    inside env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/coder CODER=true CODER_WORKSPACE_ID=6b5d9b0e-1111 \
        TAGALONG_EXPORT_ENDPOINT="$upstream" tagalong "$@"
}

workspace true
eventually 'the script of a prebuilt workspace ends' ran
expect 'nobody has claimed it, so nothing runs' not agent
expect 'and nothing is left in its home' [ -z "$(ls -A "$root/home/coder")" ]
expect 'nothing is said either' [ "$(grep -vc 'script ended' "$root/run/log")" = 0 ]
kill -KILL "$init"
ended

rm -f "$root/run/log"
workspace false
eventually 'the script of a claimed workspace ends, and its pipe too' ran
expect 'the agent runs' agent
expect 'a span is accepted' send
expect 'the workspace is named by what the template passes' [ "$(of "$(ask status --json)" workspace id)" = 6b5d9b0e-1111 ]
forwarding=$root/home/coder/.vscode-server/data/Machine/settings.json
expect 'an editor that connects is told to leave its ports alone' grep -q '"4317": .*"onAutoForward": "ignore"' "$forwarding"
written=$(cat "$forwarding")
first=$(of "$(ask status --json)" agent session_id)
kill -TERM "$init"
ended
eventually 'the container is gone' not agent

rm -f "$root/run/log"
workspace false
eventually 'the script of the next start ends' ran
expect 'it accepts' send
expect 'as a session of its own' [ "$first" != "$(of "$(ask status --json)" agent session_id)" ]
expect 'and the editor is told nothing twice' [ "$written" = "$(cat "$forwarding")" ]
upstream_comes
eventually 'all that was accepted in both arrives' arrived
expect "the platform's token is nowhere" not grep -rqa canary-4711 "$root/home/coder" "$stage/received"
