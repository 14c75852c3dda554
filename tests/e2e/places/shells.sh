# Real shells, those that are here: what `tagalong init shell` writes, as login and as interactive shells read it, with an
# agent that works, hangs, fails or is missing; and completions where install.sh has put them.
# shellcheck shell=bash source=tests/e2e/places/stage.sh
. "$PLACES_SOURCE/tests/e2e/places/stage.sh"

home=/home/dev
keep home/dev
cp "$PLACES_RELEASE/tagalong" "$PLACES_SOURCE/gitpod/install.sh" "$root"
run env -i PATH=/usr/bin:/bin HOME=/root TAGALONG_BINARY=/tagalong sh /install.sh
expect 'it is installed for everybody' [ -x "$root/usr/local/bin/tagalong" ]
contain sh -c 'trap "exit 0" 15; while :; do sleep 1000 & wait $!; done'

# as COMMAND...: somebody whose home it is.
as() {
    inside env -i HOME=$home USER=dev LANG=C.UTF-8 TERM=vt100 PATH=/usr/local/bin:/usr/bin:/bin "$@"
}

# told SHELL ARGUMENT: sets said to the address that the shell's programs get, code to its end, and took to milliseconds.
told() {
    local begun
    begun=$(date +%s%N)
    code=0
    # shellcheck disable=SC2016 # the shell inside is to expand it
    said=$(as "$1" "$2" 'printf %s "$OTEL_EXPORTER_OTLP_ENDPOINT"' 2>/dev/null </dev/null) || code=$?
    took=$((($(date +%s%N) - begun) / 1000000))
}

# Both ways in which a shell may be the first that somebody sees; zsh keeps its lines for interactive ones.
ways=()
for way in 'bash -ic' 'bash -lc' 'zsh -ic' 'zsh -lic' 'fish -ic' 'fish -lc' 'dash -lc' 'sh -lc' 'busybox sh -lc'; do
    read -r shell argument more <<<"$way"
    if [ -n "$more" ] || ! command -v "$shell" >/dev/null; then
        continue
    fi
    as env SHELL="/bin/$shell" tagalong init shell >/dev/null || die "init shell for $shell"
    ways+=("$shell $argument")
    # Before another one's profile is there, which this shell may read too.
    told "$shell" "$argument"
    expect "init shell is all that $way needs" [ "$said" = http://127.0.0.1:4318 ]
done

for state in works hangs fails 'is missing'; do
    want=
    case $state in
    works) want=http://127.0.0.1:4318 ;;
    hangs) kill -STOP "$(agent)" ;;
    fails)
        kill -KILL "$(agent)"
        mv "$root/usr/local/bin/tagalong" "$root/usr/local/bin/tagalong.away"
        printf '#!/bin/sh\nexit 3\n' >"$root/usr/local/bin/tagalong"
        chmod 755 "$root/usr/local/bin/tagalong"
        ;;
    *) rm "$root/usr/local/bin/tagalong" ;;
    esac
    for way in "${ways[@]}"; do
        # shellcheck disable=SC2086 # the shell and how it is called
        told $way
        expect "an agent that $state: $way ends well, in $took ms" [ "$code" = 0 ]
        expect "an agent that $state: $way has its programs report to '$want'" [ "$said" = "$want" ]
        # What is promised is a tenth of a second more than the shell itself needs; this machine may be busy.
        expect "an agent that $state does not hold $way" [ "$took" -lt 1500 ]
    done
done
mv "$root/usr/local/bin/tagalong.away" "$root/usr/local/bin/tagalong"

# A profile that throws away what is said has told nobody.
expect 'the first up that somebody sees says what is recorded' grep -q '^  recorded: ' <<<"$(as tagalong up)"

# completes SHELL ARGUMENT...: an interactive one, in which somebody types half a word.
completes() {
    as python3 /terminal.py 'here> ' $'tagalong complet\t' 'tagalong completions' "$@" >>"$stage/terminal"
}
cp "$PLACES_SOURCE/tests/e2e/places/terminal.py" "$root"
rm -rf "${stage:?}/kept/home/dev/"{.bashrc,.zshrc,.config}
if [ -r /usr/share/bash-completion/bash_completion ]; then
    printf 'PS1="here> "; . /usr/share/bash-completion/bash_completion\n' >"$root$home/.bashrc"
    expect 'bash finds its completions and uses them' completes bash -i
fi
printf 'PS1="here> "; . /usr/local/share/bash-completion/completions/tagalong\n' >"$root$home/.bashrc"
expect 'bash completes without that package too' completes bash -i
if command -v zsh >/dev/null; then
    printf 'PS1="here> "; autoload -Uz compinit && compinit -u\n' >"$root$home/.zshrc"
    expect 'zsh finds its completions and uses them' completes zsh -i
fi
if command -v fish >/dev/null; then
    mkdir -p "$root$home/.config/fish"
    printf 'function fish_prompt; printf "here> "; end; set -g fish_greeting; set -g fish_autosuggestion_enabled 0\n' \
        >"$root$home/.config/fish/config.fish"
    expect 'fish finds its completions and uses them' completes fish -i
fi
