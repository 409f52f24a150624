"""How a line leaves: real servers on loopback take it, and what goes wrong is a sentence that gives nothing away."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orchestrator.notify import channels
from orchestrator.notify.channels import send
from orchestrator.notify.settings import Notify
from tests.orchestrator.notify.sinks import post_office, web

LINE = "moco_lr: 140 of 144 done, 4 failed"


def test_a_webhook_gets_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with web() as kept:
        monkeypatch.setenv("HOOK", f"{kept.address}/services/T0/secret\n")
        for kind, body in (("text", {"text": LINE}), ("content", {"content": LINE}), ("plain", LINE)):
            assert send(Notify(webhook_env="HOOK", webhook_as=kind), LINE) == []
            assert kept.posts.pop() == ("/services/T0/secret", body)


def test_the_address_may_stand_in_a_file(tmp_path: Path) -> None:
    with web() as kept:
        file = tmp_path / "hook"
        file.write_text(f"{kept.address}/x\n")
        assert send(Notify(webhook_file=file), LINE) == []
        assert kept.posts == [("/x", {"text": LINE})]


def test_a_mail_server_gets_a_mail() -> None:
    with post_office() as kept:
        notify = Notify(email=("me@lab.org", "you@lab.org"), email_from="cluster@lab.org", smtp=kept.address)
        assert send(notify, LINE) == []
    (mail,) = kept.mails
    assert (mail["From"], mail["To"], mail["Subject"]) == ("cluster@lab.org", "me@lab.org, you@lab.org", LINE)
    assert mail.get_content().splitlines() == [LINE]
    assert kept.recipients == ["me@lab.org", "you@lab.org"]


def test_sendmail_takes_it_where_no_server_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is a stand-in: a real one would send."""
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat > {tmp_path}/mail\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert send(Notify(email=("me@lab.org",)), LINE) == []
    assert (tmp_path / "words").read_text() == "-t -oi\n"
    assert f"Subject: {LINE}\nTo: me@lab.org\nFrom: me@lab.org\n" in (tmp_path / "mail").read_text()
    program.write_text("#!/bin/sh\necho no route >&2\nexit 75\n")
    assert send(Notify(email=("me@lab.org",)), LINE) == [f"e-mail: {program} ended with 75 (no route)"]


def test_one_channel_does_not_need_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    with post_office() as kept:
        problems = send(Notify(webhook_env="HOOK", email=("me@lab.org",), smtp=kept.address), LINE)
    assert problems == ["webhook: the environment variable HOOK is not set; export it, or name a `webhook_file`"]
    assert len(kept.mails) == 1


def test_what_goes_wrong_is_said_without_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web() as kept:
        kept.code = 403
        secret = "T0/very/secret"
        monkeypatch.setenv("HOOK", f"{kept.address}/{secret}")
        (refused,) = send(Notify(webhook_env="HOOK"), LINE)
        port = kept.address.rpartition(":")[2]
    assert refused == "webhook: 127.0.0.1 answers 403; look at the address and at `webhook_as`"
    (gone,) = send(Notify(webhook_env="HOOK"), LINE)
    assert gone == "webhook: 127.0.0.1 cannot be reached (Connection refused)"
    for content in ("T0/very/secret", "ftp://there/x", "https://there/a b", "https://", ""):
        (tmp_path / "hook").write_text(content)
        (problem,) = send(Notify(webhook_file=tmp_path / "hook"), LINE)
        assert problem == f"webhook: what {tmp_path / 'hook'} holds is no address; it starts with https:// and is one line"
    (absent,) = send(Notify(webhook_file=tmp_path / "none"), LINE)
    assert absent == f"webhook: {tmp_path / 'none'} cannot be read (No such file or directory); write the webhook's address into it"
    assert send(Notify(email=("a@b",), smtp=f"127.0.0.1:{port}"), LINE) == [
        f"e-mail: 127.0.0.1:{port} did not take it (Connection refused)"
    ]
    with post_office(refuses=True) as office:
        (refused,) = send(Notify(email=("a@b",), smtp=office.address), LINE)
    assert refused == f"e-mail: {office.address} did not take it (SMTPRecipientsRefused)"


def test_a_machine_without_sendmail_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(channels, "_SENDMAIL", ())
    (problem,) = send(Notify(email=("me@lab.org",)), LINE)
    assert problem == "e-mail: this machine has no sendmail; name a server, `notify: {smtp: host:25}`, in the cluster config"
