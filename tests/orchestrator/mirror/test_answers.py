"""Servers that are away, that are wedged, and what the environment says of waiting for them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.errors import TrackingError
from orchestrator.mirror.answers import ANSWER_SECONDS, PATIENCE, RETRIES, TRIES, done_or_found_out, reach
from orchestrator.model import Plan


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket that nobody answers at, and its address."""
    monkeypatch.setenv(RETRIES, "0")
    monkeypatch.setenv(ANSWER_SECONDS, "1")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        yield found, f"http://127.0.0.1:{found.getsockname()[1]}"


def test_a_machine_that_does_not_say_that_it_is_there_is_away(listening: tuple[socket.socket, str]) -> None:
    """A full queue of connections drops further ones without a word, as a firewall does."""
    found, address = listening
    found.listen(0)
    waiting: list[socket.socket] = []
    try:
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(found.getsockname())
        with pytest.raises(OSError, match="no connection within 1 s"):
            reach(address)
    finally:
        for one in waiting:
            one.close()


def test_a_server_that_takes_connections_and_answers_nothing_says_how_to_wait_longer(
    plan: Plan, run: RunPaths, listening: tuple[socket.socket, str]
) -> None:
    found, address = listening
    found.listen()
    with pytest.raises(
        TrackingError, match=rf"{address} cannot be used \(no answer within 1 s; set {ANSWER_SECONDS} to wait longer\); start it"
    ):
        tracking.sync(plan, run, uri=address)


def test_a_server_that_is_not_there_is_said_in_few_words(listening: tuple[socket.socket, str]) -> None:
    with pytest.raises(OSError, match=r"^Failed to establish a new connection: .*refused$"):
        reach(listening[1])


@pytest.mark.parametrize(("name", "said"), [(RETRIES, "many"), (RETRIES, "-1"), (ANSWER_SECONDS, "0"), (ANSWER_SECONDS, "1.5")])
def test_what_is_no_number_is_said(plan: Plan, run: RunPaths, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.setenv(name, said)
    with pytest.raises(TrackingError, match=f"the environment variable {name} is '{said}', .*; unset it, or set {PATIENCE[name]}"):
        tracking.sync(plan, run, uri="http://127.0.0.1:9")


def test_what_is_refused_for_good_is_raised() -> None:
    calls: list[str] = []

    def act() -> None:
        calls.append("act")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        done_or_found_out(act, lambda: calls.append("look"), (ValueError,))
    assert calls == ["act", *["look", "act"] * (TRIES - 1)]
