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
    set -- "${TAGALONG_HOME:-/workspace/.tagalong}/bin/tagalong"
    if [ ! -x "$1" ]; then
        set -- "$(command -v tagalong 2>/dev/null || :)"
    fi
    if [ -z "$1" ]; then
        printf 'tagalong: not installed, so nothing was started; gitpod/install.sh belongs into an init task.\n' >&2
        return 0
    fi
    "$1" up </dev/null || {
        printf 'tagalong: not started; "%s doctor" says why.\n' "$1" >&2
        return 0
    }
    # Only what looks like a list of exports is taken in, and nothing if the agent would not say.
    set -- "$("$1" env --shell sh 2>/dev/null </dev/null || :)"
    case $1 in
        'export '*) eval "$1" || : ;;
    esac
    return 0
}

tagalong_start
unset -f tagalong_start
:
