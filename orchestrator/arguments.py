"""Arguments that several commands take, and how they print JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="A sweep file, such as sweeps/quickstart.yaml.")]
SweepName = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a submitted sweep.")]
MaybeSweep = Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="A sweep file or name; without one, every submitted sweep.")]
JobPrefix = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or its first 6 characters and more.")]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", "-c", envvar="ORCHESTRATE_CLUSTER", help="A cluster config by name or path; without one, `local`."),
]
Sample = Annotated[bool, typer.Option("--sample", help="Small, on made data and stand-in weights: shows that it runs, says nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def print_json(value: Any) -> None:
    """Print a value as JSON for machines."""
    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
