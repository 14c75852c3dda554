# A real user manager of systemd's: the unit that `tagalong init systemd` writes, enabled as it says, with readiness, a stop
# that drains, a kill, an agent that a shell had started before, the manager's own end, and the way back out.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

manager=/lib/systemd/systemd
for program in "$manager" systemctl dbus-daemon; do
    command -v "$program" >/dev/null || {
        echo "there is no $program here"
        exit 77
    }
done
home=/home/dev
keep home/dev
mkdir -p "$root"/sys/fs/cgroup "$root"/run/systemd/system "$root"/run/user
chmod 700 "$root/run/user"
# A group of its own for all that the manager starts; the name is made once on this machine.
mount -t cgroup2 none "$root/sys/fs/cgroup" 2>/dev/null || {
    echo 'no control groups of the second version can be mounted here'
    exit 77
}
group=$(mktemp -d "$root/sys/fs/cgroup/tagalong-places.XXXXXX") || exit 77
leave() {
    kill -KILL "$init" 2>/dev/null
    sleep 0.2
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
}
trap leave EXIT
cp "$PLACES_RELEASE/tagalong" "$root/usr/local/bin/tagalong"

# as COMMAND...: somebody who has logged in here.
as() {
    inside env -i HOME=$home USER=root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin XDG_RUNTIME_DIR=/run/user \
        TAGALONG_EXPORT_ENDPOINT="$upstream" TAGALONG_EXPORT_COMPRESSION=none "$@"
}
# said COMMAND...: does what `init` says is to be done next.
said() {
    local line
    # shellcheck disable=SC2016 # those are no commands
    line=$(as tagalong init systemd "$@" | sed -n 's/^  Now run `\(.*\)`\.$/\1/p')
    [ -n "$line" ] || die "init systemd $* says what to do next"
    as sh -c "$line" >>"$stage/terminal" 2>&1
}
state() {
    as systemctl --user show --property "$1" --value tagalong
}
# shellcheck disable=SC2016 # the shell inside is to expand it
begin() {
    contain unshare --cgroup sh -c 'echo 0 >"/sys/fs/cgroup/$1/cgroup.procs" && shift && exec "$@"' sh "${group##*/}" \
        sh -c 'trap "kill -TERM \$manager; wait \$manager; exit 0" 15
            env -i HOME='$home' XDG_RUNTIME_DIR=/run/user PATH=/usr/local/bin:/usr/bin:/bin \
                TAGALONG_EXPORT_ENDPOINT='"$upstream"' TAGALONG_EXPORT_COMPRESSION=none \
                '$manager' --user --log-target=console & manager=$!
            while :; do wait $manager || sleep 1; done'
    eventually 'the manager runs' as systemctl --user --quiet is-active default.target
}

begin
expect 'a service is enabled and started with the words that init says' said
expect 'and counts as started when it is ready, not before' send
expect 'its main process is the agent' [ "$(state MainPID)" = "$(of "$(as tagalong status --json)" agent pid)" ]
first=$(of "$(as tagalong status --json)" agent session_id)
expect 'a hook finds it running' grep -q '^already running' <<<"$(as tagalong up)"

upstream_comes
expect 'a span is accepted' send
expect 'a stop ends well' as systemctl --user stop tagalong
expect 'and has delivered what was accepted before it returns' arrived
expect 'the manager calls that a success' [ "$(state Result) $(state ExecMainStatus)" = 'success 0' ]

as tagalong up >/dev/null
theirs=$(of "$(as tagalong status --json)" agent pid)
expect 'where a shell has started one, the service starts too' as systemctl --user start tagalong
expect 'and takes its place' [ "$(state MainPID)" != "$theirs" ]
expect 'it accepts' send
expect 'as a session of its own' [ "$(of "$(as tagalong status --json)" agent session_id)" != "$first" ]

before=$(state MainPID)
as kill -KILL "$before"
restarted() {
    local pid
    pid=$(state MainPID)
    [ "$(state ActiveState)" = active ] && [ "$pid" != 0 ] && [ "$pid" != "$before" ]
}
eventually 'after a kill it is started again' restarted
expect 'and accepts' send
expect 'whoever stops it with its own command' as tagalong down
stopped() { [ "$(state ActiveState)" = inactive ]; }
eventually 'has stopped it for good' stopped
expect 'it starts once more' as systemctl --user start tagalong
expect 'and accepts again' send

# A log-out.
kill -TERM "$init"
ended
eventually 'the manager ends, and the agent before it' not agent
expect 'all that was accepted has arrived' arrived

begin
eventually 'the next log-in starts it' agent
eventually 'and it accepts' send
expect 'it is taken out with the words that init says' said --remove
expect 'then nothing runs' not agent
expect 'and nothing is enabled' [ -z "$(find "$root$home/.config/systemd" -name 'tagalong*' 2>/dev/null)" ]
eventually 'all has arrived' arrived
