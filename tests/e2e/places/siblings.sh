# A compose service next to the workspace: a network of its own behind an engine's bridge, an env_file, and a key.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

bridge=172.17.0.1
if ! ip link add docker0 type bridge 2>/dev/null; then
    echo 'no bridge can be made here'
    exit 77
fi
ip address add "$bridge/16" dev docker0
ip link set docker0 up
unshare --net sleep 1000 &
service=$!
apart() { [ "$(readlink "/proc/$service/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
eventually 'the service has a network of its own' apart
ip link add there type veth peer name eth0 netns "$service" || {
    echo 'no link into another network can be made here'
    exit 77
}
ip link set there master docker0 up
# next COMMAND...: in the service's network.
next() {
    nsenter --target "$service" --net -- "$@"
}
next ip address add 172.17.0.9/16 dev eth0
next ip link set eth0 up
next ip link set lo up

home=/home/dev
keep home/dev
cp "$PLACES_RELEASE/tagalong" "$root/usr/local/bin/tagalong"
contain sh -c 'trap "exit 0" 15; while :; do sleep 1000 & wait $!; done'
as() {
    inside env -i HOME=$home USER=dev PATH=/usr/local/bin:/usr/bin:/bin TAGALONG_WORKSPACE_ID=shop-4711 \
        TAGALONG_EXPORT_ENDPOINT="$upstream" TAGALONG_EXPORT_COMPRESSION=none "$@"
}
# posts NAME URL [HEADER]: prints the status of the answer, 000 if there is none.
posts() {
    local header=${3:-x-none: 1}
    next curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' --header "$header" \
        --header 'content-type: application/json' --data '{"resourceSpans":[{"resource":{"attributes":[
            {"key":"workspace.id","value":{"stringValue":"somebody-elses"}}]},"scopeSpans":[{"spans":[{
            "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"'"$1"'",
            "kind":1,"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}' "$2/v1/traces"
}

as tagalong up >/dev/null
expect 'the workspace itself sends' send
expect 'by default nobody next to it can' [ "$(posts keyless-span "http://$bridge:4318")" = 000 ]
expect 'and is told how to' grep -q 'listen.siblings' <<<"$(as tagalong env --for compose 2>&1)"

as tagalong config set listen.siblings auto >/dev/null
as tagalong up >/dev/null
as tagalong env --for compose >"$stage/env"
# shellcheck disable=SC1091 # it is made here
. "$stage/env"
expect "they get an address on the engine's bridge" [ "${OTEL_EXPORTER_OTLP_ENDPOINT%:*}" = "http://$bridge" ]
key=${OTEL_EXPORTER_OTLP_HEADERS/=/: }
expect 'without the key the listener refuses' [ "$(posts keyless-span "$OTEL_EXPORTER_OTLP_ENDPOINT")" = 403 ]
expect 'with another key too' [ "$(posts keyless-span "$OTEL_EXPORTER_OTLP_ENDPOINT" "${key%%: *}: guessed")" = 403 ]
expect 'with the key it accepts' [ "$(posts from-a-sibling "$OTEL_EXPORTER_OTLP_ENDPOINT" "$key")" = 200 ]
expect "the workspace's own programs need none" send

upstream_comes
eventually 'all arrives' arrived
sibling() { grep -aq from-a-sibling "$stage/received"; }
eventually "the service's span arrives" sibling
expect 'it is tagged as the workspace is' grep -aq shop-4711 "$stage/received"
expect 'whatever it said of itself' not grep -aq somebody-elses "$stage/received"
expect 'nothing that was refused arrives' not grep -aq keyless-span "$stage/received"
expect 'the key is not sent on' not grep -aq "${key#*: }" "$stage/received"

before=$key
as tagalong down >/dev/null
as tagalong up >/dev/null
as tagalong env --for compose >"$stage/env"
# shellcheck disable=SC1091 # it is made here
. "$stage/env"
expect 'the next start keeps the key that is in an env_file' [ "${OTEL_EXPORTER_OTLP_HEADERS/=/: }" = "$before" ]
expect 'and the service goes on' [ "$(posts from-a-sibling "$OTEL_EXPORTER_OTLP_ENDPOINT" "$before")" = 200 ]
