#!/bin/sh
# Starts the agent for this workspace, if it is installed and not running yet. For a `command` task.
# The agent detaches itself, so this returns at once. It always ends with 0: the workspace comes first.
#
#   TAGALONG_HOME  where install.sh has put it, in place of /workspace/.tagalong
#
# Run it as a program, or take it into the shell with `.`, which also sets OTEL_* there for what the shell starts:
#   . gitpod/start.sh
# It therefore sets no shell option, defines one function, and never calls `exit`.

tagalong_start() {
    # A prebuild runs as nobody's workspace: no agent, no token, no file.
    [ "${GITPOD_HEADLESS:-}" != true ] || return 0
    case ${TAGALONG_DISABLED:-} in 1 | [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn]) return 0 ;; esac
    set -- "${TAGALONG_HOME:-/workspace/.tagalong}/bin/tagalong" "${HOME:-}/.local/bin/tagalong"
    if [ ! -x "$1" ]; then
        set -- "$(command -v tagalong 2>/dev/null || printf '%s' "$2")"
    fi
    if [ ! -x "$1" ]; then
        printf 'tagalong: not installed, so nothing was started; gitpod/install.sh belongs into an init task.\n' >&2
        return 0
    fi
    # What it says to people comes on standard error then.
    set -- "$("$1" up --env sh </dev/null || printf failed)" "$1" \
        "${XDG_DATA_HOME:-${HOME:-}/.local/share}/bash-completion/completions"
    # Only what looks like a list of exports is taken in, and nothing if the agent would not say.
    case $1 in
        'export '*) eval "$1" || : ;;
        *failed)
            printf 'tagalong: not started; "%s doctor" says why.\n' "$2" >&2
            return 0
            ;;
        *) return 0 ;;
    esac
    # The home is a new one at each start, and bash looks for completions in it. They get their name last: half of them
    # are none.
    case $3 in /.local/*) return 0 ;; esac
    if [ ! -e "$3/tagalong" ] && mkdir -p "$3" 2>/dev/null; then
        { "$2" completions bash >"$3/.tagalong" </dev/null && mv "$3/.tagalong" "$3/tagalong"; } 2>/dev/null || :
    fi
    return 0
}

tagalong_start
unset -f tagalong_start
:
