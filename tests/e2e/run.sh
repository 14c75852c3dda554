#!/usr/bin/env bash
# The promises against real parts: installs what it needs below target/e2e, starts everything on loopback.
#
# A part is installed once for each state of the files that name its versions. One whose tool or registry is not there
# is skipped, and said to be; without any, the exit code is 77.
set -uo pipefail
cd "$(dirname "$0")/../.."
export E2E_PARTS="$PWD/target/e2e"
have=()
mkdir -p "$E2E_PARTS"

skip() { printf 'e2e: skipped: %s: %s\n' "$1" "$2" >&2; }

# part NAME TOOL FILE...: runs install_NAME in an empty directory, unless it was done for these very files.
part() {
    local name=$1 tool=$2 place=$E2E_PARTS/$1 log=$E2E_PARTS/$1.log stamp begun=$SECONDS
    shift 2
    if ! command -v "$tool" >/dev/null; then
        skip "$name" "there is no $tool here"
        return
    fi
    stamp=$(cat tests/e2e/run.sh "$@" | sha256sum)
    if [ "$(cat "$place/stamp" 2>/dev/null)" != "$stamp" ]; then
        rm -rf "$place"
        mkdir -p "$place"
        if ! "install_$name" "$place" >"$log" 2>&1; then
            skip "$name" "it could not be installed; the end of $log:"
            tail -n 5 "$log" >&2
            return
        fi
        echo "$stamp" >"$place/stamp"
        printf 'e2e: installed %s in %s s\n' "$name" $((SECONDS - begun))
    fi
    have+=("$name")
}

install_python() {
    python3 -m venv "$1/venv" && "$1/venv/bin/pip" install --quiet --requirement tests/e2e/python/requirements.txt
}

install_javascript() {
    cp tests/e2e/javascript/{package.json,send.mjs} "$1" &&
        npm install --prefix "$1" --omit=dev --no-audit --no-fund --ignore-scripts
}

install_java() {
    mvn --batch-mode --quiet --file tests/e2e/java/pom.xml dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$1/libs" &&
        javac -cp "$1/libs/*" -d "$1" tests/e2e/java/Send.java
}

install_telemetrygen() {
    GOBIN="$1" go install \
        github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@v0.161.0
}

install_collector() {
    GOBIN="$1" go install go.opentelemetry.io/collector/cmd/builder@v0.161.0 &&
        cp tests/e2e/collector/builder.yaml "$1" &&
        (cd "$1" && ./builder --config builder.yaml)
}

part python python3 tests/e2e/python/requirements.txt
part javascript npm tests/e2e/javascript/*
part java mvn tests/e2e/java/*
part telemetrygen go
part collector go tests/e2e/collector/builder.yaml
if [ ${#have[@]} -eq 0 ]; then
    echo 'e2e: none of the parts is here' >&2
    exit 77
fi
export E2E_WITH="${have[*]}"
E2E_NODE=$(command -v node)
E2E_JAVA=$(command -v java)
export E2E_NODE E2E_JAVA

without=()
case " $E2E_WITH " in *' python '* | *' javascript '* | *' java '* | *' telemetrygen '*) ;; *) without+=(--skip embedded --skip gateway) ;; esac
case " $E2E_WITH " in *' collector '*) ;; *) without+=(--skip gateway) ;; esac
case " $E2E_WITH " in *' python '*) ;; *) without+=(--skip transcode) ;; esac
exec cargo test --test e2e -- "${without[@]}"
