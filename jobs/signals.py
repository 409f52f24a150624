"""Signals that ask a job to save and stop. A handler only sets a flag; the loop saves at its next step.

A handler runs between two bytecodes of whatever was going on, half a step included: what it saved would be no state of the job.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

#: The exit code of a job that was asked to stop, saved, and can be resumed. Not one of the shell's (126 and up) and not of `jobs.main`.
EXIT_STOPPED = 85

#: What asks for it: schedulers send TERM (cancel, time limit), USR2 or USR1 (a lead before the limit), a person INT.
STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class Flag:
    """Tells whether a stop was asked for, and by which signal first."""

    __slots__ = ("signal",)

    def __init__(self) -> None:
        self.signal: int | None = None

    def set(self, signum: int) -> None:
        """Remember the first signal that asked."""
        if self.signal is None:
            self.signal = signum

    def is_set(self) -> bool:
        """Tell whether a stop was asked for."""
        return self.signal is not None


#: Who in this very process wants to hear of a signal, whatever job it comes to.
_listeners: list[Callable[[int], None]] = []


@contextlib.contextmanager
def listening(listener: Callable[[int], None]) -> Iterator[None]:
    """Call a function with every stopping signal that comes while a job in this process watches for it.

    Whoever runs jobs one after the other in its own process needs it: a job that ends before it looks at its flag says nothing of it.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextlib.contextmanager
def watch_signals() -> Iterator[Flag]:
    """Set the flag that is given on a stopping signal, and put the old handlers back at the end.

    A second INT raises KeyboardInterrupt, for the person who does not want to wait. Outside the main thread, where Python allows no
    handlers, the flag is given and never set by a signal.
    """
    flag = Flag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    interrupted = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        del frame
        if signum == signal.SIGINT:
            if interrupted:
                raise KeyboardInterrupt
            interrupted = True
        flag.set(signum)
        for listener in _listeners:
            listener(signum)

    before = {signum: signal.getsignal(signum) for signum in STOPPING}
    for signum in STOPPING:
        signal.signal(signum, handle)
    try:
        yield flag
    finally:
        for signum, handler in before.items():
            # None: it was not installed from Python, and cannot be put back from it.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
