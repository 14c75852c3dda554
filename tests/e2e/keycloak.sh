#!/usr/bin/env bash
# Logins and a token exchange against Keycloak, on loopback, with a browser on its own pages. Installs it below
# target/e2e. Where it cannot be installed that is said, and the exit code is 77.
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/e2e/identity/install.sh

skip() {
    printf 'e2e: skipped: Keycloak: %s\n' "$1" >&2
    exit 77
}

for tool in java mvn jar; do
    command -v $tool >/dev/null || skip "there is no $tool here"
done
place=$PWD/target/e2e/keycloak
stamp=$(sha256sum <"$stories/pom.xml")
if [ "$(cat "$place/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$place"
    mkdir -p "$place"
    begun=$SECONDS
    timeout 300 mvn --batch-mode --quiet --file "$stories/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$place" >"$place.log" 2>&1 || skip "it could not be installed: $(tail -n 3 "$place.log")"
    (cd "$place" && jar xf keycloak-*.zip && rm keycloak-*.zip && mv keycloak-* server && chmod +x server/bin/kc.sh) ||
        skip 'its archive cannot be unpacked'
    echo "$stamp" >"$place/stamp"
    echo "e2e: installed Keycloak in $((SECONDS - begun)) s"
fi
node --no-warnings "$parts/keycloak.mjs" "$executable" "$place/server/bin/kc.sh" 2>"$place.log" || {
    code=$?
    tail -n 30 "$place.log"
    exit $code
}
