"""PID 1 of a Gitpod Classic workspace, as far as tasks and stops go.

Each task is typed into an interactive shell on a terminal of its own. A headless workspace (a prebuild) appends `exit`
and ends with its terminals. On SIGTERM: SIGTERM to each terminal's shell, then to every other process, and SIGKILL to
what is left when the grace period ends (which an interactive shell uses up: it ignores SIGTERM).

    supervisor.py LOG GRACE_SECONDS UID TASK...
"""

import os
import pty
import select
import signal
import sys
import time

log = open(sys.argv[1], "ab", buffering=0)
grace, uid = float(sys.argv[2]), int(sys.argv[3])
headless = os.environ.get("GITPOD_HEADLESS") == "true"
terminals = {}
stopping = False


def stop(*_):
    global stopping
    stopping = True


def note(text):
    log.write(f"supervisor: {text}\n".encode())


def others():
    """Every process but this one that is still running, with its name."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != 1:
            try:
                with open(f"/proc/{name}/stat") as file:
                    stat = file.read()
            except OSError:
                continue
            if stat.rsplit(")", 1)[1].split()[0] != "Z":
                found[int(name)] = stat.split("(", 1)[1].rsplit(")", 1)[0]
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def tell(pids, which):
    for pid in pids:
        try:
            os.kill(pid, which)
        except ProcessLookupError:
            pass


def listen(seconds):
    ready = select.select(list(terminals), [], [], seconds)[0] if terminals else time.sleep(seconds) or []
    for master in ready:
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""
        if data:
            log.write(data)
        else:
            del terminals[master]


signal.signal(signal.SIGTERM, stop)
for task in sys.argv[4:]:
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(os.environ["GITPOD_REPO_ROOT"])
        if uid:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        os.execv("/bin/bash", ["bash", "--norc", "-i"])
    terminals[master] = pid
    os.write(master, f"{task}{'; exit' if headless else ''}\n".encode())

while not stopping and (terminals or not headless):
    listen(0.1)
    reap()

if stopping:
    deadline = time.monotonic() + grace
    shells = set(terminals.values())
    tell(shells, signal.SIGTERM)
    tell(set(others()) - shells, signal.SIGTERM)
    while others() and time.monotonic() < deadline:
        listen(0.05)
        reap()
    for pid, name in others().items():
        note(f"killed {name}")
        tell([pid], signal.SIGKILL)
note("ended")
