"""Every command that a page shows or names is one that the program takes, with these options, of files that are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrator import reference

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
COMMANDS: dict[str, Any] = {context.command_path: command for context, command in reference.commands()}
#: Where a command ends and another, or a file, begins.
ENDS = {"|", ">", ">>", "&&", ";", "&", "||"}
PROGRAM = "orchestrate"
#: Options that act while they are parsed: on the files of whoever runs the tests.
AT_ONCE = ("--install-completion", "--show-completion")
#: What the parser raises; typer names but one of the tree in public.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the language and the lines of every fenced block, with lines that go on in the next joined."""
    for _, language, body in re.findall(r"(?ms)^( *)```(\w*)\n(.*?)^ *```", text):
        yield language, re.sub(r"\\\n\s*", " ", body).splitlines()


def shown(text: str) -> Iterator[str]:
    """Yield the commands that a page's blocks show: after a prompt, or whole lines of a block of a shell."""
    for language, lines in blocks(text):
        prompted = [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]
        plain = [line.strip() for line in lines if line.strip().startswith(f"{PROGRAM} ")] if language in ("bash", "sh", "") else []
        yield from (line for line in prompted or plain if line.startswith(f"{PROGRAM} ") or line == PROGRAM)


def mentioned(text: str) -> Iterator[str]:
    """Yield the commands that prose and comments name in backticks; those with a gap ('...') name no command in full."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
    for found in re.findall(rf"`+({PROGRAM} [^`]+)`", prose):
        if "..." not in found and "…" not in found:
            yield found


def parse(line: str) -> None:
    """Let the program's own parser read a command. Raises UsageError for what it does not take."""
    words = shlex.split(line, comments=True)
    words = words[: next((at for at, word in enumerate(words) if word in ENDS), len(words))]
    if words[1:] and words[1] in AT_ONCE:
        assert any(words[1] in one.opts for one in COMMANDS[PROGRAM].params)
        return
    depth = max(at for at in range(1, len(words) + 1) if " ".join(words[:at]) in COMMANDS)
    command = COMMANDS[" ".join(words[:depth])]
    if hasattr(command, "commands") and len(words) > depth and not words[depth].startswith("-"):
        raise typer.BadParameter(f"no such command: {words[depth]}")
    with command.make_context(words[depth - 1], list(words[depth:]), resilient_parsing=False) as context:
        assert hasattr(command, "commands") or not context.args
    for word in words:
        if word.startswith(("sweeps/", "cluster_configs/")) and word.endswith(".yaml"):
            assert (ROOT / word).is_file(), word


def wrong_with(line: str, *, may_lack: bool) -> str:
    """Return what the parser says of a command; nothing for one that it takes, or, where that may be, that lacks what it is given."""
    try:
        parse(line)
    except typer.Exit:
        return ""
    except (UsageError, AssertionError, ValueError) as error:
        lacks = type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError") or "requires an argument" in str(error)
        return "" if lacks and may_lack else f"{line}: {error}"
    return ""


def faults(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    # Prose may name a command without what it is given.
    found = [wrong_with(line, may_lack=False) for line in shown(text)] + [wrong_with(line, may_lack=True) for line in mentioned(text)]
    return [one for one in found if one]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_taken(page: Path) -> None:
    assert faults(page) == []


def test_enough_commands_are_seen() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert sum(len(list(shown(text))) for text in texts) > 60
    assert sum(len(list(mentioned(text))) for text in texts) > 60


def test_a_command_that_is_not_taken_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ orchestrate plan sweeps/moco_lr.yaml --cluster x | less\n$ orchestrate plan sweeps/absent.yaml\n"
        "$ orchestrate submit sweeps/moco_lr.yaml --wiat\n$ orchestrate frobnicate\norchestrate is output here\n```\n\n"
        "`orchestrate plan` and `orchestrate logs JOB --flolow` and `orchestrate status ...`\n",
        encoding="utf-8",
    )
    assert [line.split(":")[0] for line in faults(page)] == [
        "orchestrate plan sweeps/absent.yaml",
        "orchestrate submit sweeps/moco_lr.yaml --wiat",
        "orchestrate frobnicate",
        "orchestrate logs JOB --flolow",
    ]
