#!/usr/bin/env bash
# The promises against real parts: installs what it needs below target/e2e, starts everything on loopback.
#
# A part is installed once for each state of the files that name its versions. One whose tool or registry is not there
# is skipped, and said to be; without any, the exit code is 77.
set -uo pipefail
cd "$(dirname "$0")/../.."
here=tests/e2e
export E2E_PARTS="$PWD/target/e2e"
mkdir -p "$E2E_PARTS"

# part NAME TOOL FILE...: runs install_NAME in an empty directory, unless that was done for these very files.
# What is left is a stamp in that directory, if the part is there to be used.
part() {
    local name=$1 tool=$2 place=$E2E_PARTS/$1 log=$E2E_PARTS/$1.log stamp begun=$SECONDS
    shift 2
    stamp=$(cat "$here/run.sh" "$@" | sha256sum)
    if ! command -v "$tool" >/dev/null; then
        rm -f "$place/stamp"
        echo "e2e: skipped: $name: there is no $tool here" >&2
    elif [ "$(cat "$place/stamp" 2>/dev/null)" != "$stamp" ]; then
        rm -rf "$place"
        mkdir -p "$place"
        if "install_$name" "$place" >"$log" 2>&1; then
            echo "$stamp" >"$place/stamp"
            echo "e2e: installed $name in $((SECONDS - begun)) s"
        else
            printf 'e2e: skipped: %s: it could not be installed; the end of %s:\n%s\n' \
                "$name" "$log" "$(tail -n 5 "$log")" >&2
        fi
    fi
}

install_python() {
    python3 -m venv "$1/venv" && "$1/venv/bin/pip" install --quiet --requirement "$here/python/requirements.txt"
}

install_javascript() {
    cp "$here"/javascript/{package.json,send.mjs} "$1" &&
        timeout 180 npm install --prefix "$1" --omit=dev --no-audit --no-fund --ignore-scripts
}

install_java() {
    mvn --batch-mode --quiet --file "$here/java/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$1/libs" &&
        javac -cp "$1/libs/*" -d "$1" "$here/java/Send.java"
}

install_telemetrygen() {
    GOBIN="$1" go install \
        github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@v0.161.0
}

install_collector() {
    GOBIN="$1" go install go.opentelemetry.io/collector/cmd/builder@v0.161.0 &&
        cp "$here/collector/builder.yaml" "$1" &&
        (cd "$1" && ./builder --config builder.yaml)
}

# Most of the time goes into waiting for registries, and into Go's compiler.
part python python3 "$here/python/requirements.txt" &
part javascript npm "$here"/javascript/* &
part java mvn "$here"/java/* &
part telemetrygen go &
part collector go "$here/collector/builder.yaml" &
wait

E2E_WITH=
for name in python javascript java telemetrygen collector; do
    if [ -e "$E2E_PARTS/$name/stamp" ]; then E2E_WITH+=" $name"; fi
done
without=()
case $E2E_WITH in
'')
    echo 'e2e: none of the parts is here' >&2
    exit 77
    ;;
' collector')
    echo 'e2e: skipped: nothing is here that sends' >&2
    exit 77
    ;;
esac
case $E2E_WITH in *collector*) ;; *) without+=(--skip gateway) ;; esac
case $E2E_WITH in *python*) ;; *) without+=(--skip transcode) ;; esac
E2E_NODE=$(command -v node)
E2E_JAVA=$(command -v java)
export E2E_WITH E2E_NODE E2E_JAVA
exec cargo test --test e2e -- "${without[@]}"
