# What logins are tested with, below target/e2e: the modules of the stories, and a browser where this machine lets one be
# installed. To be sourced from the repository's root; leaves `parts`, `stories` and `executable`. Exits with 77 without
# node, or where the modules cannot be had.
# shellcheck shell=bash

parts=$PWD/target/e2e/identity
stories=$PWD/tests/e2e/identity

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo 'e2e: skipped: logins: there is no node with npm here' >&2
    exit 77
fi
stamp=$(cat "$stories"/package*.json | sha256sum)
if [ "$(cat "$parts/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$parts"
    mkdir -p "$parts"
    cp "$stories"/package*.json "$parts"
    if ! timeout 120 npm install --prefix "$parts" --omit=dev --no-audit --no-fund --ignore-scripts >"$parts.log" 2>&1; then
        printf 'e2e: skipped: logins: the provider could not be installed:\n%s\n' "$(tail -n 5 "$parts.log")" >&2
        exit 77
    fi
    echo "$stamp" >"$parts/stamp"
fi
# Beside its modules, where node looks for them.
cp "$stories"/*.mjs "$parts"
browser=${E2E_CHROMIUM:-/usr/bin/chromium}
if [ -z "${E2E_CHROMIUM:-}" ] && [ ! -x "$browser" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { timeout 60 apt-get update -q && timeout 180 apt-get install -y -q --no-install-recommends chromium; } >"$parts.log" 2>&1
fi
if [ ! -x "$browser" ]; then
    echo "e2e: skipped: the browser: there is no $browser here; an HTTP client plays the person" >&2
fi
cargo build --quiet || exit
# shellcheck disable=SC2034
executable=${CARGO_TARGET_DIR:-$PWD/target}/debug/tagalong
