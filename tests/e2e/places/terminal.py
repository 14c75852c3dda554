"""A terminal with somebody at it: types a text into a program once that shows its prompt, and waits until it shows another.

    terminal.py PROMPT TEXT WANTED PROGRAM ARGUMENT...

It ends with 0 as soon as WANTED is on the screen, and with 1 after half a minute without.
"""

import os
import pty
import re
import select
import sys
import time

prompt, text, wanted, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)

def bare(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\s", "", text)


screen, typed, until = "", False, time.monotonic() + 30
while time.monotonic() < until:
    ready, _, _ = select.select([terminal], [], [], 0.1)
    if ready:
        try:
            part = os.read(terminal, 4096).decode(errors="replace")
        except OSError:
            break
        # What fish asks of a terminal at its start, answered as one of the oldest kind does.
        if "\x1b[c" in part or "\x1b[0c" in part:
            os.write(terminal, b"\x1b[?1;2c")
        screen += part
    # Without colours, moves and blanks: some shells write a line anew with each key.
    if typed and bare(wanted) in bare(screen[typed:]):
        sys.exit(0)
    if not typed and prompt in screen:
        typed = len(screen)
        os.write(terminal, text.encode())
sys.stdout.write(screen)
sys.exit(1)
