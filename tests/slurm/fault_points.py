"""Die at a chosen moment: what a client does to files and which commands it runs are counted, and SIGKILL comes before one of them.

A point lies before each step that changes something below a folder: to open for writing, to write (and once more with half of it
written), fsync, rename, link, remove, make a folder, touch, lock, unlock; and before a command, when it has just started, and when it has
ended. The last point is after the last step. In a process of one thread the moment after a step is the moment before the next one.
"""

from __future__ import annotations

import builtins
import fcntl
import io
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What differs from run to run in a label: ids of submissions and jobs, process numbers, numbers of Slurm's jobs.
_VARYING = ((re.compile(r"[0-9a-f]{64}"), "JOB"), (re.compile(r"[0-9a-f]{32}"), "ID"), (re.compile(r"(?<![\w-])\d+(?!\w)|\d{2,}"), "N"))
_WRITES = set("wax+")


class Points:
    """Count the points that this process passes; send it a signal at one of them."""

    def __init__(self, folder: Path, *, at: int | None = None, signum: int = signal.SIGKILL) -> None:
        self._folder = f"{folder}{os.sep}"
        self._at = at
        self._signum = signum
        #: What each point is, in order.
        self.labels: list[str] = []

    def install(self) -> None:
        """Put the counting in front of what changes files and of what runs commands; it stays for the life of the process."""
        for module, name in ((os, "rename"), (os, "replace"), (os, "link"), (os, "symlink"), (os, "mkdir"), (os, "unlink"), (os, "remove")):
            self._wrap(module, name, self._of_paths)
        for module, name in ((os, "fsync"), (fcntl, "flock"), (os, "utime"), (os, "open")):
            self._wrap(module, name, self._of_one)
        opened = self._opening(io.open)
        io.open = builtins.open = opened  # type: ignore[assignment]
        self._wrap_commands()

    def reach(self, label: str) -> bool:
        """Count a point, and tell whether it is the last one before the end; the signal has then to be sent by `end`."""
        for pattern, word in _VARYING:
            label = pattern.sub(word, label)
        self.labels.append(label)
        return len(self.labels) == self._at

    def end(self) -> None:
        """Send the signal to this process."""
        os.kill(os.getpid(), self._signum)

    def before(self, label: str) -> None:
        """Count a point, and end there when it is the chosen one."""
        if self.reach(label):
            self.end()

    def _is_ours(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self._folder)

    def _name(self, path: Any) -> str:
        return os.fspath(path).removeprefix(self._folder)

    def _wrap(self, module: Any, name: str, how: Callable[[str, tuple[Any, ...]], str | None]) -> None:
        plain = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            label = how(name, args)
            if label is not None:
                self.before(label)
            return plain(*args, **kwargs)

        setattr(module, name, wrapped)

    def _of_paths(self, name: str, args: tuple[Any, ...]) -> str | None:
        """Name a step on paths; None for one that changes nothing: a folder that is there or has no parent yet, a file that is not."""
        ours = [path for path in args if self._is_ours(path)]
        if not ours:
            return None
        if os.path.lexists(ours[0]) is (name == "mkdir") or not Path(ours[-1]).parent.is_dir():
            return None
        return f"{name} {' -> '.join(map(self._name, ours))}"

    def _of_one(self, name: str, args: tuple[Any, ...]) -> str | None:
        if name == "open":
            return f"open {self._name(args[0])}" if args[1] & (os.O_WRONLY | os.O_RDWR) and self._is_ours(args[0]) else None
        if name == "utime":
            return f"touch {self._name(args[0])}" if self._is_ours(args[0]) else None
        path = str(Path(f"/proc/self/fd/{args[0]}").readlink()) if isinstance(args[0], int) else ""
        if name == "flock":
            name = "unlock" if args[1] == fcntl.LOCK_UN else "lock"
        return f"{name} {self._name(path)}" if self._is_ours(path) else None

    def _opening(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not _WRITES & set(mode) or not self._is_ours(file):
                return plain(file, mode, *args, **kwargs)
            self.before(f"open {self._name(file)}")
            return _Written(plain(file, mode, *args, **kwargs), self._name(file), self)

        return opened

    def _wrap_commands(self) -> None:
        points, start, wait = self, subprocess.Popen.__init__, subprocess.Popen.wait

        def started(process: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
            process.label = Path(args[0]).name
            points.before(f"run {process.label}")
            start(process, args, *rest, **kwargs)
            points.before(f"{process.label} has started")

        def waited(process: Any, timeout: float | None = None) -> int:
            before = process.returncode
            code = wait(process, timeout)
            if before is None and process.label:
                points.before(f"{process.label} has ended")
                process.label = ""
            return code

        subprocess.Popen.__init__ = started  # type: ignore[method-assign]
        subprocess.Popen.wait = waited  # type: ignore[method-assign]


class _Written:
    """A file that is written: its content goes to the system when it is flushed, which is where a kill can tear it."""

    def __init__(self, file: Any, name: str, points: Points) -> None:
        self._file = file
        self._name = name
        self._points = points
        self._held: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, content: Any) -> int:
        self._held.append(bytes(content) if isinstance(content, memoryview) else content)
        return len(content)

    def flush(self) -> None:
        if self._held:
            content = self._held[0][:0].join(self._held)
            self._held.clear()
            self._points.before(f"write {self._name}")
            torn = self._points.reach(f"half of {self._name}")
            self._file.write(content[: len(content) // 2] if torn else content)
            self._file.flush()
            if torn:
                self._points.end()
        self._file.flush()

    def close(self) -> None:
        if not self._file.closed:
            self.flush()
        self._file.close()
