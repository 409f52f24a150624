"""A connection between two processes of a job, over which words, one JSON object a line, go both ways."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

from jobs.spec import Json


class Line:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        # A machine that went down says nothing: ask after half a minute of silence, and take three missing answers for its end.
        for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.own_address = str(connection.getsockname()[0])
        self._incoming = connection.makefile("rb")
        self._writing = threading.Lock()

    def say(self, word: dict[str, Json]) -> None:
        """Send a word; nothing happens when nobody is there any more, of which the reader hears."""
        with contextlib.suppress(OSError), self._writing:
            self._connection.sendall(json.dumps(word).encode() + b"\n")

    def words(self) -> Iterator[dict[str, Json]]:
        """Give the words that come, until the other side is gone."""
        with contextlib.suppress(OSError, ValueError):
            for line in self._incoming:
                word = json.loads(line)
                if isinstance(word, dict):
                    yield word

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
