# A virtual machine whose disk was copied twice while the agent was at work: machine-id, cloud-init's instance, host name
# and the agent's files are the same in all three. Only what the hypervisor gives each is not.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

cp "$PLACES_RELEASE/tagalong" "$root/usr/local/bin/tagalong"
mkdir -p "$root/state" "$root/sys/class/dmi/id" "$root/var/lib/cloud/data"
echo 3d1219c7c4c5404aaa1f6d2a48adfda4 >"$root/etc/machine-id"
echo iid-datasource-none >"$root/var/lib/cloud/data/instance-id"
settings=(PATH=/usr/local/bin:/usr/bin:/bin HOME=/root TAGALONG_HOME=/state TAGALONG_IDENTITY_CREDENTIAL=none
    TAGALONG_EXPORT_ENDPOINT="$upstream" TAGALONG_EXPORT_COMPRESSION=none)

# machine NAME NUMBER: with the disk of that name and the firmware's number; its agent accepts.
machine() {
    umount "$root/state" 2>/dev/null
    mkdir -p "$stage/kept/$1"
    mount --bind "$stage/kept/$1" "$root/state"
    echo "$2" >"$root/sys/class/dmi/id/product_uuid"
    contain env -i "${settings[@]}" /bin/sh -c 'tagalong up; while :; do sleep 1; done'
    eventually "the agent of the $1 accepts" send
}
power_off() {
    kill -KILL "$init"
    ended
}
ask() { of "$(inside env -i "${settings[@]}" tagalong status --json)" "$@"; }
# known NAME: what tells this start and this workspace from others.
known() {
    printf '%s %s %s\n' "$(ask workspace id)" "$(ask spool dir)" "$(ask agent session_id)" >"$stage/$1"
}
differs() { # FIELD: of the three
    [ "$(cut -d ' ' -f "$1" "$stage/original" "$stage/one" "$stage/other" | sort -u | wc -l)" = 3 ]
}

machine original 0a
expect 'a span is accepted' send
known original
power_off
for copy in one other; do cp -a "$stage/kept/original" "$stage/kept/$copy"; done
machine one 0b
known one
power_off
machine other 0c
known other
power_off
expect 'three workspaces' differs 1
expect 'a spool each' differs 2
expect 'a session each' differs 3
expect 'the original has its own' grep -q ' /state/spool ' "$stage/original"

upstream_comes
for name in one other original; do
    case $name in one) number=0b ;; other) number=0c ;; original) number=0a ;; esac
    machine "$name" "$number"
    eventually "nothing is left in the spool of the $name" inside env -i "${settings[@]}" sh -c \
        'tagalong status --json | grep -q "\"bytes\":0,"'
    power_off
done
expect 'all of it arrives' arrived
expect "and what the disk had when it was copied came from the original alone" \
    [ "$(grep -ao 'accepted-[12]-span' "$stage/received" | wc -l)" = 2 ]
