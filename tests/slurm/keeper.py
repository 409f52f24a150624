"""Run one daemon, and end all that it ever started when this process is told to, or when the one who started it is gone.

Run as `python keeper.py LOG COMMAND...`; standard library only. slurmd detaches what it starts (a job's processes belong to nobody), so
a keeper adopts every orphan below it. It answers with the daemon's pid on standard output, and reads standard input: its end, which also
comes when the starter is killed, means that everything below goes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

#: From linux/prctl.h.
PR_SET_CHILD_SUBREAPER = 36


def processes_below(root: int) -> list[int]:
    """Return the pids of all living descendants of a process (zombies left out)."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name in the parentheses may hold anything, so the fields are counted from the last one.
            state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    wanted = [root]
    while wanted:
        below = children.get(wanted.pop(), [])
        found += below
        wanted += below
    return found


def _reap() -> bool:
    """Collect the children that have ended, and tell whether any is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def main(log: str, *command: str) -> None:
    """Start the command, tell its pid, and wait for the end of standard input."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = threading.Event()
    # A shell starts what it puts in the background with SIGINT ignored, and a job would inherit that through every daemon.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    with open(log, "ab") as output:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    sys.stdout.write(f"{daemon.pid}\n")
    sys.stdout.flush()

    def until_end_of_input() -> None:
        while os.read(0, 4096):
            pass
        told.set()

    threading.Thread(target=until_end_of_input, daemon=True).start()
    while not told.wait(0.2):
        _reap()
    # Every orphan becomes a child of this process in the end, so without a child nothing is left.
    while _reap():
        for pid in processes_below(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
