"""How a line leaves this machine: a webhook, or e-mail. What goes wrong comes back as a sentence without the address's secret part."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from http.client import HTTPException
from urllib.parse import urlsplit

from orchestrator.notify.settings import Notify

#: Seconds that nobody waits longer for: what is told is not worth more.
PATIENCE = 15.0
_SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
_SECURE = "starttls"


class NotTold(Exception):
    """A line did not get out; says why, without what is secret."""


def send(notify: Notify, line: str) -> list[str]:
    """Send a line by every channel that is named. Returns a sentence for each that failed; raises nothing."""
    problems: list[str] = []
    for channel in channels(notify):
        try:
            channel(notify, line)
        except NotTold as error:
            problems.append(str(error))
    return problems


def channels(notify: Notify) -> list[Callable[[Notify, str], None]]:
    """Return the ways by which somebody is told."""
    found: list[Callable[[Notify, str], None]] = []
    if notify.webhook_env or notify.webhook_file:
        found.append(post)
    if notify.email:
        found.append(mail)
    return found


# --- webhook -----------------------------------------------------------------------------------------------------------------------------


def webhook_url(notify: Notify) -> str:
    """Return the address of the webhook, from the variable or the file that is named. Raises NotTold with what to do."""
    if notify.webhook_env:
        url = os.environ.get(notify.webhook_env, "").strip()
        if not url:
            raise NotTold(f"webhook: the environment variable {notify.webhook_env} is not set; export it, or name a `webhook_file`")
        where = f"the environment variable {notify.webhook_env}"
    else:
        assert notify.webhook_file is not None
        try:
            url = notify.webhook_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotTold(
                f"webhook: {notify.webhook_file} cannot be read ({_reason(error)}); write the webhook's address into it"
            ) from None
        where = str(notify.webhook_file)
    if not url.startswith(("https://", "http://")) or not urlsplit(url).hostname or any(letter.isspace() for letter in url):
        raise NotTold(f"webhook: what {where} holds is no address; it starts with https:// and is one line")
    return url


def post(notify: Notify, line: str) -> None:
    """Post a line to the webhook. Raises NotTold."""
    url = webhook_url(notify)
    body, kind = (
        (line.encode(), "text/plain; charset=utf-8")
        if notify.webhook_as == "plain"
        else (json.dumps({notify.webhook_as: line}).encode(), "application/json")
    )
    headers = {"Content-Type": kind, "User-Agent": "cxr-orchestrator"}
    # Of the address only the machine is ever shown: the rest is what lets anybody post there.
    place = urlsplit(url).hostname
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=PATIENCE):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise NotTold(f"webhook: {place} answers {error.code}; look at the address and at `webhook_as`") from None
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        raise NotTold(f"webhook: {place} cannot be reached ({_reason(error)})") from None


# --- e-mail ------------------------------------------------------------------------------------------------------------------------------


def mail(notify: Notify, line: str) -> None:
    """Send a line by e-mail, by the server that is named or by this machine's sendmail. Raises NotTold."""
    message = EmailMessage()
    message["Subject"] = line.splitlines()[0][:200]
    message["To"] = ", ".join(notify.email)
    message["From"] = notify.email_from or notify.email[0]
    message.set_content(line + "\n")
    if notify.smtp:
        _by_server(notify.smtp, message)
    else:
        _by_sendmail(message)


def _by_server(server: str, message: EmailMessage) -> None:
    host, _, port = server.partition(":")
    try:
        with smtplib.SMTP(host, int(port or 25), timeout=PATIENCE) as connection:
            connection.ehlo_or_helo_if_needed()
            if connection.has_extn(_SECURE):
                connection.starttls()
            connection.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        raise NotTold(f"e-mail: {server} did not take it ({_reason(error)})") from None


def _by_sendmail(message: EmailMessage) -> None:
    program = shutil.which("sendmail") or next((path for path in _SENDMAIL if os.access(path, os.X_OK)), None)
    if program is None:
        raise NotTold("e-mail: this machine has no sendmail; name a server, `notify: {smtp: host:25}`, in the cluster config")
    try:
        done = subprocess.run([program, "-t", "-oi"], input=message.as_bytes(), capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotTold(f"e-mail: {program} did not take it ({_reason(error)})") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NotTold(f"e-mail: {program} ended with {done.returncode}" + (f" ({said[-1][:200]})" if said else ""))


def _reason(error: BaseException) -> str:
    """Return what an error says, in short and without an address."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, smtplib.SMTPResponseException):
        return str(error.smtp_code)
    return type(error).__name__
