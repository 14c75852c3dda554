#!/usr/bin/env bash
# Logins against a certified provider and a real keyring, on loopback and in a D-Bus session of their own. Installs the
# provider below target/e2e, and the browser that plays the person. A part that is not there is skipped, and said to be;
# without the provider, it exits with 77.
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/e2e/identity/install.sh
node --no-warnings "$parts/stories.mjs" "$executable" 2>"$parts.log" || { tail -n 20 "$parts.log"; exit 1; }

for tool in dbus-run-session dbus-send gnome-keyring-daemon secret-tool; do
    if ! command -v $tool >/dev/null; then
        echo "e2e: skipped: the keyring: there is no $tool here (gnome-keyring, libsecret-tools, dbus)" >&2
        exit 0
    fi
done
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# The daemon keeps its own files where nobody else's are.
HOME=$place XDG_DATA_HOME=$place/data XDG_RUNTIME_DIR=$place timeout 300 dbus-run-session -- bash -c '
    printf password | gnome-keyring-daemon --unlock --foreground --components=secrets >/dev/null 2>&1 &
    export E2E_KEYRING_PID=$!
    # Until it has its name: the first who asked for that would be given another one by the bus.
    for _ in $(seq 50); do
        dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetNameOwner \
            string:org.freedesktop.secrets >/dev/null 2>&1 && break
        sleep 0.1
    done
    secret-tool store --label=probe e2e probe <<<x
    secret-tool lookup e2e probe >/dev/null || exit 77
    node --no-warnings "$1" "$2" keyring 2>"$3"
    ended=$?
    kill -CONT $E2E_KEYRING_PID
    kill $E2E_KEYRING_PID
    exit $ended
' keyring "$parts/stories.mjs" "$executable" "$parts.log" 2>/dev/null
case $? in
0) ;;
77) echo 'e2e: skipped: the keyring: gnome-keyring does not keep anything here' >&2 ;;
*)
    tail -n 20 "$parts.log"
    exit 1
    ;;
esac
