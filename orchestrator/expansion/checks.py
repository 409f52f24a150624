"""What can be wrong with a sweep before any point is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.catalog import Declaration
from orchestrator.expansion.places import fault
from orchestrator.expansion.replicates import LEAVE_PAIR_OUT, has_folds, repeats_of
from orchestrator.expansion.sources import refuse_several
from orchestrator.model import AxisKind, Phase, Sweep

#: More points than this are refused before they fill the memory.
MOST_POINTS = 5_000_000


def check_phases(sweep: Sweep, phases: Sequence[Phase], catalog: Mapping[str, Declaration]) -> None:
    """Refuse what no expansion can make sense of. Raises SweepError with its place."""
    if not phases:
        raise fault(sweep, "phases", "there is nothing to run: name at least one phase")
    for phase in phases:
        path = f"phases.{phase.name}"
        if phase.trainer not in catalog:
            raise fault(sweep, f"{path}.trainer", f"there is no trainer '{phase.trainer}'; there is {', '.join(sorted(catalog))}")
        refuse_several(sweep, phase, catalog)
        if phase.evaluate and phase.pick is None:
            message = "evaluates without a pick: add `pick: {metric: val/...}`, which chooses the checkpoint that is scored"
            raise fault(sweep, f"{path}.evaluate", message)
        if has_folds(phase) and len(phase.sources) > 1:
            raise fault(sweep, f"{path}.draws.scheme", f"folds need one card, and '{phase.name}' has {len(phase.sources)} sources")
        draws, pick = phase.draws, phase.pick
        if draws is not None and draws.scheme == LEAVE_PAIR_OUT and pick is not None and pick.metric is not None:
            raise fault(sweep, f"{path}.pick.metric", "leave_pair_out has no validation split to pick on: use `pick: {rule: last}`")
    points = sum(upper_bounds(sweep, phases).values())
    if points > MOST_POINTS:
        raise fault(sweep, "phases", f"expands to about {points:,} points, and {MOST_POINTS:,} are the most: use shorter axes")


def upper_bounds(sweep: Sweep, phases: Sequence[Phase]) -> dict[str, int]:
    """Return, for each phase, how many points it has at most, without making any. Folds that depend on data count as one."""
    found: dict[str, int] = {}
    decided: dict[str, int] = {}
    for phase in phases:
        own = 1
        for axis in phase.axes:
            own *= len(axis.points)
        if phase.search is not None:
            own *= phase.search.samples
        for axis in sweep.compare:
            own *= len(axis.points) if not any(parents.roles for parents in phase.after) else 1
        total = 0
        for parents in phase.after:
            before = 1
            for name in dict.fromkeys(parents.roles.values()):
                before = max(before, decided[name])
            total += before * own
        total *= _replicates(phase)
        found[phase.name] = total
        tune = 1
        for axis in phase.axes:
            tune *= len(axis.points) if axis.kind is AxisKind.TUNE else 1
        decided[phase.name] = total if phase.pick is None else max(1, total // tune)
    return found


def _replicates(phase: Phase) -> int:
    seeds = phase.seeds or 1
    if phase.draws is None or has_folds(phase):
        return seeds
    return seeds * sum(repeats_of(phase.draws))
