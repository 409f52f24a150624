"""Functions called in forked children, so that each has a client of its own, and may die."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Child:
    """A function in a process of its own; what it returns or raises comes back in a file."""

    def __init__(self, function: Callable[[], Any], file: Path) -> None:
        self._file = file
        self._process = multiprocessing.get_context("fork").Process(target=_answer, args=(function, file))
        self._process.start()

    def wait(self) -> int:
        """Wait for its end and return its exit code; negative when a signal ended it."""
        self._process.join()
        return self._process.exitcode or 0

    def result(self) -> Any:
        """Return what the function returned. Raises AssertionError with its traceback when it did not."""
        code = self.wait()
        found = pickle.loads(self._file.read_bytes()) if self._file.exists() else (False, f"ended with {code}")
        assert found[0], found[1]
        return found[1]


def _answer(function: Callable[[], Any], file: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        found = (True, function())
    except BaseException:
        found = (False, traceback.format_exc())
    file.write_bytes(pickle.dumps(found))
    os._exit(0 if found[0] else 1)


def in_child(function: Callable[[], Any], folder: Path) -> Any:
    """Call a function in a child and return what it returns."""
    return at_once([function], folder)[0]


def at_once(functions: Sequence[Callable[[], Any]], folder: Path) -> list[Any]:
    """Call functions in as many children, all of which wait until the last is there, and return what each returns."""
    folder.mkdir(parents=True, exist_ok=True)
    barrier = multiprocessing.get_context("fork").Barrier(len(functions))

    def started(function: Callable[[], Any]) -> Callable[[], Any]:
        def wait_and_call() -> Any:
            barrier.wait()
            return function()

        return wait_and_call

    for old in folder.glob("*.answer"):
        old.unlink()
    children = [Child(started(function), folder / f"{number}.answer") for number, function in enumerate(functions)]
    return [child.result() for child in children]
