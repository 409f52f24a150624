"""Arguments that several commands take, what they open, and how they print JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orchestrator.workspace import Workspace

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="A sweep file, such as sweeps/quickstart.yaml.")]
SweepName = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a submitted sweep.")]
MaybeSweep = Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="A sweep file or name; without one, every submitted sweep.")]
JobPrefix = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or its first 6 characters and more.")]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", "-c", envvar="ORCHESTRATE_CLUSTER", help="A cluster config by name or path; without one, `local`."),
]
Sample = Annotated[bool, typer.Option("--sample", help="Small, on made data and stand-in weights: shows that it runs, says nothing.")]
Repeats = Annotated[
    str | None,
    typer.Option("--repeats", help="Add draws: so many of every size, or by size, such as 0.01=8,0.1=10. Draws that are there stay."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def open_workspace(cluster: str | None, *, sample: bool = False) -> Workspace:
    """Open the machine and its run root. Raises ClusterError.

    What plans is imported here and not before, so that `--help`, completion and a mistyped option answer at once.
    """
    from orchestrator.workspace import Workspace

    return Workspace.open(cluster, sample=sample)


def print_json(value: Any) -> None:
    """Print a value as JSON for machines."""
    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
