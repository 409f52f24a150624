"""The man page, written from the commands: `python -m orchestrator.man_page > docs/orchestrate.1`. Wheels install it as orchestrate(1)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from orchestrator import __version__, exit_codes
from orchestrator.reference import PROGRAM, commands, split_help

_INTRODUCTION = (
    "A sweep is a YAML file that asks a question. It expands into jobs, which run on this machine, under Ray or on Slurm; MLflow mirrors"
    " them, and a report with confidence intervals answers. Every command can be typed again: what is done is not done again."
)
_ENVIRONMENT = (
    ("ORCHESTRATE_CLUSTER", "The cluster config, where --cluster is not given."),
    ("NO_COLOR", "When set, output has no colours."),
)
_FILES = (
    ("cluster_configs/NAME.yaml", "A machine: what runs the jobs, and where data and runs lie. `orchestrate init NAME` writes one."),
    ("RUN_ROOT", "Where runs lie, by the cluster config. What is there is the truth; everything else is made from it."),
)
_EXAMPLES = (
    ("See what a study would be, and run it", ("orchestrate plan sweeps/quickstart.yaml", "orchestrate submit sweeps/quickstart.yaml")),
    ("Look where it stands, and read the report", ("orchestrate status quickstart", "orchestrate report quickstart")),
    ("The same on Slurm, and log out", ("orchestrate submit sweeps/moco_lr.yaml --cluster slurm",)),
)


def page() -> str:
    """Return the man page in the macros of man(7). It has no date: the same program is the same page."""
    lines = [f'.TH ORCHESTRATE 1 "" "cxr\\-orchestrator {__version__}" "User Commands"', ".nh", ".ad l"]
    (root, command), *below = commands()
    about, _ = split_help(command.help)
    lines += [".SH NAME", f"{PROGRAM} \\- {escaped(about[0].lower() + about[1:].rstrip('.'))}"]
    lines += [".SH SYNOPSIS", f".B {PROGRAM}", ".I COMMAND", "[OPTIONS] [ARGUMENTS]"]
    lines += [".SH DESCRIPTION", escaped(_INTRODUCTION), ".SH OPTIONS", *_options(root, command), ".SH COMMANDS"]
    for context, one in below:
        lines += _command(context, one)
    lines += [".SH EXIT STATUS", *_list((str(code), words) for code, words in exit_codes.MEANINGS.items())]
    lines += [".SH ENVIRONMENT", *_list(_ENVIRONMENT), ".SH FILES", *_list(_FILES), ".SH EXAMPLES"]
    for title, typed in _EXAMPLES:
        lines += [".PP", f"{escaped(title)}:", ".PP", ".nf", ".RS", *map(escaped, typed), ".RE", ".fi"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return a text that roff prints as it stands: no line of it is a macro, and hyphens can be copied."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def _command(context: Any, command: Any) -> Iterator[str]:
    words = context.command_path.removeprefix(f"{PROGRAM} ")
    about, example = split_help(command.help or "")
    yield from (f".SS {escaped(words)}", f".B {escaped(context.command_path)}")
    yield from (escaped(piece) for piece in command.collect_usage_pieces(context))
    yield from (".PP", escaped(about))
    yield from _options(context, command)
    if example:
        yield from (".PP", "Example:", ".PP", ".nf", ".RS", escaped(example), ".RE", ".fi")


def _options(context: Any, command: Any) -> list[str]:
    records = [record for one in command.get_params(context) if "--help" not in one.opts and (record := one.get_help_record(context))]
    return _list(records)


def _list(items: Any) -> list[str]:
    return [line for term, words in items for line in (".TP", f"\\fB{escaped(term)}\\fR", escaped(" ".join(words.split())))]


if __name__ == "__main__":
    sys.stdout.write(page())
