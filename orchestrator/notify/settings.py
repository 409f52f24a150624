"""Whom a cluster config has told how a sweep goes, and by what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Who is told in one line that a sweep has ended, that something of it failed, or that its budget is used."""

    #: Where the webhook's address is: in an environment variable, or in a file. It is a secret, so that it stands nowhere else.
    webhook_env: str | None = None
    webhook_file: Path | None = None
    #: The field of the JSON that holds the line; `plain` for the line alone.
    webhook_as: str = "text"
    email: tuple[str, ...] = ()
    email_from: str | None = None
    #: `host:port` of a mail server; None is the sendmail of the machine that tells.
    smtp: str | None = None
    on: tuple[str, ...] = ("end", "failure", "budget")
    #: Whether nodes reach the network: then a last job tells when nobody waits.
    nodes: bool = False
