"""A web server and a mail server on loopback that keep what they are sent."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


@dataclass(slots=True)
class Kept:
    """What arrived."""

    address: str = ""
    #: Paths and bodies of posts; a JSON body is read.
    posts: list[tuple[str, Any]] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    #: What is answered.
    code: int = 200


@contextmanager
def web() -> Iterator[Kept]:
    """Serve HTTP."""
    kept = Kept()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.posts.append((self.path, json.loads(body) if "json" in self.headers["Content-Type"] else body.decode()))
            self.send_response(kept.code)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield from _served(server, kept)


@contextmanager
def post_office(*, refuses: bool = False) -> Iterator[Kept]:
    """Serve SMTP, as much of it as a client needs to hand over a mail."""
    kept = Kept()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say(220, "here")
            for line in self.rfile:
                word = line.split(b":")[0].split(b" ")[0].strip().upper()
                if word == b"DATA":
                    self._say(354, "go on")
                    kept.mails.append(self._message())
                elif word == b"RCPT":
                    if refuses:
                        self._say(550, "nobody of that name")
                        continue
                    kept.recipients.append(line.split(b":", 1)[1].strip().strip(b"<>").decode())
                self._say(221 if word == b"QUIT" else 250, "well")
                if word == b"QUIT":
                    return

        def _message(self) -> EmailMessage:
            lines: list[bytes] = []
            for line in self.rfile:
                if line == b".\r\n":
                    break
                lines.append(line)
            return cast(EmailMessage, message_from_bytes(b"".join(lines), policy=policy.default))

        def _say(self, code: int, text: str) -> None:
            self.wfile.write(f"{code} {text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        kept.address = f"127.0.0.1:{server.server_address[1]}"
        yield from _served(server, kept)


def _served(server: socketserver.BaseServer, kept: Kept) -> Iterator[Kept]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
