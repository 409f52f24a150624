"""Completion in three shells, and the man page: current, free of what roff would take for its own, and installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import man_page, reference

ROOT = Path(__file__).parents[1]
MAN = ROOT / "docs" / "orchestrate.1"
BIN = Path(sys.executable).parent
NAMES = {context.command_path.split()[1] for context, _ in reference.commands() if len(context.command_path.split()) > 1}
#: What each shell hands over of a line, and what it is told of each way to go on: a name, with words about it or without.
SHELLS = {
    "bash": lambda line: {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)},
    "zsh": lambda line: {"_TYPER_COMPLETE_ARGS": line},
    "fish": lambda line: {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


def offered(shell: str, line: str) -> set[str]:
    """Return what a shell is offered to go on with after a line."""
    environment = {**os.environ, "_ORCHESTRATE_COMPLETE": f"complete_{shell}", **SHELLS[shell](line)}
    done = subprocess.run([BIN / "orchestrate"], env=environment, capture_output=True, text=True, check=True)
    if shell == "zsh":
        return set(re.findall(r'"([^":]+)":"', done.stdout))
    return {found.split("\t")[0] for found in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_offered_commands_and_options(shell: str) -> None:
    assert offered(shell, "orchestrate ") == NAMES
    assert offered(shell, "orchestrate submit --sam") == {"--sample"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_the_script(shell: str) -> None:
    environment = {**os.environ, "_ORCHESTRATE_COMPLETE": f"source_{shell}"}
    script = subprocess.run([BIN / "orchestrate"], env=environment, capture_output=True, text=True, check=True).stdout
    assert f"complete_{shell}" in script and "orchestrate" in script
    if shell == "bash":
        asks = "COMP_WORDS=(orchestrate exp); COMP_CWORD=1; _orchestrate_completion orchestrate; echo ${COMPREPLY[@]}"
        path = f"{BIN}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{asks}"], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "explain"
    elif shutil.which(shell):
        subprocess.run([shell, "-n", "-c", script] if shell == "zsh" else [shell, "-n"], input=script, text=True, check=True)


def test_the_man_page_is_current() -> None:
    assert MAN.read_text(encoding="utf-8") == man_page.page(), "type: make docs"


def test_the_man_page_tells_every_command_and_option() -> None:
    text = re.sub(r"\\&|\\f.", "", MAN.read_text(encoding="utf-8")).replace("\\-", "-")
    parts = dict(re.findall(r"(?ms)^\.SS (.+?)\n(.*?)(?=^\.S[SH] |\Z)", text))
    for context, command in list(reference.commands())[1:]:
        part = parts[context.command_path.removeprefix("orchestrate ")]
        about, example = reference.split_help(command.help)
        assert about.replace("`", "\\(ga") in part and example in part
        assert all(one.opts[0] in part or one.metavar in part for one in command.params if "--help" not in one.opts)
    assert {line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))} <= {
        ".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".I", ".nf", ".fi", ".RS", ".RE", ".nh", ".ad",
    }  # fmt: skip


def test_a_text_is_printed_as_it_stands() -> None:
    assert man_page.escaped(".TH is no macro") == "\\&.TH is no macro"
    assert man_page.escaped("'quoted' \\n --json `x` ~") == "\\&'quoted' \\en \\-\\-json \\(gax\\(ga \\(ti"


def test_it_is_installed_where_man_looks() -> None:
    installed = BIN.parent / "share" / "man" / "man1" / "orchestrate.1"
    assert installed.is_file()
    if shutil.which("man") is None:
        return
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}
    found = subprocess.run(["man", "-w", "orchestrate"], env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found) == installed
    done = subprocess.run(["man", "-P", "cat", "-l", str(MAN)], env=environment, capture_output=True, text=True, check=True)
    assert "orchestrate submit [OPTIONS]" in done.stdout and "--dry-run" in done.stdout
